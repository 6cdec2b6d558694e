import type { Task } from "../protocol/task.ts";

/** Whether a task wants to know that a dependency of it failed. */
export function hasFailurePolicy(task: Task): boolean {
  return task.on_dependency_failure === "fail" || task.on_dependency_failure === "skip";
}

/** Which clock of a task runs out, and when (epoch ms). */
export interface Due {
  clock: "start" | "run" | "silent" | "finish" | "revoke" | "dependency";
  at_ms: number;
}

/** The clock that runs out first, or null when none is set (docs/claims.md). */
export function nextDue(task: Task, hasFailedDependency: boolean, nowMs: number): Due | null {
  if (task.status === "done" || task.status === "failed") return null;
  const startMs = task.redriven_at_ms ?? task.created_ts;
  const { clocks = {}, claimed_at_ms, cancellation } = task;
  const dues: Due[] = [];
  const set = (clock: Due["clock"], fromMs: number, withinMs: number | undefined): void => {
    if (withinMs !== undefined) dues.push({ clock, at_ms: fromMs + withinMs });
  };
  if (isOpen(task) && hasFailedDependency && hasFailurePolicy(task)) set("dependency", nowMs, 0);
  if (cancellation !== undefined) set("revoke", cancellation.revoke_at_ms, 0);
  set("finish", startMs, clocks.finish_within_ms);
  const wasClaimed =
    task.status === "in_progress" ||
    claimed_at_ms !== undefined ||
    task.attempts?.some((one) => one.claimed_at_ms >= startMs);
  if (!wasClaimed) set("start", startMs, clocks.start_within_ms);
  if (task.status === "in_progress" && claimed_at_ms !== undefined) {
    set("run", claimed_at_ms, clocks.run_within_ms);
    set("silent", task.progress?.at_ms ?? claimed_at_ms, clocks.silent_within_ms);
  }
  return dues.reduce<Due | null>(
    (first, due) => (first === null || due.at_ms < first.at_ms ? due : first),
    null,
  );
}

/** When that is, epoch ms. */
export function dueAtMs(task: Task, hasFailedDependency: boolean, nowMs: number): number | null {
  // Most tasks have none of all this.
  if (task.clocks === undefined && task.cancellation === undefined && !hasFailedDependency) return null;
  return nextDue(task, hasFailedDependency, nowMs)?.at_ms ?? null;
}

/** Whether a task that waits for nobody must not be given out any more, because a clock of it has run out. */
export function isOverdue(task: Task, nowMs: number): boolean {
  const due = nextDue(task, false, nowMs);
  return due !== null && due.at_ms <= nowMs;
}

/** The first dependency that failed, or null. */
export function failedDependency(task: Task, view: { task(id: string): Task | null }): string | null {
  if (!hasFailurePolicy(task)) return null;
  return task.depends_on_task_ids.find((id) => view.task(id)?.status === "failed") ?? null;
}

function isOpen(task: Task): boolean {
  return task.status === "pending" || task.status === "runnable" || task.status === "blocked";
}
