import { describe, expect, it } from "vitest";
import type { Command, CommandOf } from "../../src/domain/command.ts";
import { newHead, type RunHead } from "../../src/domain/head.ts";
import type { MemoryRun } from "../../src/domain/memory.ts";
import { haltBy } from "../../src/domain/stop.ts";
import { DEFAULT_GRACE_MS } from "../../src/protocol/limits.ts";
import type { RunStatus } from "../../src/protocol/status.ts";
import type { Stop, Task } from "../../src/protocol/task.ts";
import {
  aContext,
  accepted,
  aRun,
  aTask,
  committed,
  leasedTo,
  memoryRun,
  memoryRunOf,
  NOW,
  refused,
} from "../support/builders.ts";

type Action = CommandOf<"control_run">["action"];
const control = (action: Action, members: Partial<CommandOf<"control_run">> = {}) =>
  ({ op: "control_run", action, ...members }) as const;
const cancel = (members: Partial<CommandOf<"cancel_task">> = {}) =>
  ({ op: "cancel_task", task_id: "t", ...members }) as const;
const at = (run: MemoryRun, nowMs: number, command: Command) => committed(command, run, aContext(nowMs));

/** What a claim gave, good for long. */
const held = (members: Partial<Task> = {}): Partial<Task> => ({
  status: "in_progress",
  ...leasedTo("ann", "lease-1", NOW + 100_000),
  fence: 3,
  claimed_at_ms: NOW - 1_000,
  ...members,
});

/** A run in this status, with commits behind it. */
const runIn = (status: RunStatus, head: Partial<RunHead> = {}) =>
  memoryRunOf({ run: aRun({ status, last_event_seq: 7, revision: 8 }), ...head });

const GOING_ON: RunStatus[] = ["queued", "planning", "running", "awaiting_approval", "blocked"];
const OVER: RunStatus[] = ["failed", "completed", "cancelled"];

describe("claims: pausing, resuming and cancelling a run", () => {
  const allowed: Record<Action, RunStatus[]> = {
    pause: [...GOING_ON, "paused"],
    resume: ["paused", "blocked", ...OVER],
    cancel: [...GOING_ON, "paused", "cancelled"],
  };
  const after: Record<Action, [string, RunStatus]> = {
    pause: ["run_paused", "paused"],
    resume: ["run_resumed", "running"],
    cancel: ["run_cancelled", "cancelled"],
  };
  const cases = (["pause", "resume", "cancel"] as const).flatMap((action) =>
    ([...GOING_ON, "paused", ...OVER] as const).map((status) => ({ action, status })),
  );

  it.each(cases)("$action a run that is $status", ({ action, status }) => {
    const run = runIn(status);
    if (!allowed[action].includes(status)) {
      expect(refused(control(action), run)).toMatchObject({
        code: "RUN_TRANSITION_INVALID",
        run_status: status,
      });
      return;
    }
    const [type, wanted] = after[action];
    const [commit] = at(run, NOW, control(action, { reason: "why" }));
    expect(commit?.event).toMatchObject({
      type,
      status: wanted,
      run_status: wanted,
      payload: { reason: "why" },
    });
    expect(commit?.event).not.toHaveProperty("origin");
    expect(run.head().run.status).toBe(wanted);
    expect(run.head().halt).toEqual(
      action === "resume" ? undefined : { seq: 8, revoke_at_ms: NOW + DEFAULT_GRACE_MS, reason: "why" },
    );
  });

  it.each([
    ["the request's", 5_000, 70_000, 5_000],
    ["none at all", 0, 70_000, 0],
    ["the run's", undefined, 70_000, 70_000],
    ["the deployment's", undefined, undefined, DEFAULT_GRACE_MS],
  ])("the grace is %s", (_, grace_ms, settings, expected) => {
    const run = memoryRun({ ...(settings !== undefined && { settings: { grace_ms: settings } }) });
    const [commit] = at(run, NOW, control("pause", { grace_ms }));
    expect(commit?.event.halt).toEqual({ revoke_at_ms: NOW + expected });
    expect(run.head().halt?.revoke_at_ms).toBe(NOW + expected);
  });

  it("its event tells the grace that was asked for, but not where nobody is to stop", () => {
    const asked = { reason: "why", grace_ms: 5 };
    const told = (action: Action, members: object) =>
      at(runIn("paused"), NOW, control(action, members))[0]?.event;
    expect(told("pause", asked)?.payload).toStrictEqual(asked);
    expect(told("cancel", { grace_ms: 0 })?.payload).toStrictEqual({ reason: null, grace_ms: 0 });
    expect(told("pause", {})?.payload).toStrictEqual({ reason: null });
    expect(told("resume", asked)?.payload).toStrictEqual({ reason: "why" });
    expect(told("resume", asked)).not.toHaveProperty("halt");
  });

  it("to ask again may make a grace that runs shorter, never longer, and covers what was given out since", () => {
    const run = memoryRun();
    at(run, NOW, control("pause", { grace_ms: 30_000, reason: "first" }));
    at(run, NOW + 10, control("pause", { grace_ms: 60_000 }));
    expect(run.head().halt).toEqual({ seq: 2, revoke_at_ms: NOW + 30_000, reason: "first" });
    at(run, NOW + 20, control("cancel", { grace_ms: 100, reason: "second" }));
    expect(run.head().halt).toEqual({ seq: 3, revoke_at_ms: NOW + 120, reason: "second" });
    at(run, NOW + 20_000, control("cancel", { grace_ms: 1_000 }));
    expect(run.head().halt).toMatchObject({ seq: 4, revoke_at_ms: NOW + 21_000 });
  });

  it("a grace is over at its last millisecond: who asks again then gives a new one", () => {
    const run = memoryRun();
    at(run, NOW, control("pause", { grace_ms: 100 }));
    at(run, NOW + 100, control("pause", { grace_ms: 50 }));
    expect(run.head().halt?.revoke_at_ms).toBe(NOW + 150);
  });

  it("what resumes before the end of the grace loses nothing", () => {
    const run = memoryRun({}, [aTask(held({ fence: 0 }))]);
    at(run, NOW, control("pause", { grace_ms: 10 }));
    at(run, NOW + 5, control("resume"));
    expect(at(run, NOW + 10_000, { op: "settle_due" })).toEqual([]);
  });
});

describe("claims: whatever ends or pauses a run by the strict rules halts it", () => {
  const halt = { seq: 8, revoke_at_ms: NOW + DEFAULT_GRACE_MS };
  const event = (status: RunStatus, type = "note"): Command => ({
    op: "append_event",
    type,
    status,
    payload: null,
  });
  const todos: Command = {
    op: "sync_todos",
    todos: [{ id: "a", content: "x", status: "done" }],
    replace: true,
    source_session_id: null,
    source_run_id: null,
  };
  const elsewhere: Command = { op: "validate_workspace", phase: "p", current_path: "/elsewhere" };
  const put = (status: RunStatus): Command => ({
    op: "replace_run",
    run: { ...aRun({ status, ...(OVER.includes(status) && { ended_at_ms: 1 }) }), tasks: [] },
  });
  const ways: [string, Command][] = [
    ["an event that pauses", event("paused")],
    ["an event of another engine's type that cancels", event("running", "run_cancelled")],
    ["an event that completes", event("completed", "session_run_finished")],
    ["an event of an engine's type", event("failed", "context.run.replaced")],
    ["todos that are all done", todos],
    ["an agent in another workspace", elsewhere],
    ["a PUT", put("cancelled")],
  ];

  it.each(ways)("%s", (_, command) => {
    const run = runIn("running");
    const [commit] = at(run, NOW, { ...command, strict: true });
    expect(commit?.event.halt).toEqual({ revoke_at_ms: halt.revoke_at_ms });
    expect(run.head().halt).toEqual(halt);
  });

  it.each(ways)("%s: not by the contract's rules", (_, command) => {
    const run = runIn("running");
    const [commit] = at(run, NOW, command);
    expect(commit?.event).not.toHaveProperty("halt");
    expect(run.head()).not.toHaveProperty("halt");
  });

  it("a client cannot make up a halt", () => {
    const run = runIn("running");
    const forged = { halt: { revoke_at_ms: 1 } };
    at(run, NOW, {
      op: "append_event",
      type: "run_paused",
      status: "paused",
      payload: forged,
      ...forged,
    } as Command);
    expect(run.head()).not.toHaveProperty("halt");
  });

  it("going from one end to another leaves a halt as it is; one without a halt gets one", () => {
    const before = { seq: 2, revoke_at_ms: NOW + 5 };
    const halted = runIn("paused", { halt: before });
    at(halted, NOW, { ...event("completed"), strict: true });
    expect(halted.head().halt).toEqual(before);
    const unhalted = runIn("paused");
    at(unhalted, NOW, { ...event("paused"), strict: true });
    expect(unhalted.head()).not.toHaveProperty("halt");
    at(unhalted, NOW, { ...event("completed"), strict: true });
    expect(unhalted.head().halt).toMatchObject({ seq: 9 });
  });

  it.each(["running", "blocked"] as const)(
    "leaving that status for %s, by whatever event, lifts it",
    (status) => {
      const run = runIn("paused", { halt });
      at(run, NOW, event(status));
      expect(run.head()).not.toHaveProperty("halt");
    },
  );
});

describe("claims: what goes on is halted by nothing", () => {
  it.each(GOING_ON)("%s", (status) => {
    for (const before of [...GOING_ON, "paused", ...OVER] as const) {
      expect(haltBy({ ...newHead(aRun({ status: before })) }, status, null, NOW)).toBeNull();
    }
  });
});

describe("claims: cancelling a task", () => {
  it.each<[string, Partial<Task>]>([
    ["pending", {}],
    ["runnable", { status: "runnable", next_retry_at_ms: NOW + 9 }],
    ["blocked", { status: "blocked" }],
    ["in progress without a lease", { status: "in_progress" }],
    ["under a lease that has run out", held({ lease_expires_at_ms: NOW })],
  ])("%s: at once", (_, members) => {
    const run = memoryRun({}, [aTask(members)]);
    const { outcome } = accepted(cancel({ reason: "no need" }), run);
    const [commit, ...others] = at(run, NOW, cancel({ reason: "no need" }));
    expect(others).toEqual([]);
    const failure = { cause: "cancelled", at_ms: NOW, reason: "no need" };
    expect(run.task("t")).toMatchObject({ status: "failed", failure, task_rev: 2 });
    for (const member of ["dead_letter", "cancellation", "lease_token"]) {
      expect(run.task("t")).not.toHaveProperty(member);
    }
    expect(commit?.event).toMatchObject({ type: "context.task.failed", payload: { reason: "cancelled" } });
    expect(outcome).toEqual({ op: "cancel_task", task: run.task("t") });
  });

  it.each(["in_progress", "blocked"] as const)("%s under a lease: the holder is asked to stop", (status) => {
    const run = memoryRun({}, [aTask(held({ status }))]);
    const [commit] = at(run, NOW, cancel({ reason: "no need", grace_ms: 5_000 }));
    const cancellation = { requested_at_ms: NOW, revoke_at_ms: NOW + 5_000, reason: "no need" };
    expect(run.task("t")).toMatchObject({ ...held({ status }), cancellation, task_rev: 2 });
    expect(commit?.event).toMatchObject({
      type: "context.task.cancel_requested",
      payload: { reason: "no need", revoke_at_ms: NOW + 5_000, lease_owner: "ann", fence: 3 },
    });
    expect(run.dueTasks(NOW + 4_999, 9)).toEqual([]);
    at(run, NOW + 5_000, { op: "settle_due" });
    expect(run.task("t")).toMatchObject({ status: "failed", failure: { cause: "cancelled" } });
  });

  it("under a lease without an end the holder is asked too", () => {
    const { lease_expires_at_ms: _expires, ...endless } = held();
    const run = memoryRun({}, [aTask(endless)]);
    at(run, NOW, cancel({ grace_ms: 5_000 }));
    expect(run.task("t")).toMatchObject({
      status: "in_progress",
      cancellation: { revoke_at_ms: NOW + 5_000 },
    });
  });

  it("the request, exactly: event and patch", () => {
    const run = memoryRun({}, [aTask(held({ workflow_id: "w" }))]);
    const [commit] = at(run, NOW, cancel({ grace_ms: 5_000 }));
    const told = { task_id: "t", task_rev: 2, status: "in_progress" };
    expect(commit?.event.payload).toEqual({
      ...told,
      workflow_id: "w",
      lease_owner: "ann",
      fence: 3,
      reason: null,
      revoke_at_ms: NOW + 5_000,
      task: run.task("t"),
      patch_seq: 1,
    });
    const cancellation = { requested_at_ms: NOW, revoke_at_ms: NOW + 5_000 };
    expect(commit?.patch).toMatchObject({ op: "update_task_state" });
    expect(commit?.patch?.payload).toEqual({ ...told, cancellation });
  });

  it("without a grace the lease is revoked at once", () => {
    const run = memoryRun({}, [aTask(held())]);
    at(run, NOW, cancel({ grace_ms: 0 }));
    expect(run.task("t")).toMatchObject({ status: "failed", attempts: [{ fence: 3, outcome: "cancelled" }] });
  });

  it.each([
    [undefined, undefined, DEFAULT_GRACE_MS],
    [undefined, 7_000, 7_000],
    [9_000, 7_000, 9_000],
  ])("grace %s, where the run says %s: %s ms", (grace_ms, settings, expected) => {
    const run = memoryRun({ ...(settings !== undefined && { settings: { grace_ms: settings } }) }, [
      aTask(held()),
    ]);
    at(run, NOW, cancel({ grace_ms }));
    expect(run.task("t")?.cancellation?.revoke_at_ms).toBe(NOW + expected);
  });

  it("to ask again may make the grace shorter, never longer, and keeps the reason that there is", () => {
    const run = memoryRun({}, [aTask(held())]);
    at(run, NOW, cancel({ reason: "first", grace_ms: 5_000 }));
    at(run, NOW + 1, cancel({ grace_ms: 60_000 }));
    expect(run.task("t")?.cancellation).toEqual({
      requested_at_ms: NOW,
      revoke_at_ms: NOW + 5_000,
      reason: "first",
    });
    at(run, NOW + 2, cancel({ reason: "second", grace_ms: 1_000 }));
    expect(run.task("t")?.cancellation).toMatchObject({ revoke_at_ms: NOW + 1_002, reason: "second" });
    at(run, NOW + 3, cancel({ grace_ms: 0 }));
    expect(run.task("t")).toMatchObject({ failure: { cause: "cancelled", reason: "second" } });
  });

  it("the next claim of the task starts without it", () => {
    const run = memoryRun({}, [aTask(held())]);
    at(run, NOW, cancel());
    expect(run.nextClaimable({}, NOW)).toBeNull();
  });

  it.each(["done", "failed"] as const)("a task that is %s is over", (status) => {
    const run = memoryRun({}, [aTask({ status })]);
    expect(refused(cancel(), run)).toMatchObject({ code: "TASK_TRANSITION_INVALID", current_status: status });
  });

  it("what cannot be: no such task, another revision, types that the caller is bound to", () => {
    const run = memoryRun({}, [aTask()]);
    expect(refused(cancel({ task_id: "nope" }), run).code).toBe("TASK_NOT_FOUND");
    expect(refused(cancel({ expected_task_rev: 2 }), run)).toMatchObject({
      code: "TASK_REV_MISMATCH",
      task_rev: 1,
    });
    expect(refused(cancel({ task_types: ["other"] }), run).code).toBe("TOKEN_BOUND");
  });

  it.each<[string, Partial<CommandOf<"transition_task">>, Partial<Task>]>([
    ["set aside is still to be cancelled", { status: "blocked" }, { status: "blocked" }],
    ["gone on with too", { status: "in_progress" }, { status: "in_progress" }],
    ["done is done", { status: "done" }, { status: "done" }],
    ["given up is cancelled", { status: "runnable" }, { status: "failed" }],
    ["failed is cancelled", { status: "failed" }, { status: "failed" }],
  ])("by its status, work that is %s", (_, members, after) => {
    const cancellation = { requested_at_ms: NOW, revoke_at_ms: NOW + 500 };
    const run = memoryRun({}, [aTask(held({ cancellation }))]);
    at(run, NOW, {
      op: "transition_task",
      task_id: "t",
      action: "status",
      lease_token: "lease-1",
      ...members,
    });
    const task = run.task("t");
    expect(task).toMatchObject(after);
    const isOver = after.status === "done" || after.status === "failed";
    expect(task?.cancellation).toEqual(isOver ? undefined : cancellation);
    expect(task?.failure?.cause).toBe(after.status === "failed" ? "cancelled" : undefined);
    // Work that is done was no failed attempt.
    expect(task?.attempts?.length ?? 0).toBe(after.status === "failed" ? 1 : 0);
  });

  it("tasks that mind a failed dependency follow", () => {
    const minds = { id: "next", depends_on_task_ids: ["t"], on_dependency_failure: "fail" } as const;
    const run = memoryRun({}, [
      aTask(),
      aTask({ ...minds, depends_on_task_ids: [...minds.depends_on_task_ids] }),
    ]);
    at(run, NOW, cancel());
    at(run, NOW, { op: "settle_due" });
    expect(run.task("next")).toMatchObject({ failure: { cause: "dependency_failed", dependency_id: "t" } });
  });
});

describe("claims: a heartbeat tells the holder whether to go on", () => {
  const beat: CommandOf<"transition_task"> = {
    op: "transition_task",
    task_id: "t",
    action: "heartbeat",
    lease_token: "lease-1",
  };
  const cancellation = { requested_at_ms: NOW, revoke_at_ms: NOW + 500, reason: "no need" };
  const halt = { seq: 5, revoke_at_ms: NOW + 900, reason: "lunch" };
  const paused = { reason: "run_paused", detail: "lunch", revoke_at_ms: NOW + 900 } as const;
  const cancelled = { reason: "task_cancelled", detail: "no need", revoke_at_ms: NOW + 500 } as const;

  const cases: [string, RunStatus, Partial<RunHead>, Partial<Task>, Stop | null][] = [
    ["nothing", "running", {}, {}, null],
    ["a paused run", "paused", { halt }, {}, paused],
    ["a run that was cancelled", "cancelled", { halt }, {}, { ...paused, reason: "run_cancelled" }],
    ["a run that has ended", "completed", { halt }, {}, { ...paused, reason: "run_ended" }],
    ["a run that has failed", "failed", { halt }, {}, { ...paused, reason: "run_ended" }],
    ["a run that nobody halted", "paused", {}, {}, { reason: "run_paused", revoke_at_ms: null }],
    ["a lease of the halt's own commit", "paused", { halt }, { fence: 5 }, paused],
    ["a lease that came later", "paused", { halt }, { fence: 6 }, { ...paused, revoke_at_ms: null }],
    ["a task to be cancelled", "running", {}, { cancellation }, cancelled],
    ["both, the task first", "paused", { halt }, { cancellation }, cancelled],
    [
      "both, the run first",
      "paused",
      { halt: { seq: 5, revoke_at_ms: NOW + 100 } },
      { cancellation },
      { reason: "run_paused", revoke_at_ms: NOW + 100 },
    ],
  ];

  it.each(cases)("%s", (_, status, head, members, stop) => {
    const run = runIn(status, head);
    run.restore({ task: aTask(held(members)) });
    const { outcome, commits } = accepted({ ...beat, strict: true }, run);
    expect(outcome).toMatchObject({ standing: { run_status: status, stop } });
    const told = commits.map(({ event }) => (event.payload as { stop?: Stop }).stop);
    expect(told).toEqual([stop ?? undefined]);
  });

  it("of two for one moment it is told the run's", () => {
    const run = runIn("paused", { halt: { ...halt, revoke_at_ms: cancellation.revoke_at_ms } });
    run.restore({ task: aTask(held({ cancellation })) });
    const stop = { ...paused, revoke_at_ms: cancellation.revoke_at_ms };
    expect(accepted({ ...beat, strict: true }, run).outcome).toMatchObject({ standing: { stop } });
  });

  it.each(["complete", "fail", "release"])("no other action does: %s", (action) => {
    const run = runIn("paused", { halt });
    run.restore({ task: aTask(held({ cancellation })) });
    const { outcome, commits } = accepted({ ...beat, action, strict: true }, run);
    expect(outcome).not.toHaveProperty("standing");
    expect(commits[0]?.event.payload).not.toHaveProperty("stop");
  });

  it("by the contract's rules it tells nothing", () => {
    const run = runIn("paused", { halt });
    run.restore({ task: aTask(held({ cancellation })) });
    const { outcome, commits } = accepted(beat, run);
    expect(outcome).not.toHaveProperty("standing");
    expect(commits[0]?.event.payload).not.toHaveProperty("stop");
  });
});
