import { describe, expect, it } from "vitest";
import { WORK_STATUSES, type WorkStatus } from "../../src/protocol/status.ts";
import {
  accepted,
  aTask,
  committed,
  leasedTo,
  maskToken,
  memoryRun,
  NOW,
  refused,
  transition,
} from "../support/builders.ts";

/** 04 §8.1: row = current, columns = requested, in the order of the contract. */
const COLUMNS: WorkStatus[] = ["pending", "runnable", "in_progress", "blocked", "done", "failed"];
const MATRIX: Record<WorkStatus, string> = {
  pending: "✓✓✗✓✗✗",
  runnable: "✗✓✗✓✗✗",
  in_progress: "✗✓✓✓✓✓",
  blocked: "✗✓✗✓✗✓",
  done: "✗✗✗✗✓✗",
  failed: "✗✓✗✗✗✓",
};

const EVENT_OF: Record<WorkStatus, string> = {
  in_progress: "context.task.started",
  done: "context.task.completed",
  failed: "context.task.failed",
  blocked: "context.task.blocked",
  runnable: "context.task.requeued",
  pending: "context.task.requeued",
};

const cells = WORK_STATUSES.flatMap((current) =>
  COLUMNS.map((requested, column) => ({ current, requested, allowed: MATRIX[current][column] === "✓" })),
);

const busy = { assigned_agent: "old", attempt: 2, task_rev: 5, next_retry_at_ms: 9 };

describe("action status", () => {
  it.each(cells)("04§8.1 $current → $requested allowed: $allowed", ({ current, requested, allowed }) => {
    const before = aTask({ status: current, ...busy });
    const run = memoryRun({ status: "completed", ended_at_ms: 7 }, [before]);
    const command = transition(" STATUS ", { status: requested, error: "boom", agent_id: "new" });
    if (!allowed) {
      expect(refused(command, run)).toEqual({
        code: "TASK_TRANSITION_INVALID",
        error: "invalid task status transition",
        current_status: current,
        requested_status: requested,
      });
      return;
    }
    const [commit] = committed(command, run, undefined, "c1");
    const task = {
      ...before,
      status: requested,
      assigned_agent: "new",
      last_error: "boom",
      task_rev: 6,
      updated_ts: NOW,
    };
    expect(run.run().tasks).toStrictEqual([task]);
    expect(run.run()).toMatchObject({ status: "completed", ended_at_ms: 7 });
    expect(commit?.event).toMatchObject({ type: EVENT_OF[requested], status: "completed", command_id: "c1" });
    expect(commit?.event.payload).toStrictEqual({
      task_id: "t",
      task_rev: 6,
      status: requested,
      error: "boom",
      task,
      patch_seq: 1,
    });
    expect(commit?.patch?.op).toBe("update_task_state");
    expect(commit?.patch?.payload).toStrictEqual({
      task_id: "t",
      status: requested,
      lease_owner: null,
      lease_token: null,
      lease_expires_at_ms: null,
      assigned_agent: "new",
      task_rev: 6,
      error: "boom",
      attempt: 2,
      command_id: "c1",
    });
  });

  it("04§8 without agent and error keeps both", () => {
    const run = memoryRun({}, [aTask({ status: "runnable", ...busy, last_error: "before" })]);
    const [commit] = committed(transition("status", { status: "blocked" }), run);
    expect(run.task("t")).toMatchObject({ assigned_agent: "old", last_error: "before", attempt: 2 });
    expect(commit?.event.payload).toMatchObject({ error: null });
    expect(commit?.patch?.payload).toMatchObject({ assigned_agent: "old" });
  });

  it("04§8.3 a task nobody had: null agent in the patch", () => {
    const run = memoryRun({}, [aTask()]);
    const [commit] = committed(transition("status", { status: "runnable" }), run);
    expect(commit?.patch?.payload).toMatchObject({ assigned_agent: null, error: null, attempt: 0 });
    expect(run.task("t")).not.toHaveProperty("assigned_agent");
  });

  const leaving: [WorkStatus, WorkStatus, boolean][] = [
    ["in_progress", "in_progress", true],
    ["in_progress", "blocked", true],
    ["in_progress", "runnable", false],
    ["in_progress", "done", false],
    ["in_progress", "failed", false],
    ["blocked", "blocked", true],
    ["blocked", "runnable", false],
    ["blocked", "failed", false],
  ];
  it.each(leaving)("D56 %s → %s keeps the lease: %s", (current, requested, keeps) => {
    const task = aTask({ status: current, ...leasedTo("ann", "lease-1") });
    const run = memoryRun({}, [task]);
    const command = transition("status", { status: requested, lease_token: "lease-1" });
    const { outcome, commits } = accepted(command, run);
    const lease = { lease_owner: "ann", lease_token: maskToken("lease-1"), lease_expires_at_ms: NOW + 1 };
    const none = { lease_owner: null, lease_token: null, lease_expires_at_ms: null };
    expect(commits[0]?.patch?.payload).toMatchObject(keeps ? lease : none);
    expect(outcome).toMatchObject({
      lease: keeps ? { token: "lease-1", owner: "ann", expires_at_ms: NOW + 1 } : null,
    });
    committed(command, run);
    if (keeps) expect(run.task("t")).toMatchObject(lease);
    else for (const key of Object.keys(lease)) expect(run.task("t")).not.toHaveProperty(key);
  });

  it.each(WORK_STATUSES)("04§6 without a status it is malformed, from %s too", (status) => {
    expect(refused(transition("status"), memoryRun({}, [aTask({ status })]))).toMatchObject({
      code: "FIELD_INVALID",
      issues: [{ field: "status", rule: "required" }],
    });
  });
});

describe("order of checks", () => {
  const leased = () => memoryRun({}, [aTask({ status: "done", task_rev: 5, ...leasedTo("ann", "lease-1") })]);

  it("04§6 an unknown task comes first", () => {
    const command = transition("nonsense", { task_id: "nope", expected_task_rev: 99 });
    expect(refused(command, leased())).toEqual({ code: "TASK_NOT_FOUND", error: "task not found" });
  });

  it("04§6 then the revision", () => {
    for (const action of ["nonsense", "complete"]) {
      expect(refused(transition(action, { expected_task_rev: 4, lease_token: "wrong" }), leased())).toEqual({
        code: "TASK_REV_MISMATCH",
        error: "task revision mismatch",
        task_rev: 5,
      });
    }
  });

  it("04§6 then the lease, before the action's own guard", () => {
    const members = { expected_task_rev: 5 };
    const holder = { lease_owner: "ann", fence: null, lease_expires_at_ms: NOW + 1 };
    expect(refused(transition("complete", members), leased())).toEqual({
      code: "TASK_LEASE_REQUIRED",
      error: "lease token required",
      ...holder,
    });
    expect(refused(transition("complete", { ...members, lease_token: "wrong" }), leased())).toEqual({
      code: "TASK_LEASE_INVALID",
      error: "invalid lease token",
      ...holder,
    });
    expect(refused(transition("complete", { ...members, lease_token: "lease-1" }), leased())).toMatchObject({
      code: "TASK_TRANSITION_INVALID",
      current_status: "done",
    });
  });

  it.each(["nonsense", "", "complete!", "stale_requeue", "claim"])(
    "04§6 the unknown action %j is malformed",
    (action) => {
      const refusal = refused(transition(action, { expected_task_rev: 5 }), leased());
      expect(refusal).toMatchObject({ code: "FIELD_INVALID", issues: [{ field: "action", rule: "one_of" }] });
    },
  );

  it.each([" Complete\n", "COMPLETE"])("04§6 the action %j is trimmed and lower-cased", (action) => {
    const run = memoryRun({}, [aTask({ status: "in_progress" })]);
    committed(transition(action), run);
    expect(run.task("t")?.status).toBe("done");
  });
});
