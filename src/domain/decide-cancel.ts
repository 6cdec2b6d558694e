import type { Task } from "../protocol/task.ts";
import type { Cancellation } from "../protocol/task-life.ts";
import type { CommandOf } from "./command.ts";
import { endRequestedRollback } from "./decide-rollback.ts";
import { movedOn, onlyCommit, outOfBounds } from "./decide-task.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { cancelOutcome } from "./outcome.ts";
import { type Refusal, taskNotFound } from "./refusals.ts";
import { cancelled } from "./settle.ts";
import { graceMs } from "./stop.ts";
import type { TaskChange } from "./task-actions.ts";
import type { View } from "./view.ts";

/**
 * Cancels a task: at once when nobody holds it, else its holder is asked to stop, may still complete, and loses the lease at the end of
 * the grace. To ask again may make that shorter, never longer.
 */
export function decideCancel(
  command: CommandOf<"cancel_task">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const task = view.task(command.task_id);
  if (task === null) return { ok: false, refusal: taskNotFound };
  const refusal =
    outOfBounds(command.task_types, task.task_type) ??
    movedOn(task, command.expected_task_rev) ??
    refusalOfEnded(task);
  if (refusal !== null) return { ok: false, refusal };
  const cancellation = cancellationOf(task, command, graceMs(view.head().run), context.nowMs);
  const isHeld = isOut(task, context.nowMs) && cancellation.revoke_at_ms > context.nowMs;
  const change = isHeld ? asked(task, cancellation) : cancelled(task, cancellation.reason, context);
  const draft = new Draft(view.head(), context, commandId);
  const changed = draft.task(change);
  const { event } = onlyCommit(draft);
  endRequestedRollback(draft, view, changed);
  return { ok: true, commits: draft.commits, outcome: cancelOutcome(event) };
}

function refusalOfEnded({ status }: Task): Refusal | null {
  if (status !== "done" && status !== "failed") return null;
  return { code: "TASK_TRANSITION_INVALID", error: "task is over", current_status: status };
}

function cancellationOf(
  task: Task,
  { reason, grace_ms }: CommandOf<"cancel_task">,
  runGraceMs: number,
  nowMs: number,
): Cancellation {
  const before = task.cancellation;
  const told = reason ?? before?.reason;
  return {
    requested_at_ms: before?.requested_at_ms ?? nowMs,
    revoke_at_ms: Math.min(before?.revoke_at_ms ?? Infinity, nowMs + (grace_ms ?? runGraceMs)),
    ...(told !== undefined && { reason: told }),
  };
}

/** Whether somebody works on it under a lease that has not run out. */
function isOut({ lease_token, lease_expires_at_ms }: Task, nowMs: number): boolean {
  return lease_token !== undefined && (lease_expires_at_ms === undefined || lease_expires_at_ms > nowMs);
}

function asked(before: Task, cancellation: Cancellation): TaskChange {
  const task: Task = { ...before, cancellation, task_rev: before.task_rev + 1 };
  return {
    task,
    eventType: "context.task.cancel_requested",
    eventPayload: {
      task_id: task.id,
      task_rev: task.task_rev,
      workflow_id: task.workflow_id ?? null,
      status: task.status,
      lease_owner: task.lease_owner ?? null,
      fence: task.fence ?? null,
      reason: cancellation.reason ?? null,
      revoke_at_ms: cancellation.revoke_at_ms,
    },
    patchOp: "update_task_state",
    patchPayload: { task_id: task.id, status: task.status, task_rev: task.task_rev, cancellation },
  };
}
