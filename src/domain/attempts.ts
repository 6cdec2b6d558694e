import { cut } from "../protocol/cut.ts";
import { MAX_ATTEMPTS_KEPT, MAX_KEPT_ERROR_LENGTH } from "../protocol/limits.ts";
import type { Task } from "../protocol/task.ts";
import type { Attempt, AttemptOutcome, FailureCause, RetryPolicy } from "../protocol/task-life.ts";
import { withoutLease } from "./lease.ts";

/** How an attempt ends that did not complete its task, or why a task that nobody holds comes to its end. */
export interface AttemptEnd {
  outcome: AttemptOutcome;
  error?: string | undefined;
  error_code?: string | undefined;
  /** False: another attempt makes no sense. */
  retryable?: boolean | undefined;
}

/** What a decision knows of the moment. */
export interface Moment {
  nowMs: number;
  random(): number;
}

/**
 * The task after such an end: without lease, its attempt among those that were, and back on the board or failed. Its revision and
 * `last_error` are the caller's to set.
 *
 * A1 Who releases, or is told to stop, has not failed: the attempt does not count.
 * A2 Failures, crashes and time-outs count where the task has a retry policy; past `max_attempts`, or where another attempt makes no
 *    sense, it is a dead letter. Without a policy the contract's rules hold (04 §8, §9), and time limits are final.
 * A3 A task that is to be cancelled ends with its attempt, however that ends.
 */
export function afterAttempt(task: Task, end: AttemptEnd, moment: Moment): Task {
  const ended = withAttempt(task, end, moment.nowMs);
  const { cancellation: _cancellation, ...rest } = ended;
  if (task.cancellation !== undefined) {
    const { reason } = task.cancellation;
    const failure = {
      cause: "cancelled",
      at_ms: moment.nowMs,
      ...(reason !== undefined && { reason }),
    } as const;
    return { ...rest, status: "failed", failure };
  }
  if (end.outcome === "released" || end.outcome === "revoked") return { ...rest, status: "runnable" };
  if (end.outcome === "deadline") return deadLetter(rest, "total_deadline", end, moment.nowMs);
  const policy = task.retry;
  if (policy === undefined) return afterUncounted(rest, end, moment.nowMs);

  const counted: Task = { ...rest, attempt: rest.attempt + 1 };
  const isHopeless =
    end.retryable === false ||
    (end.error_code !== undefined && policy.non_retryable.includes(end.error_code));
  if (isHopeless) return deadLetter(counted, "not_retryable", end, moment.nowMs);
  if (counted.attempt >= counted.max_attempts) {
    return deadLetter(counted, "attempts_exhausted", end, moment.nowMs);
  }
  const next_retry_at_ms = moment.nowMs + backoffMs(policy, counted.attempt, moment.random());
  return { ...counted, status: "runnable", next_retry_at_ms };
}

/** The wait before the next attempt, ms. @param attempt how many have failed, from 1. @param chance 0 up to 1. */
export function backoffMs(policy: RetryPolicy, attempt: number, chance: number): number {
  // Zero times a factor that has grown out of all bounds is no number.
  const growth = Math.min(policy.factor ** (attempt - 1), Number.MAX_VALUE);
  const whole = Math.min(policy.max_ms, policy.base_ms * growth);
  return Math.round(whole * (1 - policy.jitter * chance));
}

/** A task that failed for good, until somebody redrives it. */
export function deadLetter(
  task: Task,
  cause: FailureCause,
  { error_code }: Pick<AttemptEnd, "error_code">,
  nowMs: number,
): Task {
  const failure = { cause, at_ms: nowMs, ...(error_code !== undefined && { error_code }) };
  return { ...task, status: "failed", dead_letter: true, failure };
}

/** What the contract has for a task without a retry policy. */
function afterUncounted(task: Task, end: AttemptEnd, nowMs: number): Task {
  switch (end.outcome) {
    case "run_time_exceeded":
      return deadLetter({ ...task, attempt: task.attempt + 1 }, "run_time_limit", end, nowMs);
    case "silent":
      return deadLetter({ ...task, attempt: task.attempt + 1 }, "silence_limit", end, nowMs);
    case "failed":
      return { ...task, status: "failed", attempt: task.attempt + 1 };
    default:
      return { ...task, status: "runnable", next_retry_at_ms: nowMs };
  }
}

/** The task without its lease, the attempt of which is written down. A lease that no claim gave leaves no trace. */
export function withAttempt(task: Task, end: AttemptEnd, nowMs: number): Task {
  const { fence, claimed_at_ms, lease_owner, progress } = task;
  const bare = withoutLease(task);
  if (fence === undefined || claimed_at_ms === undefined) return bare;
  const attempt: Attempt = {
    fence,
    agent_id: lease_owner ?? "",
    claimed_at_ms,
    ended_at_ms: nowMs,
    outcome: end.outcome,
    ...(end.error !== undefined && { error: cut(end.error, MAX_KEPT_ERROR_LENGTH) }),
    ...(end.error_code !== undefined && { error_code: end.error_code }),
    ...(progress !== undefined && { progress }),
  };
  return { ...bare, attempts: [...(task.attempts ?? []), attempt].slice(-MAX_ATTEMPTS_KEPT) };
}
