import { describe, expect, it } from "vitest";
import { WORK_STATUSES, type WorkStatus } from "../../src/protocol/status.ts";
import type { Task, TaskAction } from "../../src/protocol/task.ts";
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

/** A task in the middle of things: every field an action may touch has a value to lose. */
function taskIn(status: WorkStatus, members: Partial<Task> = {}): Task {
  return aTask({
    status,
    payload: { k: "v" },
    workflow_id: "wf",
    assigned_agent: "old",
    priority: 4,
    attempt: 1,
    last_error: "before",
    next_retry_at_ms: 9,
    task_rev: 5,
    ...members,
  });
}

const NO_LEASE = { lease_owner: null, lease_token: null, lease_expires_at_ms: null };

/** One action besides `status`: where it is allowed, the refusal elsewhere, and everything it writes where it is. */
interface ActionRow {
  action: TaskAction;
  from: WorkStatus[];
  refusal: string;
  /** Changed members of the task beside task_rev and updated_ts; undefined: removed. */
  task: Partial<Record<keyof Task, unknown>>;
  eventType: string;
  /** Beside task_id, task_rev, task and patch_seq. */
  event: Record<string, unknown>;
  patchOp: string;
  /** Beside task_id and task_rev. */
  patch: Record<string, unknown>;
}

/** What each action makes of an unleased task when the request names the agent `new` and the error `boom`. */
const ACTIONS: ActionRow[] = [
  {
    action: "heartbeat",
    from: ["in_progress"],
    refusal: "heartbeat requires an in_progress task",
    task: { assigned_agent: "new", lease_owner: "new", lease_expires_at_ms: NOW + 30_000 },
    eventType: "context.task.heartbeat",
    event: {},
    patchOp: "update_task_lease",
    patch: {
      lease_owner: "new",
      assigned_agent: "new",
      lease_token: null,
      lease_expires_at_ms: NOW + 30_000,
    },
  },
  {
    action: "complete",
    from: ["in_progress"],
    refusal: "task must be in_progress before completion",
    task: { status: "done", assigned_agent: "new", last_error: undefined },
    eventType: "context.task.completed",
    event: { status: "done", error: "boom" },
    patchOp: "update_task_state",
    patch: { status: "done", ...NO_LEASE, assigned_agent: "new", attempt: 1 },
  },
  {
    action: "fail",
    from: ["in_progress", "blocked"],
    refusal: "task must be active before failure is recorded",
    task: { status: "failed", assigned_agent: "new", attempt: 2, last_error: "boom" },
    eventType: "context.task.failed",
    event: { status: "failed", error: "boom" },
    patchOp: "update_task_state",
    patch: { status: "failed", ...NO_LEASE, assigned_agent: "new", error: "boom", attempt: 2 },
  },
  {
    action: "release",
    from: ["in_progress", "blocked"],
    refusal: "task must be active before release",
    task: { status: "runnable" },
    eventType: "context.task.requeued",
    event: { status: "runnable", error: "boom" },
    patchOp: "update_task_state",
    patch: { status: "runnable", ...NO_LEASE, assigned_agent: "old", attempt: 1 },
  },
  {
    action: "retry",
    from: ["failed", "blocked"],
    refusal: "task must be failed or blocked before retry",
    task: { status: "runnable", attempt: 2, last_error: undefined, next_retry_at_ms: NOW },
    eventType: "context.task.requeued",
    event: { status: "runnable", error: "boom" },
    patchOp: "update_task_state",
    patch: {
      status: "runnable",
      ...NO_LEASE,
      assigned_agent: "old",
      error: null,
      attempt: 2,
      next_retry_at_ms: NOW,
    },
  },
];

const grid = ACTIONS.flatMap((row) => WORK_STATUSES.map((current) => ({ ...row, current })));

/** A task with members replaced; undefined takes one away. */
function changed(task: Task, members: Partial<Record<keyof Task, unknown>>): Record<string, unknown> {
  const next = { ...task, ...members, task_rev: task.task_rev + 1, updated_ts: NOW };
  return Object.fromEntries(Object.entries(next).filter(([, value]) => value !== undefined));
}

describe("the grid of actions and statuses", () => {
  it.each(grid)("04§8 $action from $current", ({ current, action, from, refusal, ...row }) => {
    const before = taskIn(current);
    const run = memoryRun({ status: "paused" }, [aTask({ id: "other" }), before]);
    const command = transition(action, { agent_id: "new", error: "boom" });
    if (!from.includes(current)) {
      const untouched = run.run();
      expect(refused(command, run)).toEqual({
        code: "TASK_TRANSITION_INVALID",
        error: refusal,
        current_status: current,
      });
      expect(run.run()).toEqual(untouched);
      return;
    }
    const [commit, ...others] = committed(command, run, undefined, "c1");
    const task = changed(before, row.task);
    expect(others).toEqual([]);
    expect(run.run().tasks).toStrictEqual([aTask({ id: "other" }), task]);
    expect(commit?.event).toStrictEqual({
      event_id: expect.stringMatching(/^evt-[0-9a-f-]{36}$/),
      run_id: "r",
      seq: 1,
      ts_ms: NOW,
      type: row.eventType,
      status: "paused",
      run_status: "paused",
      revision: 2,
      step_id: "t",
      task_id: "t",
      command_id: "c1",
      payload: { task_id: "t", task_rev: 6, ...row.event, task, patch_seq: 1 },
    });
    expect(commit?.patch).toStrictEqual({
      patch_id: expect.stringMatching(/^bbp-[0-9a-f-]{36}$/),
      run_id: "r",
      seq: 1,
      ts_ms: NOW,
      source_event_seq: 1,
      op: row.patchOp,
      payload: { task_id: "t", task_rev: 6, ...row.patch, command_id: "c1" },
    });
  });

  it.each(grid.filter(({ current, from }) => from.includes(current)))(
    "04§8 $action from $current without agent, error and command id",
    ({ current, action, task, event, patch }) => {
      const before = taskIn(current);
      const run = memoryRun({}, [before]);
      const [commit] = committed(transition(action), run);
      const after = run.task("t");
      const keptError = "last_error" in task && task.last_error === undefined ? undefined : "before";
      expect(after?.last_error).toBe(keptError);
      expect(after?.assigned_agent).toBe("old");
      expect(commit?.event).not.toHaveProperty("command_id");
      expect(commit?.event.payload).toStrictEqual({
        task_id: "t",
        task_rev: 6,
        ...event,
        ...("error" in event && { error: null }),
        task: after,
        patch_seq: 1,
      });
      expect(commit?.patch?.payload).toStrictEqual({
        task_id: "t",
        task_rev: 6,
        ...patch,
        assigned_agent: "old",
        ...(action === "heartbeat" && { lease_owner: null }),
        ...(action === "fail" && { error: "before" }),
      });
    },
  );
});

describe("effects on a leased task", () => {
  const leased = (status: WorkStatus) => taskIn(status, leasedTo("ann", "lease-1"));
  const proof = { lease_token: "lease-1" };

  it.each([
    ["complete", "in_progress"],
    ["fail", "in_progress"],
    ["fail", "blocked"],
    ["release", "in_progress"],
    ["release", "blocked"],
    ["retry", "blocked"],
    ["retry", "failed"],
  ] as const)("04§8 %s from %s clears the lease", (action, status) => {
    const run = memoryRun({}, [leased(status)]);
    const { outcome } = accepted(transition(action, proof), run);
    expect(outcome).toMatchObject({ op: "transition_task", lease: null });
    const [commit] = committed(transition(action, proof), run);
    for (const key of ["lease_owner", "lease_token", "lease_expires_at_ms"]) {
      expect(run.task("t")).not.toHaveProperty(key);
      expect(commit?.patch?.payload).toHaveProperty(key, null);
    }
    expect(run.task("t")?.assigned_agent).toBe("ann");
  });

  it("D05 04§8 a heartbeat extends the lease; the holder gets the token back, the log has its fingerprint", () => {
    const run = memoryRun({}, [leased("in_progress")]);
    const command = transition("heartbeat", { ...proof, lease_ms: 60_000, agent_id: " ann " });
    const { outcome, commits } = accepted(command, run);
    const stored = changed(leased("in_progress"), { lease_expires_at_ms: NOW + 60_000 });
    expect(outcome).toEqual({
      op: "transition_task",
      task: { ...stored, lease_token: "lease-1" },
      patch: commits[0]?.patch,
      lease: {
        token: "lease-1",
        owner: "ann",
        fence: null,
        expires_at_ms: NOW + 60_000,
        expires_in_ms: 60_000,
      },
    });
    expect(commits[0]?.event.payload).toMatchObject({ task: stored });
    expect(commits[0]?.patch?.payload).toEqual({
      task_id: "t",
      lease_owner: "ann",
      assigned_agent: "ann",
      lease_token: maskToken("lease-1"),
      lease_expires_at_ms: NOW + 60_000,
      task_rev: 6,
    });
  });

  it.each(["bob", "Ann", "ann b"])("D57 a heartbeat by %j is refused: the lease is another's", (agent_id) => {
    const run = memoryRun({}, [leased("in_progress")]);
    expect(refused(transition("heartbeat", { ...proof, agent_id }), run)).toEqual({
      code: "TASK_LEASE_INVALID",
      error: "lease is held by another agent",
      lease_owner: "ann",
      fence: null,
      lease_expires_at_ms: NOW + 1,
    });
  });

  it.each(["", "  "])("D57 a heartbeat's blank agent %j counts as absent", (agent_id) => {
    const run = memoryRun({}, [leased("in_progress")]);
    committed(transition("heartbeat", { ...proof, agent_id }), run);
    expect(run.task("t")).toMatchObject({ lease_owner: "ann", assigned_agent: "ann", task_rev: 6 });
  });

  it("D57 a token sent for an unleased task is ignored, never adopted", () => {
    const run = memoryRun({}, [taskIn("in_progress")]);
    const { outcome } = accepted(transition("heartbeat", { lease_token: "lease-mine" }), run);
    expect(outcome).toMatchObject({ lease: null });
    const [commit] = committed(transition("heartbeat", { lease_token: "lease-mine" }), run);
    expect(run.task("t")).not.toHaveProperty("lease_token");
    expect(JSON.stringify(commit)).not.toContain("lease-mine");
  });

  it("04§8.4 fail, then retry: attempt 2, revisions 6 and 7", () => {
    const task = aTask({ status: "in_progress", task_rev: 5, ...leasedTo("ann", "L") });
    const run = memoryRun({}, [task]);
    const [failed] = committed(transition("fail", { lease_token: "L", error: "boom" }), run);
    expect(run.task("t")).toMatchObject({ status: "failed", attempt: 1, last_error: "boom", task_rev: 6 });
    expect(failed?.event.payload).toMatchObject({ task_rev: 6, status: "failed", error: "boom" });
    const [retried] = committed(transition("retry"), run);
    expect(run.task("t")).toMatchObject({
      status: "runnable",
      attempt: 2,
      next_retry_at_ms: NOW,
      task_rev: 7,
    });
    expect(run.task("t")).not.toHaveProperty("last_error");
    expect(retried?.event).toMatchObject({ type: "context.task.requeued", payload: { error: null } });
  });
});
