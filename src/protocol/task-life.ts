/** What a task on `/v1` may carry beside the contract's members (docs/claims.md). Times are epoch ms, `_within_ms` and `_ms` durations. */

/** When and how often work that failed, crashed or took too long is given out again; attempts are capped by `max_attempts`. */
export interface RetryPolicy {
  /** Wait after the first failed attempt. */
  base_ms: number;
  /** What each further wait is multiplied by. */
  factor: number;
  /** The longest wait. */
  max_ms: number;
  /** Share of the wait that chance takes off, 0 to 1: agents that failed together do not come back together. */
  jitter: number;
  /** `error_code`s after which another attempt makes no sense. */
  non_retryable: string[];
}

/** What a retry policy has where it does not say. */
export const DEFAULT_RETRY: RetryPolicy = {
  base_ms: 1_000,
  factor: 2,
  max_ms: 300_000,
  jitter: 0.2,
  non_retryable: [],
};

/** How long a task may take, each from its own beginning; what is absent has no end. */
export interface Clocks {
  /** From creation, redrive or retry, to the first claim. */
  start_within_ms?: number;
  /** From each claim to the end of that attempt. */
  run_within_ms?: number;
  /** From each claim, or report of progress, to the next report. */
  silent_within_ms?: number;
  /** From creation, redrive or retry, to the end of the task. */
  finish_within_ms?: number;
}

/** What becomes of a task when one that it depends on has failed: nothing; it fails too; it ends as done without work. */
export const DEPENDENCY_FAILURES = ["wait", "fail", "skip"] as const;
export type OnDependencyFailure = (typeof DEPENDENCY_FAILURES)[number];

/** How far the holder of a task has come, as its last report says. */
export interface Progress {
  /** 0 to 100. */
  percent?: number;
  note?: string;
  data?: unknown;
  at_ms: number;
}

/** How an attempt ended that did not complete its task. */
export const ATTEMPT_OUTCOMES = [
  "failed",
  "released",
  "lease_expired",
  "run_time_exceeded",
  "silent",
  "deadline",
  "revoked",
  "cancelled",
] as const;
export type AttemptOutcome = (typeof ATTEMPT_OUTCOMES)[number];

/** One claim of a task that has ended without completing it. */
export interface Attempt {
  fence: number;
  agent_id: string;
  claimed_at_ms: number;
  ended_at_ms: number;
  outcome: AttemptOutcome;
  /** The beginning of it: the event has it whole. */
  error?: string;
  error_code?: string;
  progress?: Progress;
}

/** Why a task ended without being done. */
export const FAILURE_CAUSES = [
  "attempts_exhausted",
  "not_retryable",
  "start_deadline",
  "run_time_limit",
  "silence_limit",
  "total_deadline",
  "dependency_failed",
  "cancelled",
] as const;
export type FailureCause = (typeof FAILURE_CAUSES)[number];

export interface Failure {
  cause: FailureCause;
  at_ms: number;
  error_code?: string;
  /** The dependency that failed. */
  dependency_id?: string;
  /** Of a cancellation. */
  reason?: string;
}

/** A request that the holder stop: its next heartbeat tells it, and at `revoke_at_ms` the lease ends. */
export interface Cancellation {
  requested_at_ms: number;
  revoke_at_ms: number;
  reason?: string;
}

/** Members of a task that the contract does not have. */
export interface TaskLife {
  /** Present while an attempt cap is in force: `max_attempts` then counts crashes and time-outs, too. */
  retry?: RetryPolicy;
  clocks?: Clocks;
  on_dependency_failure?: OnDependencyFailure;
  /** Of tasks with the same key no more are given out at once than the run's settings allow, 1 by default. */
  concurrency_key?: string;
  /** Where the clocks start, when the task was put back after it had failed. */
  redriven_at_ms?: number;
  /** While leased: seq of the claim. It only grows, whatever becomes of the task. */
  fence?: number;
  /** While leased: when it was claimed. */
  claimed_at_ms?: number;
  /** The last report of the present holder. */
  progress?: Progress;
  /** Claims that ended without completing the task, the last MAX_ATTEMPTS_KEPT of them, oldest first. */
  attempts?: Attempt[];
  /** The task failed, and nothing will try it again unless somebody redrives it. */
  dead_letter?: true;
  failure?: Failure;
  /** It ended as done without work, because a dependency failed. */
  skipped?: true;
  cancellation?: Cancellation;
}

/** Names of those members: a copy of a run that leaves them out leaves them as they are (docs/compatibility.md). */
export const TASK_LIFE_MEMBERS = [
  "retry",
  "clocks",
  "on_dependency_failure",
  "concurrency_key",
  "redriven_at_ms",
  "fence",
  "claimed_at_ms",
  "progress",
  "attempts",
  "dead_letter",
  "failure",
  "skipped",
  "cancellation",
] as const satisfies readonly (keyof TaskLife)[];

/** What new tasks get where they do not say it themselves. */
export interface TaskDefaults {
  max_attempts?: number;
  retry?: RetryPolicy;
  clocks?: Clocks;
  on_dependency_failure?: OnDependencyFailure;
}

/** What a run is told once for all its tasks (`PUT /v1/runs/{id}/settings`). */
export interface RunSettings {
  task_defaults?: TaskDefaults;
  /** Tasks of a key that may be in progress at once. */
  concurrency_limits?: Record<string, number>;
  /** How long a holder may go on after the run was paused or ended, or its task cancelled. */
  grace_ms?: number;
}
