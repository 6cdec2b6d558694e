/*
 * The small model of a run that the server is held against. It is written from what docs/claims.md promises, not from the code:
 * plain values, no clever parts, every rule by name. Times are epoch milliseconds.
 */

export type Status = "pending" | "runnable" | "in_progress" | "blocked" | "done" | "failed";

export interface Policy {
  baseMs: number;
  factor: number;
  maxMs: number;
  jitter: number;
  nonRetryable: string[];
}

export interface Clocks {
  start_within_ms?: number;
  run_within_ms?: number;
  silent_within_ms?: number;
  finish_within_ms?: number;
}

export interface Lease {
  token: string;
  agent: string;
  fence: number;
  claimedMs: number;
  expiresMs: number;
}

export interface Attempt {
  fence: number;
  agent: string;
  outcome: string;
}

export interface Task {
  id: string;
  type: string;
  priority: number;
  createdMs: number;
  dependsOn: string[];
  status: Status;
  attempt: number;
  maxAttempts: number;
  policy: Policy | null;
  clocks: Clocks;
  onFailure: "wait" | "fail" | "skip";
  key: string | null;
  /** Not before `fromMs`; until it was looked at, the wait may be as long as to `toMs`. */
  retry: { fromMs: number; toMs: number } | null;
  lease: Lease | null;
  /** Of every claim so far: none may be given out again. */
  lastFence: number;
  attempts: Attempt[];
  isDeadLetter: boolean;
  cause: string | null;
  isSkipped: boolean;
  revokeMs: number | null;
  /** Where the clocks start. */
  clockMs: number;
  /** Whether it was claimed since. */
  wasClaimed: boolean;
  /** The last report of the holder, and when the silence since began. */
  progress: { percent: number | null; sinceMs: number };
}

export interface Lock {
  id: string;
  agent: string;
  token: string;
  fence: number;
  expiresMs: number;
  resources: { name: string; mode: "shared" | "exclusive" }[];
  /** The task it was taken with. */
  task: string | null;
}

/** A token that was given out once, for a task or a lock; most no longer hold. */
export interface Given {
  kind: "task" | "lock";
  id: string;
  token: string;
  agent: string;
}

export interface State {
  tasks: Task[];
  given: Given[];
  locks: Lock[];
  run: { status: string; halt: { revokeMs: number; fences: number[] } | null };
  limits: Record<string, number>;
  graceMs: number;
}

export const DEFAULT_GRACE_MS = 30_000;

export function emptyState(): State {
  return {
    tasks: [],
    given: [],
    locks: [],
    run: { status: "running", halt: null },
    limits: {},
    graceMs: DEFAULT_GRACE_MS,
  };
}

export function taskOf(state: State, id: string): Task | undefined {
  return state.tasks.find((task) => task.id === id);
}

/** Whether somebody works on a task, or may still say so. */
export function isOver({ status }: Task): boolean {
  return status === "done" || status === "failed";
}
