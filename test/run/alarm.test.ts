import { runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, describe, expect, it, vi } from "vitest";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import { MAX_RUN_BYTES } from "../../src/protocol/limits.ts";
import {
  accepted,
  claimed,
  creation,
  draftOf,
  eventsOf,
  everything,
  evict,
  inObject,
  inStorage,
  listed,
  newTestRun,
  note,
  objectOf,
  overviewOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

/** When the object's alarm is set for; null when it is not. */
function alarmOf(run: TestRun): Promise<number | null> {
  return inStorage(run, (_sql, storage) => storage.getAlarm());
}

/** Pays what is owed to the directory, so that only leases can be due. */
async function flush(run: TestRun, clock: { advance(ms: number): void }): Promise<void> {
  clock.advance(1_000);
  expect(await runDurableObjectAlarm(run.stub)).toBe(true);
}

/** A run with one task under a lease of that length, flushed. */
async function leasedRun(clock: { advance(ms: number): void }, lease_ms: number) {
  const run = await newTestRun();
  await accepted(run, creation(row("a")));
  const lease = await claimed(run, { lease_ms });
  await flush(run, clock);
  return { run, lease };
}

/** Lets the directory refuse every write until `mend` is called. */
function failDirectory(): { writes: () => number; mend(): void } {
  const statement = Object.getPrototypeOf(env.DIRECTORY.prepare("SELECT 1")) as D1PreparedStatement;
  const silent = vi.spyOn(console, "error").mockReturnValue(undefined);
  const spy = vi.spyOn(statement, "run").mockRejectedValue(new Error("the directory is away"));
  return {
    writes: () => spy.mock.calls.length,
    mend: () => {
      spy.mockRestore();
      silent.mockRestore();
    },
  };
}

describe("a run that is full", () => {
  const clock = useTestClock();

  it("does not fire its alarm again and again for a lease that cannot be taken back before there is room", async () => {
    const { run, lease } = await leasedRun(clock, 20_000);
    const size = await inStorage(run, (sql) =>
      vi.spyOn(Object.getPrototypeOf(sql) as SqlStorage, "databaseSize", "get"),
    );
    size.mockReturnValue(MAX_RUN_BYTES + 1);
    await evict(run);
    clock.advance(lease.expiresAtMs - clock.nowMs());
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await alarmOf(run)).toBeGreaterThan(clock.nowMs() + 10_000);
    size.mockRestore();
    clock.advance(60_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect((await eventsOf(run)).at(-1)?.type).toBe("context.task.stale_requeued");
  });
});

describe("design: one alarm per object", () => {
  const clock = useTestClock();
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("design: the alarm requeues a lease that ran out, as a claim would (contract 04 §9)", async () => {
    const { run, lease } = await leasedRun(clock, 5_000);
    expect(await alarmOf(run)).toBe(lease.expiresAtMs);
    clock.advance(4_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    const { tasks } = await wholeRun(run);
    expect(tasks).toMatchObject([
      {
        status: "runnable",
        task_rev: 3,
        attempt: 0,
        last_error: "task lease expired while assigned to agent",
        next_retry_at_ms: clock.nowMs(),
      },
    ]);
    expect(tasks[0]).not.toHaveProperty("lease_token");
    expect((await eventsOf(run)).at(-1)).toMatchObject({
      type: "context.task.stale_requeued",
      payload: { stale_requeue: true, lease_owner: "agent" },
    });
    expect((await claimed(run, { agent_id: "next" })).id).toBe("a");
  });

  it("design: an alarm that fires early changes nothing and is set again", async () => {
    const { run, lease } = await leasedRun(clock, 5_000);
    const before = await everything(run);
    clock.advance(3_999);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await everything(run)).toEqual(before);
    expect(await alarmOf(run)).toBe(lease.expiresAtMs);
  });

  it("design: an alarm that fires late does what is due, once", async () => {
    const { run } = await leasedRun(clock, 5_000);
    clock.advance(86_400_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect((await overviewOf(run)).task_counts).toMatchObject({ runnable: 1, in_progress: 0 });
  });

  it("design: an alarm that fires twice requeues once", async () => {
    const { run } = await leasedRun(clock, 5_000);
    clock.advance(5_000);
    await inObject(run, (object) => object.alarm());
    const before = await everything(run);
    await inObject(run, (object) => object.alarm());
    await inObject(run, (object) => Promise.all([object.alarm(), object.alarm()]));
    expect(await everything(run)).toEqual(before);
  });

  it("design: after an eviction the alarm still requeues", async () => {
    const { run } = await leasedRun(clock, 5_000);
    await evict(run);
    clock.advance(4_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect((await overviewOf(run)).task_counts).toMatchObject({ runnable: 1, in_progress: 0 });
  });

  it("design: a lease that was renewed is not requeued, and the alarm moves on to its new end", async () => {
    const { run, lease } = await leasedRun(clock, 5_000);
    const renewed = await accepted(run, {
      op: "transition_task",
      task_id: "a",
      action: "heartbeat",
      lease_token: lease.token,
      lease_ms: 60_000,
    });
    clock.advance(4_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await alarmOf(run)).toBe(renewed.lease?.expires_at_ms);
    expect((await overviewOf(run)).task_counts).toMatchObject({ in_progress: 1 });
  });

  it("design: a lease that a heartbeat shortens is requeued at its new, earlier end", async () => {
    const { run, lease } = await leasedRun(clock, 300_000);
    const shortened = await accepted(run, {
      op: "transition_task",
      task_id: "a",
      action: "heartbeat",
      lease_token: lease.token,
      lease_ms: 5_000,
    });
    await flush(run, clock);
    expect(await alarmOf(run)).toBe(shortened.lease?.expires_at_ms);
    clock.advance(4_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect((await overviewOf(run)).task_counts).toMatchObject({ runnable: 1 });
  });

  it("design: heartbeats between two alarms do not arm it", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a")));
    const { token } = await claimed(run, { lease_ms: 60_000 });
    await inStorage(run, (_sql, storage) => {
      vi.spyOn(storage, "setAlarm");
    });
    const armed = () => inStorage(run, (_sql, storage) => vi.mocked(storage.setAlarm).mock.calls.length);
    for (let beat = 0; beat < 20; beat += 1) {
      clock.advance(40);
      await accepted(run, { op: "transition_task", task_id: "a", action: "heartbeat", lease_token: token });
    }
    expect(await armed()).toBe(0);
    await flush(run, clock);
    expect(await armed()).toBe(1);
  });

  it("design: with every lease given back and the directory up to date no alarm stays set", async () => {
    const { run, lease } = await leasedRun(clock, 5_000);
    await accepted(run, {
      op: "transition_task",
      task_id: "a",
      action: "complete",
      lease_token: lease.token,
    });
    for (let fired = 0; (await alarmOf(run)) !== null; fired += 1) {
      expect(fired).toBeLessThan(3);
      clock.advance(5_000);
      await runDurableObjectAlarm(run.stub);
    }
    expect((await overviewOf(run)).task_counts).toMatchObject({ done: 1 });
  });
});

describe("design: the directory is never on the commit path", () => {
  const clock = useTestClock();
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("O1: the alarm brings the directory up to date, one write for many commits", async () => {
    const run = await newTestRun();
    const statement = Object.getPrototypeOf(env.DIRECTORY.prepare("SELECT 1")) as D1PreparedStatement;
    const writes = vi.spyOn(statement, "run");
    for (let index = 0; index < 10; index += 1) await accepted(run, note(index, "queued"));
    expect(writes).not.toHaveBeenCalled();
    expect(await listed(run)).toMatchObject({ last_event_seq: 0 });
    await flush(run, clock);
    expect(writes).toHaveBeenCalledTimes(1);
    expect(await listed(run)).toMatchObject({ last_event_seq: 10, revision: 11 });
    expect(await alarmOf(run)).toBeNull();
  });

  it("O1: a failing directory fails no command, and is tried again at growing distances", async () => {
    const run = await newTestRun();
    const directory = failDirectory();
    await accepted(run, note(null, "queued"));
    const waits: number[] = [];
    for (let failure = 0; failure < 8; failure += 1) {
      const due = (await alarmOf(run)) ?? Number.NaN;
      waits.push(due - clock.nowMs());
      clock.advance(due - clock.nowMs());
      expect(await runDurableObjectAlarm(run.stub)).toBe(true);
      expect(directory.writes()).toBe(failure + 1);
    }
    expect(waits).toEqual([1_000, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
    await accepted(run, note(null, "queued"));
    directory.mend();
    clock.advance(60_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await listed(run)).toMatchObject({ last_event_seq: 2 });
  });

  it("O1: a status change while the directory fails is answered, and listed once it works again", async () => {
    const run = await newTestRun();
    const directory = failDirectory();
    await accepted(run, note(null, "completed"));
    await accepted(run, note(null, "running"));
    await accepted(run, note(null, "failed"));
    expect((await overviewOf(run)).status).toBe("failed");
    directory.mend();
    expect(await alarmOf(run)).not.toBeNull();
    clock.advance(60_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await listed(run)).toMatchObject({ status: "failed", last_event_seq: 3 });
  });

  it("O1: a run is created though the directory fails, and listed later", async () => {
    const run = objectOf();
    const directory = failDirectory();
    const created = await run.client.create({ tenant: LOCAL_TENANT, draft: draftOf(run.id), command: null });
    expect(created.ok).toBe(true);
    directory.mend();
    expect(await listed(run)).toBeNull();
    await flush(run, clock);
    expect(await listed(run)).toMatchObject({ run_id: run.id, last_event_seq: 0 });
  });

  it("O1: what a failed flush owes outlives an eviction", async () => {
    const run = await newTestRun();
    const directory = failDirectory();
    await accepted(run, note(null, "queued"));
    clock.advance(1_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    directory.mend();
    await evict(run);
    await overviewOf(run);
    await flush(run, clock);
    expect(await listed(run)).toMatchObject({ last_event_seq: 1 });
  });
});
