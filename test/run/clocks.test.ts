import { runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import type { TaskRow } from "../../src/domain/command.ts";
import type { Task } from "../../src/protocol/task.ts";
import { submit } from "../../src/run/run-client.ts";
import {
  accepted,
  claimed,
  creation,
  digestsOf,
  eventsOf,
  everything,
  evict,
  inObject,
  inStorage,
  listed,
  newTestRun,
  note,
  replayOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

const clock = useTestClock();

/** Creates a run with these tasks, and pays what is owed to the directory, so that only clocks can be due. */
async function runWith(...rows: TaskRow[]): Promise<TestRun> {
  const run = await newTestRun();
  if (rows.length > 0) await accepted(run, creation(...rows));
  clock.advance(1_000);
  await runDurableObjectAlarm(run.stub);
  return run;
}

const alarmOf = (run: TestRun) => inStorage(run, (_sql, storage) => storage.getAlarm());

async function taskIn(run: TestRun, id: string): Promise<Task | undefined> {
  return (await wholeRun(run)).tasks.find((task) => task.id === id);
}

const statusesIn = async (run: TestRun) =>
  Object.fromEntries((await wholeRun(run)).tasks.map(({ id, status }) => [id, status]));

async function fail(run: TestRun): Promise<void> {
  const { id, token } = await claimed(run);
  await accepted(run, { op: "transition_task", task_id: id, action: "fail", lease_token: token });
}

const FIRES: Record<string, (run: TestRun) => Promise<unknown>> = {
  "the alarm": (run) => runDurableObjectAlarm(run.stub),
  "the cron net": (run) => run.client.sweep(),
  "a claim": (run) => accepted(run, { op: "claim_task", agent_id: "ann" }),
  "any command": (run) => accepted(run, note()),
  "the alarm after an eviction": async (run) => {
    await evict(run);
    await runDurableObjectAlarm(run.stub);
  },
  "a command after an eviction": async (run) => {
    await evict(run);
    await accepted(run, note());
  },
};

describe("claims: clocks fire whoever comes first", () => {
  it.each(Object.entries(FIRES))("%s", async (_, fire) => {
    const run = await runWith(row("a", { clocks: { start_within_ms: 5_000 } }), row("b", { priority: -1 }));
    clock.advance(4_000);
    await fire(run);
    expect(await taskIn(run, "a")).toMatchObject({ status: "failed", failure: { cause: "start_deadline" } });
    expect((await replayOf(run)).drift).toMatchObject({ mismatch: false });
    const digests = await digestsOf(run);
    expect(digests.replay_state_sha256).toBe(digests.persisted_state_sha256);
  });

  it("the alarm is set for the first of them, and an early one changes nothing and is set again", async () => {
    const run = await runWith(row("a", { clocks: { start_within_ms: 50_000, finish_within_ms: 90_000 } }));
    const created = clock.nowMs() - 1_000;
    expect(await alarmOf(run)).toBe(created + 50_000);
    const before = await everything(run);
    await runDurableObjectAlarm(run.stub);
    expect(await everything(run)).toEqual(before);
    expect(await alarmOf(run)).toBe(created + 50_000);
  });

  it("a clock that a claim or a report of progress has moved on is noted anew, without a commit", async () => {
    const run = await runWith(row("a", { clocks: { start_within_ms: 5_000, run_within_ms: 60_000 } }));
    clock.advance(3_000);
    await claimed(run, { lease_ms: 300_000 });
    const claimedMs = clock.nowMs();
    clock.advance(1_000);
    await runDurableObjectAlarm(run.stub);
    const before = await everything(run);
    await runDurableObjectAlarm(run.stub);
    expect(await everything(run)).toEqual(before);
    expect(await alarmOf(run)).toBe(claimedMs + 60_000);
    clock.advance(59_000);
    await runDurableObjectAlarm(run.stub);
    expect(await taskIn(run, "a")).toMatchObject({ failure: { cause: "run_time_limit" } });
  });

  it("the clock of a task that is over keeps no alarm set", async () => {
    const run = await runWith(row("a", { clocks: { finish_within_ms: 50_000 } }));
    const { token } = await claimed(run);
    await accepted(run, { op: "transition_task", task_id: "a", action: "complete", lease_token: token });
    for (let fired = 0; (await alarmOf(run)) !== null; fired += 1) {
      expect(fired).toBeLessThan(4);
      clock.advance(60_000);
      await runDurableObjectAlarm(run.stub);
    }
    expect((await taskIn(run, "a"))?.status).toBe("done");
  });

  it("one beyond what alarms can be set for keeps none from being set", async () => {
    const run = await runWith(row("a", { clocks: { finish_within_ms: 5_000 } }));
    const whole = await wholeRun(run);
    const tasks = whole.tasks.map((task) => ({ ...task, redriven_at_ms: Number.MAX_SAFE_INTEGER }));
    await accepted(run, { op: "replace_run", run: { ...whole, tasks } });
    clock.advance(10_000);
    await runDurableObjectAlarm(run.stub);
    expect(await alarmOf(run)).toBeGreaterThan(clock.nowMs());
    await accepted(run, creation(row("b", { clocks: { start_within_ms: 5_000 } })));
    clock.advance(5_000);
    await runDurableObjectAlarm(run.stub);
    expect(await statusesIn(run)).toEqual({ a: "pending", b: "failed" });
  });

  it("the directory knows when a clock runs out, for the cron net", async () => {
    const run = await runWith(row("a", { clocks: { start_within_ms: 50_000 } }));
    expect((await listed(run))?.lease_due_at_ms).toBe(clock.nowMs() - 1_000 + 50_000);
  });

  it("a holder whose time is up is refused, though no alarm has fired", async () => {
    const run = await runWith(row("a", { clocks: { run_within_ms: 10_000 } }));
    const { token } = await claimed(run, { lease_ms: 60_000 });
    clock.advance(10_000);
    const command = { op: "transition_task", task_id: "a", action: "complete", lease_token: token } as const;
    expect(await submit(run.client, { command })).toMatchObject({ ok: false });
    expect(await taskIn(run, "a")).toMatchObject({ status: "failed", failure: { cause: "run_time_limit" } });
  });

  it("thousands that are overdue at once are all settled by one alarm, and none of them is given out", async () => {
    const clocks = { start_within_ms: 2_000 };
    const run = await newTestRun();
    for (let batch = 0; batch < 3; batch += 1) {
      const rows = Array.from({ length: 450 }, (_, index) => row(`t${batch}-${index}`, { clocks }));
      await accepted(run, creation(...rows));
    }
    clock.advance(2_000);
    expect((await accepted(run, { op: "claim_task", agent_id: "ann" })).task).toBeNull();
    await runDurableObjectAlarm(run.stub);
    const { tasks } = await wholeRun(run);
    expect(tasks.filter(({ status }) => status !== "failed")).toEqual([]);
    const seqs = (await eventsOf(run)).filter(({ type }) => type === "context.task.failed").length;
    expect(seqs).toBe(1_350);
  });

  it("long ones are redriven as many at once as memory holds, the first ones first, until none is left", async () => {
    const clocks = { start_within_ms: 5_000 };
    const rows = Array.from({ length: 40 }, (_, index) =>
      row(`t${index}`, { clocks, payload: { text: "x".repeat(250_000) } }),
    );
    const run = await runWith();
    for (const one of rows) await accepted(run, creation(one));
    clock.advance(5_000);
    await accepted(run, note());
    const redrive = { op: "redrive_tasks", limit: 500, preview: false } as const;
    const first = await accepted(run, redrive);
    expect(first).toMatchObject({ matched: 40 });
    expect(first.task_ids.length).toBeLessThan(40);
    const second = await accepted(run, redrive);
    expect([...first.task_ids, ...second.task_ids]).toEqual(rows.map(({ id }) => id));
  });

  it("an alarm that fires twice, or twice at once, settles once", async () => {
    const run = await runWith(row("a", { clocks: { start_within_ms: 2_000 } }));
    clock.advance(2_000);
    await inObject(run, (object) => Promise.all([object.alarm(), object.alarm()]));
    const before = await everything(run);
    await inObject(run, (object) => object.alarm());
    expect(await everything(run)).toEqual(before);
  });
});

describe("claims: a report of progress that is not recorded yet breaks the silence", () => {
  async function reported() {
    const run = await runWith(row("a", { clocks: { silent_within_ms: 1_000 } }));
    const { token } = await claimed(run, { lease_ms: 60_000 });
    const report = (percent: number) =>
      accepted(run, {
        op: "transition_task",
        task_id: "a",
        action: "heartbeat",
        lease_token: token,
        progress: { percent },
        strict: true,
      });
    await report(10);
    clock.advance(999);
    expect((await report(20)).patch).toBeNull();
    return { run, reportedMs: clock.nowMs() };
  }

  it.each<[string, (run: TestRun) => Promise<unknown>]>([
    ["the alarm", (run) => runDurableObjectAlarm(run.stub)],
    ["any command", (run) => accepted(run, note())],
  ])("%s records it, and waits from then on", async (_, come) => {
    const { run, reportedMs } = await reported();
    clock.advance(1);
    await come(run);
    expect(await taskIn(run, "a")).toMatchObject({
      status: "in_progress",
      progress: { percent: 20, at_ms: reportedMs },
    });
    clock.advance(998);
    await come(run);
    expect((await taskIn(run, "a"))?.status).toBe("in_progress");
    clock.advance(1);
    await come(run);
    expect(await taskIn(run, "a")).toMatchObject({
      failure: { cause: "silence_limit" },
      attempts: [{ progress: { percent: 20 } }],
    });
  });
});

describe("claims: what a failure leads to is committed with it", () => {
  it("tasks that mind it fail or are skipped in the same group, and what they held up is ready", async () => {
    const on = (...depends_on_task_ids: string[]) => ({ depends_on_task_ids });
    const run = await runWith(
      row("build", { priority: 1 }),
      row("test", { ...on("build"), on_dependency_failure: "skip" }),
      row("ship", { ...on("build"), on_dependency_failure: "fail" }),
      row("tell", on("test")),
      row("wait", on("build")),
    );
    await fail(run);
    expect(await statusesIn(run)).toEqual({
      build: "failed",
      test: "done",
      ship: "failed",
      tell: "pending",
      wait: "pending",
    });
    expect((await claimed(run)).id).toBe("tell");
  });

  it("a long chain fails to its end, with the alarm, though each group goes but one step", async () => {
    const rows = Array.from({ length: 30 }, (_, index) =>
      row(`t${index}`, {
        ...(index > 0 && { depends_on_task_ids: [`t${index - 1}`] }),
        on_dependency_failure: "fail",
      }),
    );
    const run = await runWith(...rows);
    await fail(run);
    await runDurableObjectAlarm(run.stub);
    expect(Object.values(await statusesIn(run))).toEqual(Array.from(rows, () => "failed"));
  });

  it("a task that is added behind a failed one, or whose dependency is added failed, is settled at once", async () => {
    const run = await runWith(row("bad", { status: "failed" }));
    const minds = { depends_on_task_ids: ["bad", "later"], on_dependency_failure: "fail" as const };
    await accepted(run, creation(row("a", minds)));
    expect(await taskIn(run, "a")).toMatchObject({
      failure: { cause: "dependency_failed", dependency_id: "bad" },
    });
    await accepted(run, creation(row("b", { ...minds, depends_on_task_ids: ["later"] })));
    expect((await taskIn(run, "b"))?.status).toBe("pending");
    await accepted(run, creation(row("later", { status: "failed" })));
    expect(await taskIn(run, "b")).toMatchObject({ failure: { dependency_id: "later" } });
  });

  it("a PUT that brings them in any order is settled, too", async () => {
    const run = await runWith(
      row("a", { depends_on_task_ids: ["b"], on_dependency_failure: "fail" }),
      row("b"),
    );
    const whole = await wholeRun(run);
    const tasks = whole.tasks.map((task) =>
      task.id === "b" ? { ...task, status: "failed" as const } : task,
    );
    await accepted(run, { op: "replace_run", run: { ...whole, tasks } });
    expect(await taskIn(run, "a")).toMatchObject({ status: "failed", failure: { dependency_id: "b" } });
  });
});

describe("claims: clocks cost what they change", () => {
  /** Rows that a command reads and writes. */
  async function rowsOf(run: TestRun, command: Parameters<typeof accepted>[1]) {
    const { rows } = await submit(run.client, { command });
    return rows;
  }

  it("a command beside clocks that are not due costs as much as without them", async () => {
    const plain = await runWith(row("a"));
    const clocked = await runWith(row("a", { clocks: { finish_within_ms: 90_000 } }));
    await accepted(plain, note());
    await accepted(clocked, note());
    expect(await rowsOf(clocked, note())).toEqual(await rowsOf(plain, note()));
  });

  it("a claim of a task with clocks writes one row more, its place among the clocks", async () => {
    const run = await runWith(
      row("a", { clocks: { run_within_ms: 90_000 } }),
      row("b", { clocks: { finish_within_ms: 90_000 } }),
    );
    const claim = { op: "claim_task", agent_id: "ann" } as const;
    expect((await rowsOf(run, claim)).written).toBeLessThanOrEqual(4);
    expect((await rowsOf(run, claim)).written).toBeLessThanOrEqual(4);
  });
});
