import { isOver, type State, type Task, taskOf } from "./state.ts";

/*
 * What time does to a run by itself. Late is allowed for each of these until a claim or the alarm comes, so that the model can do it
 * for one task at a time, where the server was seen to have done it.
 */

export type Timer = "lease" | "start" | "run" | "silent" | "finish" | "revoke" | "dependency" | "halt";

export interface Due {
  timer: Timer;
  atMs: number;
}

/** What has come to an end for a task by now, what came first at the front. */
export function dueOf(state: State, task: Task, nowMs: number): Due[] {
  const dues: Due[] = [];
  const set = (timer: Timer, atMs: number): void => {
    if (atMs <= nowMs) dues.push({ timer, atMs });
  };
  const { lease, clocks, clockMs } = task;
  if (isOver(task)) return dues;
  if (lease !== null) {
    set("lease", lease.expiresMs);
    if (clocks.run_within_ms !== undefined) set("run", lease.claimedMs + clocks.run_within_ms);
    if (clocks.silent_within_ms !== undefined) {
      set("silent", Math.max(lease.claimedMs, task.progress.sinceMs) + clocks.silent_within_ms);
    }
    const { halt } = state.run;
    if (halt?.fences.includes(lease.fence) === true) set("halt", halt.revokeMs);
  }
  if (task.revokeMs !== null) set("revoke", task.revokeMs);
  if (clocks.finish_within_ms !== undefined) set("finish", clockMs + clocks.finish_within_ms);
  if (!task.wasClaimed && clocks.start_within_ms !== undefined) {
    set("start", clockMs + clocks.start_within_ms);
  }
  if (lease === null && task.onFailure !== "wait" && hasFailedDependency(state, task)) {
    set("dependency", nowMs);
  }
  return dues.sort((a, b) => a.atMs - b.atMs);
}

/** Does the first thing that is due for a task. Returns false when nothing is. */
export function settleOne(state: State, task: Task, nowMs: number): boolean {
  const [due] = dueOf(state, task, nowMs);
  if (due === undefined) return false;
  switch (due.timer) {
    case "lease":
      endAttempt(state, task, { outcome: "lease_expired" }, nowMs);
      break;
    case "run":
      endAttempt(state, task, { outcome: "run_time_exceeded" }, nowMs);
      break;
    case "silent":
      endAttempt(state, task, { outcome: "silent" }, nowMs);
      break;
    case "finish":
      endAttempt(state, task, { outcome: "deadline" }, nowMs);
      break;
    case "revoke":
      endAttempt(state, task, { outcome: "cancelled" }, nowMs);
      break;
    case "halt":
      endAttempt(state, task, { outcome: "revoked" }, nowMs);
      break;
    case "start":
      letterOf(task, "start_deadline");
      break;
    case "dependency":
      if (task.onFailure === "fail") {
        letterOf(task, "dependency_failed");
      } else {
        Object.assign(task, { status: "done", isSkipped: true });
      }
      break;
  }
  return true;
}

/** Does the first thing that is due for a task, or for one that it may end with. Returns false when nothing is. */
export function settleNext(state: State, task: Task, nowMs: number): boolean {
  return settleOne(state, task, nowMs) || fated(state, task).some((other) => settleOne(state, other, nowMs));
}

/** Whether time has brought a task something that the server may have done, or may not. */
export function isDue(state: State, task: Task, nowMs: number): boolean {
  return [task, ...fated(state, task)].some((one) => dueOf(state, one, nowMs).length > 0);
}

/** The tasks whose failure ends this one. */
function fated(state: State, task: Task, seen = new Set<Task>()): Task[] {
  if (task.onFailure === "wait" || seen.has(task)) return [];
  seen.add(task);
  const dependencies = task.dependsOn.flatMap((id) => taskOf(state, id) ?? []);
  return dependencies.flatMap((one) => [one, ...fated(state, one, seen)]);
}

/** Ends what the grace of a halt has left behind: the halt is about to be another, or none. */
export function settleHalt(state: State, nowMs: number): void {
  for (const task of state.tasks) {
    while (dueOf(state, task, nowMs)[0]?.timer === "halt") settleOne(state, task, nowMs);
  }
}

/** Does everything that is due, for all tasks, until nothing is. */
export function settleAll(state: State, nowMs: number): void {
  for (let isChanged = true; isChanged; ) {
    isChanged = false;
    for (const task of state.tasks) while (settleOne(state, task, nowMs)) isChanged = true;
  }
  state.locks = state.locks.filter(({ expiresMs }) => expiresMs > nowMs);
}

export interface AttemptEnd {
  outcome: string;
  errorCode?: string | undefined;
  retryable?: boolean | undefined;
}

/** What becomes of a task when an attempt at it ends without completing it, or nobody holds it and it comes to its end. */
export function endAttempt(state: State, task: Task, end: AttemptEnd, nowMs: number): void {
  const { lease, policy } = task;
  if (lease !== null) task.attempts.push({ fence: lease.fence, agent: lease.agent, outcome: end.outcome });
  dropLease(state, task);
  const isCancelled = task.revokeMs !== null || end.outcome === "cancelled";
  task.revokeMs = null;
  if (isCancelled) {
    // Cancelled: over, and no dead letter.
    Object.assign(task, { status: "failed", cause: "cancelled" });
    return;
  }
  if (end.outcome === "released" || end.outcome === "revoked") {
    // Who gives a task back, or is told to, has not failed.
    task.status = "runnable";
    return;
  }
  if (end.outcome === "deadline") {
    letterOf(task, "total_deadline");
    return;
  }
  if (policy === null) {
    withoutPolicy(task, end.outcome, nowMs);
    return;
  }
  task.attempt += 1;
  const isHopeless =
    end.retryable === false || (end.errorCode !== undefined && policy.nonRetryable.includes(end.errorCode));
  if (isHopeless || task.attempt >= task.maxAttempts) {
    letterOf(task, isHopeless ? "not_retryable" : "attempts_exhausted");
    return;
  }
  const wholeMs = Math.min(policy.maxMs, policy.baseMs * policy.factor ** (task.attempt - 1));
  task.status = "runnable";
  task.retry = {
    fromMs: nowMs + Math.floor(wholeMs * (1 - policy.jitter)),
    toMs: nowMs + Math.ceil(wholeMs),
  };
}

function withoutPolicy(task: Task, outcome: string, nowMs: number): void {
  if (outcome === "lease_expired") {
    Object.assign(task, { status: "runnable", retry: { fromMs: nowMs, toMs: nowMs } });
    return;
  }
  task.attempt += 1;
  if (outcome === "failed") task.status = "failed";
  else letterOf(task, outcome === "silent" ? "silence_limit" : "run_time_limit");
}

function letterOf(task: Task, cause: string): void {
  Object.assign(task, { status: "failed", isDeadLetter: true, cause });
}

/** The lease is gone, with what belonged to it. */
export function dropLease(state: State, task: Task): void {
  task.lease = null;
  task.progress = { percent: null, sinceMs: 0 };
  state.locks = state.locks.filter((lock) => lock.task !== task.id);
}

function hasFailedDependency(state: State, task: Task): boolean {
  return task.dependsOn.some((id) => taskOf(state, id)?.status === "failed");
}
