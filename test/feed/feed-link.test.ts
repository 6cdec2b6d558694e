import { runDurableObjectAlarm } from "cloudflare:test";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { FeedObject } from "../../src/feed/feed-object.ts";
import { feedObjectName, tenantKey } from "../../src/identity/tenant.ts";
import { submit } from "../../src/run/run-client.ts";
import { creation, eventually, row, useTestClock } from "../run/support/test-run.ts";
import { RawFollower } from "../streams/support/raw-follower.ts";
import {
  disturbFeed,
  feedOf,
  newPath,
  newTenant,
  Subject,
  untilFollowers,
} from "../streams/support/scenario.ts";

// Streams wait for each other more than they compute: a busy machine takes its time.
vi.setConfig({ testTimeout: 30_000 });

const NOTE = { do: "note", length: 1 } as const;
const MINUTE_MS = 60_000;

/** A run in a workspace whose feed nobody follows yet. */
async function newRun() {
  const tenant = newTenant();
  const path = newPath();
  const subject = await Subject.create(tenant, path);
  return { tenant, path, subject, follow: () => RawFollower.open(feedOf(tenant, path)) };
}

/** The same with a follower, who was told the run's first commit. */
async function followedRun() {
  const run = await newRun();
  const follower = await run.follow();
  await run.subject.commit(NOTE);
  await follower.until(() => follower.seqOf(run.subject.id) === 1);
  return { ...run, follower, pushes: watchPushes(run) };
}

/** Counts the pushes to a run's workspace feed, and lets them fail while there is a failure. */
function watchPushes({ tenant, path }: Pick<Awaited<ReturnType<typeof newRun>>, "tenant" | "path">) {
  const { push } = FeedObject.prototype;
  const name = feedObjectName({ tenant: tenantKey(tenant), workspace: path });
  const watched = { count: 0, failure: null as (() => Promise<boolean>) | null };
  vi.spyOn(FeedObject.prototype, "push").mockImplementation(function (this: FeedObject, packed) {
    const { ctx } = this as unknown as { ctx: DurableObjectState };
    if (ctx.id.name !== name) return push.call(this, packed);
    watched.count += 1;
    return watched.failure?.() ?? push.call(this, packed);
  });
  return watched;
}

describe("design: a run's line to its feeds", () => {
  const clock = useTestClock();
  let reports: ReturnType<typeof vi.spyOn>;
  beforeEach(() => {
    reports = vi.spyOn(console, "error").mockReturnValue(undefined);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  /** Waits until so many failed pushes of a run were reported. */
  const untilReported = (subject: Subject, count: number) =>
    eventually(
      async () => reports.mock.calls.filter((call: unknown[]) => String(call[0]).includes(subject.id)).length,
      (calls) => calls === count,
      5_000,
    );

  /** Turns the clock and fires the alarm, as the platform would. */
  const alarmAfter = async (subject: Subject, ms: number) => {
    clock.advance(ms);
    await runDurableObjectAlarm(subject.stub);
  };

  it("L1: a push that failed is repeated by the alarm, less and less often, until the feed has it", async () => {
    const { subject, follower, pushes } = await followedRun();
    pushes.failure = () => Promise.reject(new Error("away"));
    await subject.commit(NOTE);
    await untilReported(subject, 1);
    for (const [failures, waitMs] of [1_000, 2_000, 4_000].entries()) {
      await alarmAfter(subject, waitMs - 1);
      expect(pushes.count).toBe(failures + 1);
      await alarmAfter(subject, 1);
      await untilReported(subject, failures + 2);
    }
    pushes.failure = null;
    await alarmAfter(subject, 8_000);
    await follower.until(() => follower.seqOf(subject.id) === 2);
    follower.close();
  });

  it("L1: a push that is owed survives the object that owed it, also when the directory was told", async () => {
    const { subject, follower, pushes } = await followedRun();
    pushes.failure = () => Promise.reject(new Error("away"));
    await subject.commit(NOTE);
    await untilReported(subject, 1);
    // The directory is brought up to date; the feed is not.
    await alarmAfter(subject, 1_000);
    await untilReported(subject, 2);
    pushes.failure = null;
    await subject.disturb("sleep");
    for (let seconds = 0; seconds < 5; seconds += 1) await alarmAfter(subject, 1_000);
    await follower.until(() => follower.seqOf(subject.id) === 2);
    follower.close();
  });

  it("L1: a feed whose object was aborted is told what is committed after that", async () => {
    const { tenant, path, subject, follow } = await followedRun();
    await disturbFeed(tenant, path, "abort");
    const again = await follow();
    await subject.commit(NOTE);
    for (let seconds = 0; seconds < 5; seconds += 1) await alarmAfter(subject, 1_000);
    await again.until(() => again.seqOf(subject.id) === 2);
    again.close();
  });

  it("L2: while nobody follows, a run pushes once a minute at most", async () => {
    const { subject, ...run } = await newRun();
    const pushes = watchPushes(run);
    for (let commits = 0; commits < 3; commits += 1) await subject.commit(NOTE);
    await eventually(async () => pushes.count, Boolean, 5_000);
    await alarmAfter(subject, MINUTE_MS - 1);
    await subject.commit(NOTE);
    expect(pushes.count).toBe(1);
    clock.advance(1);
    await subject.commit(NOTE);
    await eventually(
      async () => pushes.count,
      (count) => count === 2,
      5_000,
    );
  });

  it("L2: a run that keeps quiet pushes again as soon as its feed is followed again", async () => {
    const { tenant, path, subject, follow, follower, pushes } = await followedRun();
    follower.close();
    await untilFollowers(() => feedOf(tenant, path), 0);
    await subject.commit(NOTE);
    await eventually(
      async () => pushes.count,
      (count) => count === 1,
      5_000,
    );
    await subject.commit(NOTE);
    expect(pushes.count).toBe(1);
    const again = await follow();
    await subject.commit(NOTE);
    await again.until(() => again.seqOf(subject.id) === 4);
    // What it kept to itself is in the journal, for those who come back.
    const rows = await feedOf(tenant, path).readRows(0, 10);
    expect(rows.map(({ after_seq, upto_seq }) => [after_seq, upto_seq])).toEqual([
      [0, 1],
      [1, 3],
      [3, 4],
    ]);
    again.close();
  });

  it("L2: so does one of which the directory has had no news for long: heartbeats are none", async () => {
    const { subject, follow } = await newRun();
    await submit(subject.client, { command: creation(row("a")) });
    const lease_ms = 300_000;
    const answer = await submit(subject.client, {
      command: { op: "claim_task", agent_id: "agent", lease_ms },
    });
    const lease_token =
      answer.ok && answer.outcome?.op === "claim_task" ? answer.outcome.lease?.token : undefined;
    await alarmAfter(subject, 1_000);
    clock.advance(150_000);
    const heartbeat = {
      op: "transition_task",
      task_id: "a",
      action: "heartbeat",
      lease_ms,
      lease_token,
    } as const;
    await submit(subject.client, { command: heartbeat });
    expect(await subject.lastSeq()).toBe(3);
    clock.advance(10_000);
    const follower = await follow();
    await subject.commit(NOTE);
    for (let seconds = 0; seconds < 5; seconds += 1) await alarmAfter(subject, 1_000);
    await follower.until(() => follower.seqOf(subject.id) === 4);
    follower.close();
  });

  it("L3: commits are answered while a push hangs; what was committed meanwhile goes with the next", async () => {
    const { subject, follower, pushes } = await followedRun();
    const hanging = Promise.withResolvers<boolean>();
    pushes.failure = () => hanging.promise;
    await subject.commit(NOTE);
    await subject.commit(NOTE);
    await subject.commit({ do: "burst", count: 10 });
    expect(await subject.lastSeq()).toBe(13);
    expect(pushes.count).toBe(1);
    pushes.failure = null;
    hanging.reject(new Error("cut off"));
    await untilReported(subject, 1);
    await alarmAfter(subject, 1_000);
    await follower.until(() => follower.seqOf(subject.id) === 13);
    const stretches = follower.stretchesOf(subject.id);
    expect(stretches.map(({ after_seq, upto_seq }) => [after_seq, upto_seq])).toEqual([
      [0, 1],
      [1, 13],
    ]);
    follower.close();
  });
});
