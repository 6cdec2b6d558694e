import { KEPT_ATTEMPTS } from "./judge.ts";
import { isOver, type Lock, type State, type Task } from "./state.ts";
import { settleNext } from "./time.ts";

/** A task as the server lists it. */
export interface Listed {
  id: string;
  status: string;
  attempt: number;
  priority: number;
  depends_on_task_ids: string[];
  lease_owner?: string;
  lease_expires_at_ms?: number;
  fence?: number;
  next_retry_at_ms?: number;
  attempts?: { fence: number; agent_id: string; outcome: string }[];
  dead_letter?: true;
  failure?: { cause: string };
  skipped?: true;
  cancellation?: { revoke_at_ms: number };
  progress?: { percent?: number; at_ms: number };
}

/**
 * Holds the board against the model. Where the server has done for a task what time brought, the model does it too.
 * @returns what differs, a line each.
 */
export function compareBoards(state: State, listed: readonly Listed[], nowMs: number): string[] {
  const ids = listed.map(({ id }) => id).join(" ");
  const known = state.tasks.map(({ id }) => id).join(" ");
  if (ids !== known) return [`the server lists ${ids || "nothing"}, the model ${known || "nothing"}`];
  const found: string[] = [];
  for (const [index, shown] of listed.entries()) {
    const task = state.tasks[index] as Task;
    let differing = differences(task, shown, nowMs);
    let nearest = differing;
    // Late is allowed, so that any part of what is due may have been done.
    while (differing.length > 0 && settleNext(state, task, nowMs)) {
      differing = differences(task, shown, nowMs);
      if (differing.length < nearest.length) nearest = differing;
    }
    if (differing.length > 0) differing = nearest;
    found.push(...differing.map((line) => `${task.id}: ${line}`));
    if (differing.length === 0) takeIn(task, shown);
  }
  return found;
}

function differences(task: Task, shown: Listed, nowMs: number): string[] {
  const found: string[] = [];
  const same = (name: string, server: unknown, model: unknown): void => {
    const [told, known] = [JSON.stringify(server), JSON.stringify(model)];
    if (told !== known) found.push(`${name} is ${told}, not ${known}`);
  };
  const { lease, retry, progress } = task;
  same("status", shown.status, task.status);
  same("attempt", shown.attempt, task.attempt);
  same("depends_on_task_ids", shown.depends_on_task_ids, task.dependsOn);
  same("lease_owner", shown.lease_owner, lease?.agent);
  same("fence", shown.fence, lease?.fence);
  same("lease_expires_at_ms", shown.lease_expires_at_ms, lease?.expiresMs);
  same("dead_letter", shown.dead_letter ?? false, task.isDeadLetter);
  same("failure.cause", shown.failure?.cause ?? null, task.cause);
  same("skipped", shown.skipped ?? false, task.isSkipped);
  const attempts = shown.attempts ?? [];
  same(
    "attempts",
    attempts.map(({ fence, agent_id, outcome }) => ({ fence, agent: agent_id, outcome })),
    task.attempts.slice(-KEPT_ATTEMPTS),
  );
  if (!isOver(task)) same("revoke_at_ms", shown.cancellation?.revoke_at_ms ?? null, task.revokeMs);
  const retryMs = shown.next_retry_at_ms ?? 0;
  const isSoon = retryMs <= nowMs && (retry === null || retry.fromMs <= nowMs);
  const isInRange = retry !== null && retryMs >= retry.fromMs && retryMs <= retry.toMs;
  if (!isOver(task) && !isSoon && !isInRange) {
    found.push(`next_retry_at_ms is ${retryMs}, not ${retry?.fromMs} to ${retry?.toMs}; it is ${nowMs}`);
  }
  if (lease !== null) same("progress", shown.progress?.percent ?? null, progress.percent);
  return found;
}

/** A lock as the server lists it. */
export interface ListedLock {
  agent_id: string;
  fence: number;
  resources: { name: string; mode: string }[];
  task_id?: string;
  expires_at_ms: number;
}

/** Holds the locks that are out against the model; those that have run out count for nothing, on either side. */
export function compareLocks({ locks }: State, listed: readonly ListedLock[], nowMs: number): string[] {
  const known = locks
    .filter(({ expiresMs }) => expiresMs > nowMs)
    .map(({ agent, fence, resources, task, expiresMs }) =>
      lockText({ agent, fence, resources, task, expiresMs }),
    );
  const told = listed
    .filter(({ expires_at_ms }) => expires_at_ms > nowMs)
    .map(({ agent_id, fence, resources, task_id, expires_at_ms }) =>
      lockText({ agent: agent_id, fence, resources, task: task_id ?? null, expiresMs: expires_at_ms }),
    );
  const differing = known.join("; ") !== told.join("; ");
  return differing ? [`the locks that are out are ${told.join("; ")}, not ${known.join("; ")}`] : [];
}

function lockText(
  lock: Pick<Lock, "agent" | "fence" | "task" | "expiresMs"> & Pick<ListedLock, "resources">,
) {
  const names = lock.resources.map(({ name, mode }) => `${mode} ${name}`).join(", ");
  return `${lock.fence} ${lock.agent} until ${lock.expiresMs} for ${lock.task ?? "itself"}: ${names}`;
}

/** What the model could not know. */
function takeIn(task: Task, shown: Listed): void {
  if (task.retry !== null && shown.next_retry_at_ms !== undefined) {
    task.retry = { fromMs: shown.next_retry_at_ms, toMs: shown.next_retry_at_ms };
  }
}
