import { abortAllDurableObjects, runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import type { RunObject } from "../../src/run/run-object.ts";
import {
  accepted,
  checkpointed,
  claimed,
  creation,
  draftOf,
  eventually,
  everything,
  evict,
  http,
  inObject,
  inStorage,
  listed,
  newTestRun,
  note,
  objectOf,
  overviewOf,
  replayOf,
  row,
  rowsOf,
  type TestRun,
  useTestClock,
} from "./support/test-run.ts";

/** A run with something of everything, whose status never changed: its head is not saved before the next alarm. */
async function busyRun(): Promise<TestRun> {
  const run = await newTestRun();
  await accepted(
    run,
    creation(
      row("a", { priority: 2 }),
      row("b", { priority: 1, workflow_id: "w" }),
      row("c", { depends_on_task_ids: ["a"] }),
      row("d", { status: "blocked" }),
    ),
  );
  const { token } = await claimed(run, { lease_ms: 5_000 });
  await accepted(run, { op: "transition_task", task_id: "a", action: "complete", lease_token: token });
  await claimed(run, { lease_ms: 60_000 });
  await accepted(run, {
    op: "patch_blackboard",
    patch_op: "add_fact",
    payload: { id: "n", ts_ms: 1, text: "t" },
  });
  await accepted(run, { op: "patch_blackboard", patch_op: "set_rolling_summary", payload: "so far" });
  await accepted(run, {
    op: "validate_workspace",
    phase: "plan",
    current_path: "/srv/ws",
    step_id: undefined,
  });
  await accepted(run, note({ why_next_step: "go on" }, "queued"));
  return run;
}

/** Seq up to which the stored head has followed the log. */
async function savedSeq(run: TestRun): Promise<number> {
  const [stored] = await rowsOf<{ head_seq: number }>(run, "SELECT head_seq FROM run");
  return stored?.head_seq ?? -1;
}

describe("design: what an object knows after it woke", () => {
  const clock = useTestClock();

  it("I2: after an eviction the head catches up from the log, counters and counts included", async () => {
    const run = await busyRun();
    // The last commit changed the status, so the directory follows at once, and the head is saved with that.
    const { last_event_seq: lastSeq } = await overviewOf(run);
    await eventually(
      () => savedSeq(run),
      (seq) => seq === lastSeq,
      5_000,
    );
    await accepted(run, note({ why_next_step: "and on" }, "queued"));
    const before = await everything(run);
    expect(await savedSeq(run)).toBe(lastSeq);
    await evict(run);
    expect(await everything(run)).toEqual(before);
    expect((await replayOf(run)).drift.mismatch).toBe(false);
    await accepted(run, note());
    await evict(run);
    expect((await overviewOf(run)).task_counts).toEqual({
      pending: 1,
      runnable: 0,
      in_progress: 1,
      blocked: 1,
      done: 1,
      failed: 0,
      total: 4,
    });
  });

  it("I2: after an abort the head catches up from the log", async () => {
    const run = await busyRun();
    const before = await everything(run);
    await abortAllDurableObjects();
    expect(await everything(run)).toEqual(before);
  });

  it("I2: a head saved in the middle of the log catches up from there", async () => {
    const run = await busyRun();
    clock.advance(1_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    const saved = await savedSeq(run);
    expect(saved).toBe((await overviewOf(run)).last_event_seq);
    await accepted(run, note(null, "queued"));
    await accepted(run, creation(row("late")));
    const before = await everything(run);
    await evict(run);
    expect(await savedSeq(run)).toBe(saved);
    expect(await everything(run)).toEqual(before);
  });

  it("design: the head is saved at least every 1,000 commits, which bounds what a wake reads", async () => {
    const run = await newTestRun();
    await inObject(run, (object: RunObject) =>
      Promise.all(Array.from({ length: 1_100 }, () => object.submit({ command: note(null, "queued") }))),
    );
    expect(await savedSeq(run)).toBeGreaterThanOrEqual(1_000);
    const before = await overviewOf(run);
    await evict(run);
    expect(await overviewOf(run)).toEqual(before);
  });

  it("design: a lease that was out before the wake is requeued when it expires", async () => {
    const run = await busyRun();
    await inStorage(run, (_sql, storage) => storage.deleteAlarm());
    await evict(run);
    await overviewOf(run);
    // What is owed to the directory comes first; the lease is due a minute after its claim.
    clock.advance(1_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await inStorage(run, (_sql, storage) => storage.getAlarm())).toBe(clock.nowMs() + 59_000);
    clock.advance(59_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect((await overviewOf(run)).task_counts).toMatchObject({ in_progress: 0, runnable: 1 });
  });

  it("design: what the directory was owed before the wake is paid after it", async () => {
    const run = await busyRun();
    const { last_event_seq } = await overviewOf(run);
    await inStorage(run, (_sql, storage) => storage.deleteAlarm());
    await evict(run);
    await overviewOf(run);
    clock.advance(1_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await listed(run)).toMatchObject({ last_event_seq, task_counts: { total: 4 } });
  });

  it("design: waking with nothing owed and no lease out arms no alarm", async () => {
    const run = await newTestRun();
    await accepted(run, note());
    clock.advance(1_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    await evict(run);
    await overviewOf(run);
    expect(await inStorage(run, (_sql, storage) => storage.getAlarm())).toBeNull();
  });

  it("D19: an object that was only asked about stores nothing", async () => {
    const run = objectOf();
    const path = `/v1/runs/${run.id}`;
    const ask = async () => {
      await http("GET", path, { status: 404 });
      await http("GET", `${path}/events`, { status: 404 });
      await http("GET", `${path}/replay`, { status: 404 });
      await http("POST", `${path}/events`, { body: { type: "t", status: "running" }, status: 404 });
      await http("POST", `${path}/checkpoints`, { body: { reason: "r" }, status: 404 });
      await http("POST", `${path}/tasks/claim`, { body: { agent_id: "a" }, status: 404 });
      expect(await run.client.sweep()).toBeNull();
    };
    await ask();
    await evict(run);
    await ask();
    expect(
      await rowsOf(run, "SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf\\_%' ESCAPE '\\'"),
    ).toEqual([]);
    expect(await inStorage(run, (_sql, storage) => storage.getAlarm())).toBeNull();
    const created = await run.client.create({ tenant: LOCAL_TENANT, draft: draftOf(run.id), command: null });
    expect(created.ok).toBe(true);
  });

  it("design: a checkpoint taken before the wake is there after it", async () => {
    const run = await busyRun();
    const checkpoint = await checkpointed(run);
    await evict(run);
    const latest = await http("GET", `/context/runs/${run.id}/checkpoints/latest`);
    expect(latest).toEqual({ checkpoint });
  });
});
