import type { Task } from "../protocol/task.ts";
import type { Attempt, Progress } from "../protocol/task-life.ts";

/** What the next holder of a task is told of those before (docs/claims.md). */
export interface Handover {
  /** Attempts that counted so far. */
  attempt: number;
  /** The last report that any of them made. */
  last_progress: Progress | null;
  /** The last ones, oldest first. */
  previous_attempts: Attempt[];
}

/** Null for a task that nobody has held before. @param task as it was claimed. */
export function handoverOf(task: Task): Handover | null {
  const { attempt, attempts = [] } = task;
  if (attempts.length === 0) return null;
  const last_progress = attempts.findLast((one) => one.progress !== undefined)?.progress ?? null;
  return { attempt, last_progress, previous_attempts: attempts };
}
