import type { Task } from "../protocol/task.ts";
import type { FailureCause } from "../protocol/task-life.ts";
import { afterAttempt, deadLetter, type Moment, withAttempt } from "./attempts.ts";
import type { Due } from "./clocks.ts";
import { isStale, withoutLease } from "./lease.ts";
import { comingBack, NO_LEASE, requeueStale, type TaskChange } from "./task-actions.ts";

/** Why the engine ended, or took back, a task by itself: what its event says. */
export type SettleReason = Exclude<FailureCause, "attempts_exhausted" | "not_retryable"> | "revoked";

/**
 * What becomes of a task whose clock has run out.
 *
 * S1 What came first counts: a lease that ran out before the clock did ends as leases do, and the clock finds what that leaves.
 * S2 Each ending has an event of its own that says the reason, and what it comes to is `afterAttempt`'s to say.
 * @param failedDependencyId set where the clock is `dependency`.
 */
export function settled(task: Task, due: Due, failedDependencyId: string | null, moment: Moment): TaskChange {
  if (isStale(task, due.at_ms)) return requeueStale(task, moment);
  const { clocks = {} } = task;
  switch (due.clock) {
    case "start": {
      const error = `task was not claimed within ${clocks.start_within_ms} ms`;
      const next = deadLetter(withoutLease(task), "start_deadline", {}, moment.nowMs);
      return ended(task, next, "start_deadline", error);
    }
    case "run": {
      const error = `task ran longer than ${clocks.run_within_ms} ms`;
      const next = afterAttempt(task, { outcome: "run_time_exceeded", error }, moment);
      return ended(task, next, "run_time_limit", error);
    }
    case "silent": {
      const error = `no progress was reported for ${clocks.silent_within_ms} ms`;
      return ended(task, afterAttempt(task, { outcome: "silent", error }, moment), "silence_limit", error);
    }
    case "finish": {
      const error = `task was not finished within ${clocks.finish_within_ms} ms`;
      return ended(task, afterAttempt(task, { outcome: "deadline", error }, moment), "total_deadline", error);
    }
    case "revoke":
      return cancelled(task, task.cancellation?.reason, moment);
    case "dependency":
      return withoutDependency(task, failedDependencyId ?? "", moment);
  }
}

/** The task, cancelled for good: with the attempt that was under way, if one was. */
export function cancelled(task: Task, reason: string | undefined, moment: Moment): TaskChange {
  const error = reason === undefined ? "task was cancelled" : `task was cancelled: ${reason}`;
  const cancellation = {
    requested_at_ms: moment.nowMs,
    revoke_at_ms: moment.nowMs,
    ...(reason !== undefined && { reason }),
  };
  const next = afterAttempt({ ...task, cancellation }, { outcome: "cancelled", error }, moment);
  return ended(task, next, "cancelled", error);
}

/** The task, taken from a holder who did not stop in time; the attempt does not count. @param error what the holder was told. */
export function revoked(task: Task, error: string, moment: Moment): TaskChange {
  const next = afterAttempt(task, { outcome: "revoked", error }, moment);
  return ended(task, next, next.status === "failed" ? "cancelled" : "revoked", error);
}

/** What `on_dependency_failure` asks for. A blocked task may still have its holder's lease. */
function withoutDependency(task: Task, dependency_id: string, moment: Moment): TaskChange {
  const error = `dependency ${dependency_id} failed`;
  const bare = withAttempt(task, { outcome: "revoked", error }, moment.nowMs);
  if (task.on_dependency_failure === "skip") {
    const { last_error: _error, ...rest } = bare;
    return ended(task, { ...rest, status: "done", skipped: true }, "dependency_failed", null);
  }
  const failed = deadLetter(bare, "dependency_failed", {}, moment.nowMs);
  const failure = { cause: "dependency_failed", at_ms: moment.nowMs, dependency_id } as const;
  return ended(task, { ...failed, failure }, "dependency_failed", error);
}

/** @param error null where the task did not fail. */
function ended(before: Task, after: Task, reason: SettleReason, error: string | null): TaskChange {
  const task: Task = {
    ...after,
    ...(error !== null && { last_error: error }),
    task_rev: before.task_rev + 1,
  };
  const told = {
    reason,
    ...(task.failure?.dependency_id !== undefined && { dependency_id: task.failure.dependency_id }),
  };
  return {
    task,
    eventType: eventTypeOf(task),
    eventPayload: {
      task_id: task.id,
      task_rev: task.task_rev,
      workflow_id: task.workflow_id ?? null,
      status: task.status,
      lease_owner: before.lease_owner ?? null,
      fence: before.fence ?? null,
      error,
      ...told,
    },
    patchOp: "update_task_state",
    patchPayload: {
      task_id: task.id,
      status: task.status,
      ...NO_LEASE,
      assigned_agent: task.assigned_agent ?? null,
      task_rev: task.task_rev,
      attempt: task.attempt,
      error: task.last_error ?? null,
      ...comingBack(task),
      ...told,
    },
  };
}

function eventTypeOf(task: Task): string {
  if (task.status === "done") return "context.task.skipped";
  return task.status === "failed" ? "context.task.failed" : "context.task.requeued";
}
