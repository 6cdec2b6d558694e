import { DEFAULT_LEASE_MS, MAX_LEASE_MS, MIN_LEASE_MS } from "../protocol/limits.ts";
import type { WorkStatus } from "../protocol/status.ts";
import type { Task, TaskAction } from "../protocol/task.ts";

/** A requested lease length in ms, clamped (contract 04 §4). */
export function leaseMs(requestedMs: number | null | undefined): number {
  return Math.min(MAX_LEASE_MS, Math.max(MIN_LEASE_MS, requestedMs ?? DEFAULT_LEASE_MS));
}

/** Whether a task's lease has run out while it was worked on (contract 04 §9). */
export function isStale(task: Task, nowMs: number): boolean {
  return (
    task.status === "in_progress" &&
    task.lease_expires_at_ms !== undefined &&
    task.lease_expires_at_ms <= nowMs
  );
}

/** Whether a task is worked on under a lease that was given no later than this fence. */
export function isHeldUpTo(task: Task, fence: number): boolean {
  return (
    task.status === "in_progress" &&
    task.lease_expires_at_ms !== undefined &&
    task.fence !== undefined &&
    task.fence <= fence
  );
}

/** A task without its lease, and what belongs to the attempt that the lease was of. */
export function withoutLease(task: Task): Task {
  const {
    lease_owner: _owner,
    lease_token: _token,
    lease_expires_at_ms: _expires,
    fence: _fence,
    claimed_at_ms: _claimed,
    progress: _progress,
    cancellation: _cancellation,
    ...rest
  } = task;
  return rest;
}

/**
 * Whether a transition must prove the lease (contract 04 §7). Taking leased work away (`retry`, or `status` back to
 * runnable or pending) needs the token too, until the lease has expired: a blocked task whose holder is gone must stay
 * recoverable (07 D55).
 */
export function needsToken(
  task: Task,
  action: TaskAction | null,
  requested: WorkStatus | null,
  nowMs: number,
): boolean {
  if (task.lease_token === undefined || action === null) return false;
  const takesAway =
    action === "retry" || (action === "status" && (requested === "runnable" || requested === "pending"));
  if (takesAway) return task.lease_expires_at_ms === undefined || task.lease_expires_at_ms > nowMs;
  return action !== "status" || requested !== null;
}
