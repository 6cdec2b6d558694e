import type { EventRecord } from "../protocol/event.ts";
import { MAX_LOCK_COMPARISONS, MAX_LOCK_NAMES_LENGTH, MAX_LOCKS } from "../protocol/limits.ts";
import type { Lock, LockConflict, LockedResource } from "../protocol/lock.ts";
import type { Task } from "../protocol/task.ts";
import type { Change } from "./evolve.ts";
import { limitExceeded, type Refusal } from "./refusals.ts";
import { type Allowance, AllowanceSpent, overlap } from "./resource-glob.ts";

/**
 * Named leases of a run (docs/claims.md), kept in its head.
 *
 * K1 An expired lock counts for nothing, and never comes back: whoever wants its resources need not wait until it is swept.
 * K2 A lock that was taken with a claim expires when the task's lease does, and ends with it; the lease's token is its proof.
 */
type Locks = readonly Lock[] | undefined;

/** Those of a run that are out, in order of their fences. */
export function heldLocks(locks: Locks, nowMs: number): readonly Lock[] {
  return (locks ?? []).filter((lock) => lock.expires_at_ms > nowMs);
}

/** Those that have run out, and are to be swept. */
export function expiredLocks(locks: Locks, nowMs: number): readonly Lock[] {
  return (locks ?? []).filter((lock) => lock.expires_at_ms <= nowMs);
}

/** What keeps resources from being locked: locks of others that are out, or a limit. Neither, when they can be. */
export interface Obstacle {
  conflicts: LockConflict[];
  refusal: Refusal | null;
}

/** Conflicts that a refusal tells of. */
const MAX_CONFLICTS = 20;

/** @param allowance is used up by it. */
export function obstacleTo(
  resources: readonly LockedResource[],
  locks: Locks,
  nowMs: number,
  allowance: Allowance = lockComparisons(),
): Obstacle {
  if (resources.length === 0) return { conflicts: [], refusal: null };
  const held = heldLocks(locks, nowMs);
  try {
    const conflicts = conflictsWith(resources, held, allowance);
    if (conflicts.length > 0) return { conflicts, refusal: null };
  } catch (error) {
    if (!(error instanceof AllowanceSpent)) throw error;
    const limit = MAX_LOCK_COMPARISONS;
    return { conflicts: [], refusal: limitExceeded("lock_comparisons", limit, limit + 1) };
  }
  return { conflicts: [], refusal: overLimit(resources, held) };
}

/** What one command, or all of a batch, may compare. */
export function lockComparisons(): Allowance {
  return { left: MAX_LOCK_COMPARISONS };
}

function conflictsWith(
  resources: readonly LockedResource[],
  held: readonly Lock[],
  allowance: Allowance,
): LockConflict[] {
  const conflicts: LockConflict[] = [];
  for (const { lock_id, agent_id, fence, task_id, expires_at_ms, resources: theirs } of held) {
    for (const { name: resource, mode } of theirs) {
      const wanted = resources.find(
        (own) => (own.mode === "exclusive" || mode === "exclusive") && overlap(own.name, resource, allowance),
      );
      if (wanted === undefined) continue;
      const task = task_id === undefined ? {} : { task_id };
      conflicts.push({
        lock_id,
        agent_id,
        fence,
        ...task,
        resource,
        mode,
        wanted: wanted.name,
        expires_at_ms,
      });
      if (conflicts.length === MAX_CONFLICTS) return conflicts;
    }
  }
  return conflicts;
}

function overLimit(resources: readonly LockedResource[], held: readonly Lock[]): Refusal | null {
  if (held.length >= MAX_LOCKS) return limitExceeded("locks", MAX_LOCKS, held.length + 1);
  const all = [resources, ...held.map((lock) => lock.resources)].flat();
  const length = all.reduce((sum, { name }) => sum + name.length, 0);
  if (length <= MAX_LOCK_NAMES_LENGTH) return null;
  return limitExceeded("lock_names_length", MAX_LOCK_NAMES_LENGTH, length);
}

/** The locks after an event that the engine wrote; absent when there are none. @param changes those of the event. */
export function locksAfter(
  locks: Lock[] | undefined,
  event: EventRecord,
  changes: readonly Change[],
): { locks?: Lock[] } {
  const after = changed(locks ?? [], event, changes);
  return after.length === 0 ? {} : { locks: after };
}

function changed(locks: Lock[], event: EventRecord, changes: readonly Change[]): Lock[] {
  if (event.origin === "client") return locks;
  const { lock, lock_ids } = (event.payload ?? {}) as { lock?: Lock; lock_ids?: string[] };
  switch (event.type) {
    case "context.lock.acquired":
      return lock === undefined ? locks : [...locks, lock];
    case "context.lock.renewed":
      return lock === undefined ? locks : locks.map((each) => (each.lock_id === lock.lock_id ? lock : each));
    case "context.lock.released":
      return locks.filter(({ lock_id }) => lock_ids?.includes(lock_id) !== true);
    case "context.task.claimed":
      return lock === undefined ? locks : [...locks, lock];
    default:
      return locks.length === 0 ? locks : underTheirTasks(locks, changes, event.ts_ms);
  }
}

/** Locks whose tasks changed go on with the lease of their task, or end with it. */
function underTheirTasks(locks: Lock[], changes: readonly Change[], atMs: number): Lock[] {
  const after = changes.reduce((left, change) => {
    if (change.kind === "put_task") {
      const { task } = change;
      if (!left.some(({ task_id }) => task_id === task.id)) return left;
      return left.flatMap((lock) => (lock.task_id === task.id ? underTask(lock, task, atMs) : lock));
    }
    if (change.kind !== "replace_tasks") return left;
    const tasks = new Map(change.tasks.map((task) => [task.id, task]));
    return left.flatMap((lock) =>
      lock.task_id === undefined ? lock : underTask(lock, tasks.get(lock.task_id), atMs),
    );
  }, locks);
  return after;
}

function underTask(lock: Lock, task: Task | undefined, atMs: number): Lock[] {
  const { fence, lease_expires_at_ms, status } = task ?? {};
  // A copy that is put back may have the members of a lease on work that is not under way.
  const isUnderway = status === "in_progress" || status === "blocked";
  const isHeld = isUnderway && fence === lock.fence;
  if (!isHeld || lease_expires_at_ms === undefined || lock.expires_at_ms <= atMs) return [];
  return [
    lock.expires_at_ms === lease_expires_at_ms ? lock : { ...lock, expires_at_ms: lease_expires_at_ms },
  ];
}
