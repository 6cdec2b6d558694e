import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { Command, CommandOf, TaskRow } from "../../src/domain/command.ts";
import type { Task } from "../../src/protocol/task.ts";
import type { Answer } from "../../src/run/engine.ts";
import { submit } from "../../src/run/run-client.ts";
import {
  accepted,
  claimed,
  creation,
  eventsOf,
  eventually,
  evict,
  newTestRun,
  note,
  objectOf,
  outcomeOf,
  replayOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

const clock = useTestClock();
const INTERVAL_MS = 1_000;

type Transition = CommandOf<"transition_task">;

/** A run with one task `t` that is held. */
async function heldRun(lease_ms = 60_000, fields: Partial<TaskRow> = {}) {
  const run = await newTestRun();
  await accepted(run, creation(row("t", fields)));
  const { token, expiresAtMs } = await claimed(run, { lease_ms });
  const command: Transition = {
    op: "transition_task",
    task_id: "t",
    action: "heartbeat",
    lease_token: token,
    lease_ms,
    strict: true,
  };
  const beat = (members: Partial<Transition> = {}, commandId?: string): Promise<Answer> =>
    submit(run.client, { command: { ...command, ...members }, commandId, fingerprint: "f" });
  return { run, token, expiresAtMs, command, beat };
}

async function taskOf(run: TestRun): Promise<Task> {
  const [task] = (await wholeRun(run)).tasks;
  if (task === undefined) throw new Error("no task");
  return task;
}

async function beatsOf(run: TestRun): Promise<number> {
  return (await eventsOf(run)).filter(({ type }) => type === "context.task.heartbeat").length;
}

describe("heartbeats that come sooner than the interval", () => {
  it("claims: write nothing, and are answered with the lease as it is recorded", async () => {
    const { run, token, beat } = await heldRun();
    const first = outcomeOf("transition_task", await beat());
    expect(first.patch).not.toBeNull();
    const recorded = await taskOf(run);
    for (let time = 0; time < 50; time += 1) {
      clock.advance(19);
      const answer = await beat();
      expect(answer.rows.written).toBe(0);
      const { task, lease, patch } = outcomeOf("transition_task", answer);
      expect(task).toEqual({ ...recorded, lease_token: token });
      const expires_in_ms = (first.lease?.expires_at_ms ?? 0) - clock.nowMs();
      expect(lease).toEqual({ ...first.lease, expires_in_ms });
      expect(patch).toBeNull();
    }
    expect(await taskOf(run)).toEqual(recorded);
    clock.advance(INTERVAL_MS - 50 * 19);
    const next = await beat();
    expect(next.rows.written).toBe(2);
    expect(outcomeOf("transition_task", next).lease?.expires_at_ms).toBe(clock.nowMs() + 60_000);
    expect(await beatsOf(run)).toBe(2);
  });

  it("claims: however often they come, a task costs one heartbeat per interval, progress and all", async () => {
    const { run, beat } = await heldRun();
    let written = 0;
    const startedAtMs = performance.now();
    const BEATS = 200;
    for (let count = 0; count < BEATS; count += 1) {
      written += (await beat({ progress: { percent: count / 2 } })).rows.written;
      clock.advance(50);
    }
    // What the timer records is no answer's to count: it is counted in the log.
    const beats = await beatsOf(run);
    // The timer keeps real time, which may go faster than the test's.
    const realMs = performance.now() - startedAtMs;
    const intervals = Math.ceil((BEATS * 50) / INTERVAL_MS) + Math.ceil(realMs / INTERVAL_MS);
    expect(beats).toBeLessThanOrEqual(intervals + 1);
    expect(written).toBeLessThanOrEqual(2 * (intervals + 1));
  });

  it("claims: progress that was held is recorded at the end of the interval", async () => {
    const { run, beat } = await heldRun();
    await beat();
    clock.advance(10);
    const heldAtMs = clock.nowMs();
    const answer = outcomeOf("transition_task", await beat({ progress: { percent: 30, note: "n" } }));
    expect(answer.task).not.toHaveProperty("progress");
    clock.advance(INTERVAL_MS);
    const recorded = await eventually(
      () => taskOf(run),
      (task) => task.progress !== undefined,
      10_000,
    );
    expect(recorded.progress).toEqual({ percent: 30, note: "n", at_ms: heldAtMs });
    expect(recorded.lease_expires_at_ms).toBe(heldAtMs + 60_000);
    expect(await beatsOf(run)).toBe(2);
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });

  it("claims: a longer lease that was held is recorded then, too", async () => {
    const { run, beat } = await heldRun(10_000);
    await beat();
    const recorded = await taskOf(run);
    const { lease } = outcomeOf("transition_task", await beat({ lease_ms: 200_000 }));
    expect(lease?.expires_at_ms).toBe(recorded.lease_expires_at_ms);
    clock.advance(INTERVAL_MS);
    const askedAtMs = recorded.updated_ts;
    const { lease_expires_at_ms } = await eventually(
      () => taskOf(run),
      (task) => task.task_rev > recorded.task_rev,
      10_000,
    );
    expect(lease_expires_at_ms).toBe(askedAtMs + 200_000);
  });

  it.each<[string, Partial<Transition>]>([
    ["fail", { action: "fail" }],
    ["release", { action: "release" }],
    ["status", { action: "status", status: "runnable" }],
  ])("claims: the next commit of the task takes held progress along: %s", async (_title, end) => {
    const { run, beat } = await heldRun();
    await beat();
    await beat({ progress: { percent: 70 } });
    expect((await beat({ lease_ms: undefined, ...end })).ok).toBe(true);
    expect((await taskOf(run)).attempts).toMatchObject([{ progress: { percent: 70 } }]);
  });

  it("claims: and so does the requeue of a lease that ran out", async () => {
    const { run, beat } = await heldRun(5_000);
    await beat();
    clock.advance(999);
    await beat({ progress: { percent: 70 } });
    clock.advance(5_000);
    await submit(run.client, { command: { op: "requeue_stale" } });
    const { attempts } = await taskOf(run);
    expect(attempts).toMatchObject([{ outcome: "lease_expired", progress: { percent: 70 } }]);
  });

  it("claims: one that names a key is recorded, and repeated as it was", async () => {
    const { run, beat } = await heldRun();
    await beat();
    const first = await beat({ progress: { percent: 1 } }, "k");
    expect(first.rows.written).toBeGreaterThan(0);
    const again = await beat({ progress: { percent: 1 } }, "k");
    expect(again).toMatchObject({ ok: true, repeat: { same: true } });
    expect([first.ok && first.outcome, (await taskOf(run)).progress?.percent]).toEqual([
      again.ok && again.outcome,
      1,
    ]);
  });

  it("04§8 on /context each one is recorded", async () => {
    const { run, beat } = await heldRun();
    for (let count = 0; count < 3; count += 1) {
      expect((await beat({ strict: undefined })).rows.written).toBe(2);
    }
    expect(await beatsOf(run)).toBe(3);
  });

  it("claims: they are refused as ever, and another lease's are its own", async () => {
    const { run, beat } = await heldRun();
    await beat();
    expect(await beat({ lease_token: "another" })).toMatchObject({
      ok: false,
      refusal: { code: "TASK_LEASE_INVALID" },
    });
    await beat({ action: "release" });
    const { token } = await claimed(run);
    const answer = await beat({ lease_token: token });
    expect(answer.rows.written).toBe(2);
  });

  it("claims: an eviction waits until what is held is recorded", async () => {
    const { run, beat } = await heldRun();
    await beat();
    await beat({ progress: { percent: 70 } });
    await evict(run);
    expect((await taskOf(run)).progress?.percent).toBe(70);
  });

  it("claims: a crash loses what no answer had shown, and the next heartbeat is recorded", async () => {
    const { run, beat } = await heldRun();
    await beat();
    const held = outcomeOf("transition_task", await beat({ progress: { percent: 70 } }));
    expect(held.task).not.toHaveProperty("progress");
    const aborted = runInDurableObject(run.stub, (_object, state) => state.abort("the test aborts it"));
    await expect(aborted).rejects.toThrow();
    run.stub = objectOf(run.id).stub;
    run.client = objectOf(run.id).client;
    const { patch, task } = outcomeOf("transition_task", await beat());
    expect(patch).not.toBeNull();
    // All of it, where the test was so slow that it was recorded before.
    expect([undefined, 70]).toContain(task.progress?.percent);
  });

  it("claims: a report that is held is no silence", async () => {
    for (const settle of ["a command", "the alarm"]) {
      const { run, beat } = await heldRun(60_000, { clocks: { silent_within_ms: 1_500 } });
      await beat({ progress: { percent: 1 } });
      clock.advance(900);
      await beat({ progress: { percent: 2 } });
      clock.advance(700);
      if (settle === "the alarm") await runDurableObjectAlarm(run.stub);
      else await accepted(run, note());
      expect(await taskOf(run)).toMatchObject({ status: "in_progress", progress: { percent: 2 } });
      clock.advance(800);
      await accepted(run, note());
      expect((await taskOf(run)).attempts).toMatchObject([{ outcome: "silent", progress: { percent: 2 } }]);
      expect((await replayOf(run)).drift.mismatch).toBe(false);
    }
  });

  const batchOf = (run: TestRun, commands: Command[], dry_run = false): Promise<Answer> =>
    submit(run.client, { command: { op: "batch", commands, dry_run } });

  it("claims: in a batch they are no exception", async () => {
    const { run, command } = await heldRun();
    const answer = await batchOf(
      run,
      Array.from({ length: 50 }, (_, percent) => ({ ...command, progress: { percent } })),
    );
    expect(answer.ok).toBe(true);
    expect(answer.rows.written).toBe(2);
    await submit(run.client, { command: { ...command, action: "release" } });
    expect((await taskOf(run)).attempts).toMatchObject([{ progress: { percent: 49 } }]);
  });

  it("claims: however many batches are undone meanwhile, a task costs one heartbeat per interval", async () => {
    const { run, beat } = await heldRun();
    await beat();
    const undone: Command[] = [
      creation(row("n")),
      { op: "transition_task", task_id: "none", action: "complete" },
    ];
    for (const dry_run of [true, false]) {
      clock.advance(100);
      await submit(run.client, {
        command: { op: "batch", commands: dry_run ? undone.slice(0, 1) : undone, dry_run },
      });
      expect((await beat()).rows.written).toBe(0);
    }
    expect(await beatsOf(run)).toBe(1);
  });

  it("claims: what a batch that is refused, or a dry run, has reported counts for nothing", async () => {
    for (const dry_run of [false, true]) {
      const { run, command, beat } = await heldRun();
      const again: Command = { ...command, action: "complete", task_id: dry_run ? "t" : "none" };
      const told = await batchOf(
        run,
        [{ ...command, progress: { percent: 1 } }, { ...command, progress: { percent: 2 } }, again],
        dry_run,
      );
      expect(told.ok).toBe(dry_run);
      const { patch, task } = outcomeOf("transition_task", await beat());
      expect(patch).not.toBeNull();
      expect(task).not.toHaveProperty("progress");
      expect(await beatsOf(run)).toBe(1);
    }
  });
});
