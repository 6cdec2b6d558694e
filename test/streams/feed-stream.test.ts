import { runInDurableObject } from "cloudflare:test";
import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { FeedObject } from "../../src/feed/feed-object.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import { RunObject } from "../../src/run/run-object.ts";
import {
  anyCuts,
  anyFeedStep,
  askContext,
  askNative,
  type FeedStep,
  FeedWorld,
} from "./support/feed-world.ts";
import {
  anyWork,
  disturb,
  feedOf,
  fetchAs,
  followersOf,
  newPath,
  newTenant,
  recordsIn,
  recordsOf,
  Subject,
  untilFollowers,
  type Work,
} from "./support/scenario.ts";
import { SseReader } from "./support/sse-reader.ts";

// Streams wait for each other more than they compute: a busy machine takes its time.
vi.setConfig({ testTimeout: 30_000 });

/** A property starts many streams, and waits for each. */
const TIMEOUT_MS = 120_000;

interface History {
  before: Work[];
  readerCuts: number[][];
  steps: FeedStep[];
  /** Whether commits are not waited for, so that they meet the next step. */
  isHasty: boolean;
}

const anyHistory: fc.Arbitrary<History> = fc.record({
  before: fc.array(anyWork, { maxLength: 5 }),
  readerCuts: fc.array(anyCuts, { minLength: 3, maxLength: 4 }),
  steps: fc.array(anyFeedStep, { minLength: 5, maxLength: 18 }),
  isHasty: fc.boolean(),
});

async function play(world: FeedWorld, history: History, open: (world: FeedWorld) => void): Promise<void> {
  const { before, steps, isHasty } = history;
  await world.create();
  await world.create();
  for (const [run, work] of before.entries()) await world.take({ do: "commit", run, work });
  open(world);
  try {
    await Promise.all(world.readers.map(({ reader }) => reader.until(({ frames }) => frames.length > 0)));
    let committing: Promise<unknown> = Promise.resolve();
    for (const step of steps) {
      if (step.do === "commit") {
        committing = Promise.all([committing, world.take(step)]);
        if (!isHasty) await committing;
        continue;
      }
      if (step.do === "settle" || step.do === "move") await committing;
      await world.take(step);
    }
    await committing;
    await world.settle();
  } finally {
    await world.stop();
  }
}

describe("a stream of many runs", () => {
  it(
    "of a workspace: each run in order and once, over cuts, moves, evictions and aborts",
    async () => {
      await fc.assert(
        fc.asyncProperty(anyHistory, async (history) => {
          const paths = [newPath(), newPath()] as const;
          const world = new FeedWorld(LOCAL_TENANT, paths, paths[0]);
          await play(world, history, () => {
            const query = `?workspace=${encodeURIComponent(paths[0])}`;
            const first = world.members.slice(0, 1).map(({ subject }) => subject.id);
            const [native = [], context = [], named = [], still = []] = history.readerCuts;
            world.open("/v1", native, askNative(query));
            world.open("/context", context, askContext(query));
            world.open("/v1 of one run", named, askNative(`${query}&run_ids=${first}`), { runIds: first });
            world.open("/v1 too", still, askNative(query));
          });
        }),
        { numRuns: 10, endOnFailure: true },
      );
    },
    TIMEOUT_MS,
  );

  it(
    "of a tenant: each run in order and once, over cuts, moves, evictions and aborts",
    async () => {
      await fc.assert(
        fc.asyncProperty(anyHistory, async (history) => {
          const tenant = newTenant();
          const world = new FeedWorld(tenant, [newPath(), newPath()], null);
          await play(world, history, () => {
            for (const cuts of history.readerCuts) {
              world.open("/v1", cuts, askNative(""), { fetch: fetchAs(tenant) });
            }
          });
        }),
        { numRuns: 10, endOnFailure: true },
      );
    },
    TIMEOUT_MS,
  );

  describe("with a reader that comes back", () => {
    const readers: SseReader[] = [];
    afterEach(async () => {
      vi.restoreAllMocks();
      await Promise.all(readers.splice(0).map((reader) => reader.stop()));
    });

    /** Two runs of a workspace with a past, and the ways to read them. */
    async function twoRuns() {
      const workspace = newPath();
      const runs = [
        await Subject.create(LOCAL_TENANT, workspace),
        await Subject.create(LOCAL_TENANT, workspace),
      ] as const;
      const path = `/v1/events/stream?workspace=${encodeURIComponent(workspace)}`;
      const commit = async () => {
        for (const work of HISTORY) for (const run of runs) await run.commit(work);
      };
      await commit();
      return {
        workspace,
        runs,
        commit,
        feed: () => feedOf(LOCAL_TENANT, workspace),
        open: (id: string | null = null): SseReader => {
          const reader = new SseReader({
            ask: ({ lastId }) => ({ path, headers: { "last-event-id": lastId ?? id ?? "" } }),
          });
          readers.push(reader);
          return reader;
        },
      };
    }

    /** Waits until a reader has so many records of each run. */
    const untilHas = (reader: SseReader, runs: readonly Subject[], events: number) =>
      reader.until(({ content }) =>
        runs.every(({ id }) => recordsOf(content, id, "context_run_event").length >= events),
      );

    it("whichever frame was its last, it is given exactly what comes after that", async () => {
      const { runs, commit, open } = await twoRuns();
      const first = open();
      const past = await runs[0].lastSeq();
      await untilHas(first, runs, past);
      await commit();
      await untilHas(first, runs, await runs[0].lastSeq());
      await first.until(({ frames }) => frames.at(-1)?.data?.kind === "blackboard_patch");
      const ids = first.frames.map(({ id }) => id ?? "");
      // All kinds of cursors: at the start, in the middle of the past, live, and between an event and its patch.
      for (const kind of [/\db$/, /\db\d+-e/, /\db\d+-p/, /:\d+$/, /:\d+-\d+$/, /:\d+-\d+e$/]) {
        expect(
          ids.filter((id) => kind.test(id)),
          String(kind),
        ).not.toEqual([]);
      }
      for (const [index, id] of ids.entries()) {
        const resumed = open(id);
        await resumed.until(({ content }) => content.length > ids.length - index - 1);
        expect(resumed.frames.slice(1), `after ${id}`).toEqual(first.frames.slice(index + 1));
        await resumed.stop();
      }
    }, 30_000);

    it("what its runs committed while nobody followed, it is given too", async () => {
      const { runs, commit, open, feed } = await twoRuns();
      const first = open();
      const past = await runs[0].lastSeq();
      await untilHas(first, runs, past);
      await commit();
      await untilHas(first, runs, 2 * past);
      await first.stop();
      await runs[0].commit({ do: "note", length: 1 });
      await untilFollowers(feed, 0);
      // With the first of these the runs learn that nobody follows, and keep quiet.
      await commit();
      await commit();
      await feedSleeps(feed);
      const resumed = open(first.lastId);
      await untilHas(resumed, [runs[1]], 2 * past);
      await commit();
      for (const run of runs) {
        const all = [...first.content, ...resumed.content];
        const log = await run.log("event");
        await untilHas(
          resumed,
          [run],
          log.length - recordsOf(first.content, run.id, "context_run_event").length,
        );
        expect(
          recordsOf(
            [...all, ...resumed.content.slice(all.length - first.content.length)],
            run.id,
            "context_run_event",
          ),
        ).toEqual(log);
      }
    });

    it("a run that moved into the workspace meanwhile, it is shown from there on", async () => {
      const { workspace, runs, open, feed } = await twoRuns();
      const moved = await Subject.create(LOCAL_TENANT, newPath());
      await moved.commit({ do: "note", length: 1 });
      await scheduler.wait(2);
      const first = open();
      await untilHas(first, runs, await runs[0].lastSeq());
      await runs[0].commit({ do: "note", length: 1 });
      await untilHas(first, [runs[0]], await runs[0].lastSeq());
      await first.stop();
      await runs[0].commit({ do: "note", length: 1 });
      await untilFollowers(feed, 0);
      await moved.moveTo(workspace);
      await moved.commit({ do: "note", length: 1 });
      const resumed = open(first.lastId);
      await resumed.until(({ frames }) => frames.length > 0);
      await moved.commit({ do: "note", length: 1 });
      await resumed.until(
        ({ content }) => recordsOf(content, moved.id, "context_run_event").at(-1)?.seq === 4,
      );
      const log = await moved.log("event");
      // Its second commit is the one that moved it.
      expect(recordsOf(resumed.content, moved.id, "context_run_event").slice(-3)).toEqual(log.slice(-3));
    });

    it("a cursor from before the journal begins is told so, and the stream goes on live", async () => {
      const { runs, commit, open, feed } = await twoRuns();
      const first = open();
      const past = await runs[0].lastSeq();
      await untilHas(first, runs, past);
      const start = first.frames[0]?.id ?? null;
      await commit();
      await untilHas(first, runs, 2 * past);
      // As if there had been too many since.
      await runInDurableObject(feed(), (_object, { storage }) => {
        storage.sql.exec("DELETE FROM rows WHERE pos <= (SELECT max(pos) - 2 FROM rows)");
      });
      const resumed = open(start);
      await resumed.until(({ frames }) => frames.length === 2);
      expect(resumed.frames[1]).toMatchObject({ event: "gap", data: { kind: "gap", reason: "expired" } });
      const before = await runs[0].lastSeq();
      await commit();
      for (const run of runs) {
        const log = (await run.log("event")).slice(before);
        await untilHas(resumed, [run], log.length);
        expect(recordsOf(resumed.content, run.id, "context_run_event")).toEqual(log);
      }
    });

    it.each(["readRows", "readStretch", "readRecords"] as const)(
      "a call of %s that fails keeps nothing from it, and does not keep it waiting",
      async (method) => {
        const { runs, commit, open } = await twoRuns();
        const first = open();
        await first.until(({ frames }) => frames.length > 0);
        const past = await runs[0].lastSeq();
        await untilHas(first, runs, past);
        await commit();
        await untilHas(first, runs, 2 * past);
        vi.spyOn(console, "error").mockReturnValue(undefined);
        const failure = new Error("the object restarts");
        if (method === "readRows") vi.spyOn(FeedObject.prototype, method).mockRejectedValueOnce(failure);
        else vi.spyOn(RunObject.prototype, method).mockRejectedValueOnce(failure);
        const resumed = open(first.frames[method === "readRecords" ? 1 : 20]?.id);
        for (const run of runs) {
          const log = await run.log("event");
          await resumed.until(
            ({ content }) => recordsOf(content, run.id, "context_run_event").at(-1)?.seq === log.length,
            5_000,
          );
        }
      },
    );
  });

  it(
    "a thousand runs in one workspace: ready names them, commits reach the reader, also one that comes back",
    async () => {
      const workspace = newPath();
      const runs: Subject[] = [];
      for (let count = 0; count < 1_000; count += 50) {
        runs.push(
          ...(await Promise.all(Array.from({ length: 50 }, () => Subject.create(LOCAL_TENANT, workspace)))),
        );
      }
      const reader = new SseReader({
        ask: askNative(`?workspace=${encodeURIComponent(workspace)}`),
      });
      try {
        await reader.until(({ frames }) => frames.length > 0, 20_000);
        expect(reader.content[0]?.subscribed_run_ids).toEqual(runs.map(({ id }) => id).sort());
        const some = runs.filter((_run, index) => index % 100 === 7);
        for (let round = 1; round <= 3; round += 1) {
          if (round === 2) await reader.cut();
          await Promise.all(some.map((run) => run.commit({ do: "tasks", count: 2 })));
          for (const run of some) {
            const log = { events: await run.log("event"), patches: await run.log("patch") };
            await reader.until(
              ({ content }) => recordsOf(content, run.id, "blackboard_patch").length >= log.patches.length,
            );
            expect(recordsOf(reader.content, run.id, "context_run_event")).toEqual(log.events);
            expect(recordsOf(reader.content, run.id, "blackboard_patch")).toEqual(log.patches);
          }
        }
        expect(reader.connections).toBe(2);
        expect(new Set(recordsIn(reader.content).map(({ run_id }) => run_id)).size).toBe(some.length);
      } finally {
        await reader.stop();
      }
    },
    TIMEOUT_MS,
  );
});

/** Lets a feed's object sleep. */
async function feedSleeps(feed: () => DurableObjectStub): Promise<void> {
  await followersOf(feed());
  await disturb(feed(), "sleep");
}

/** Commits with and without patches. */
const HISTORY: readonly Work[] = [
  { do: "note", length: 1 },
  { do: "tasks", count: 2 },
  { do: "burst", count: 2 },
  { do: "fact" },
];
