import { runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { FeedObject } from "../../src/feed/feed-object.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import type { Run } from "../../src/protocol/run.ts";
import { submit } from "../../src/run/run-client.ts";
import { RunObject } from "../../src/run/run-object.ts";
import { eventually, listed, note, objectOf } from "../run/support/test-run.ts";
import {
  disturb,
  feedOf,
  followersOf,
  newPath,
  recordsOf,
  Subject,
  untilFollowers,
} from "./support/scenario.ts";
import { fetchWorker, SseReader } from "./support/sse-reader.ts";

vi.setConfig({ testTimeout: 60_000 });

const readers: SseReader[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  await Promise.all(readers.splice(0).map((reader) => reader.stop()));
});

const NOTE = { do: "note", length: 1 } as const;
const pathOf = (workspace: string, more = "") =>
  `/v1/events/stream?workspace=${encodeURIComponent(workspace)}${more}`;

function open(workspace: string, lastId: string | null = null): SseReader {
  const reader = new SseReader({
    ask: (state) => ({ path: pathOf(workspace), headers: { "last-event-id": state.lastId ?? lastId ?? "" } }),
  });
  readers.push(reader);
  return reader;
}

/** The seqs of the run's events that a reader has. */
const seqsOf = (reader: SseReader, run: Subject): number[] =>
  recordsOf(reader.content, run.id, "context_run_event").map(({ seq }) => seq);

const untilSeqs = (reader: SseReader, run: Subject, count: number): Promise<void> =>
  reader.until(() => seqsOf(reader, run).length >= count);

/** Waits until the directory has followed the run, and makes its row ten minutes older. */
async function agedRow(run: Subject): Promise<void> {
  const lastSeq = await run.lastSeq();
  await eventually(
    () => listed(objectOf(run.id)),
    (row) => row?.last_event_seq === lastSeq,
    20_000,
  );
  await env.DIRECTORY.prepare("UPDATE runs SET updated_at_ms = updated_at_ms - 600000 WHERE run_id = ?")
    .bind(run.id)
    .run();
}

/** Stops a reader, and waits until the feed has nobody left. */
async function left(reader: SseReader, workspace: string): Promise<void> {
  await reader.stop();
  await untilFollowers(() => feedOf(LOCAL_TENANT, workspace), 0);
}

describe("a run that commits just before its feed is followed, and that the directory thinks idle", () => {
  it.each(["a first reader", "one that comes back"])(
    "%s has that commit, and those that follow",
    async (who) => {
      const workspace = newPath();
      const run = await Subject.create(LOCAL_TENANT, workspace);
      await run.commit(NOTE);
      let lastId: string | null = null;
      if (who === "one that comes back") {
        const before = open(workspace);
        await untilSeqs(before, run, 1);
        await left(before, workspace);
        lastId = before.lastId;
      }
      await agedRow(run);
      await disturb(run.stub, "sleep");
      await run.commit(NOTE);
      const reader = open(workspace, lastId);
      await untilSeqs(reader, run, lastId === null ? 2 : 1);
      await run.commit(NOTE);
      await untilSeqs(reader, run, lastId === null ? 3 : 2);
      expect(seqsOf(reader, run)).toEqual(lastId === null ? [1, 2, 3] : [2, 3]);
    },
  );
});

describe("a run that moves into another workspace", () => {
  it("leaves the old one's readers with all that it committed there, in the same group too", async () => {
    const [from, to] = [newPath(), newPath()];
    const run = await Subject.create(LOCAL_TENANT, from);
    await run.commit(NOTE);
    const [old, next] = [open(from), open(to)];
    await untilSeqs(old, run, 1);
    await next.until(({ frames }) => frames.length > 0);
    const whole = await run.client.readRun();
    if (!whole.ok) throw new Error("the run is there");
    const moved = JSON.parse(await new Response(whole.value.text).text()) as Run;
    moved.workspace.canonical_path = to;
    await runInDurableObject(run.stub, (object: RunObject) =>
      Promise.all([
        submit(object, { command: note("a") }),
        submit(object, { command: note("b") }),
        submit(object, { command: { op: "replace_run", run: moved } }),
      ]),
    );
    await untilSeqs(old, run, 3);
    await untilSeqs(next, run, 1);
    expect([seqsOf(old, run), seqsOf(next, run)]).toEqual([[1, 2, 3], [4]]);
  });

  it("so it does when the push that was owed had failed", async () => {
    const [from, to] = [newPath(), newPath()];
    const run = await Subject.create(LOCAL_TENANT, from);
    const old = open(from);
    await old.until(({ frames }) => frames.length > 0);
    await run.commit(NOTE);
    await untilSeqs(old, run, 1);
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const push = FeedObject.prototype.push;
    let failures = 2;
    vi.spyOn(FeedObject.prototype, "push").mockImplementation(async function (this: FeedObject, packed) {
      failures -= 1;
      if (failures >= 0) throw new Error("away");
      return push.call(this, packed);
    });
    await run.commit(NOTE);
    await run.moveTo(to);
    await untilSeqs(old, run, 2);
    expect(seqsOf(old, run)).toEqual([1, 2]);
  });
});

describe("an object that fails once what it is asked", () => {
  it("during the roll call: its run is heard all the same", async () => {
    const workspace = newPath();
    const run = await Subject.create(LOCAL_TENANT, workspace);
    await run.commit(NOTE);
    const before = open(workspace);
    await untilSeqs(before, run, 1);
    await left(before, workspace);
    await run.commit(NOTE);
    await disturb(feedOf(LOCAL_TENANT, workspace), "sleep");
    vi.spyOn(RunObject.prototype, "resumeFeeds").mockRejectedValueOnce(new Error("away"));
    const reader = open(workspace, before.lastId);
    await untilSeqs(reader, run, 1);
    await run.commit(NOTE);
    await untilSeqs(reader, run, 2);
    expect(seqsOf(reader, run)).toEqual([2, 3]);
  });

  it.each(["fetch", "headsAt", "enroll"] as const)("when a stream of many is opened: %s", async (method) => {
    const workspace = newPath();
    const run = await Subject.create(LOCAL_TENANT, workspace);
    vi.spyOn(FeedObject.prototype, method).mockRejectedValueOnce(new Error("away"));
    const response = await fetchWorker(pathOf(workspace, `&run_ids=${run.id}`));
    expect(response.status).toBe(200);
    await response.body?.cancel();
  });

  it("when a stream of one is opened", async () => {
    const run = await Subject.create(LOCAL_TENANT);
    vi.spyOn(RunObject.prototype, "fetch").mockRejectedValueOnce(new Error("away"));
    const response = await fetchWorker(`/v1/runs/${run.id}/events/stream`);
    expect(response.status).toBe(200);
    await response.body?.cancel();
  });

  it("when the directory cannot be asked, no follower is left behind", async () => {
    const workspace = newPath();
    await Subject.create(LOCAL_TENANT, workspace);
    const feed = feedOf(LOCAL_TENANT, workspace);
    vi.spyOn(env.DIRECTORY, "prepare").mockImplementationOnce(() => {
      throw new Error("away");
    });
    await expect(
      feed.fetch("https://object/follow", { headers: { upgrade: "websocket" } }),
    ).rejects.toThrow();
    expect(await followersOf(feed)).toBe(0);
  });
});
