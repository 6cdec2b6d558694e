import type { EventRecord } from "../protocol/event.ts";
import type { Lock } from "../protocol/lock.ts";
import type { Task } from "../protocol/task.ts";
import type { LeaseProof, Manner } from "./command.ts";
import type { Context } from "./draft.ts";
import { fieldInvalid, type Refusal, taskNotFound } from "./refusals.ts";
import type { View } from "./view.ts";

/** The lease that a write is made under, as its event tells it. */
export type Under = NonNullable<EventRecord["under"]>;

/** What a proof is checked against, apart from the task. */
type Bench = Pick<Context, "nowMs" | "maskToken">;

/**
 * Why a write that names a lease is not made; null when it names none, or the one that is out. Who has lost a lease writes nothing
 * more (contract 04 §7); by the strict rules it is lost at the millisecond of its expiry, put back on the board or not.
 */
export function unprovenLease(
  command: LeaseProof & Manner,
  view: Pick<View, "task" | "head">,
  bench: Bench,
): Refusal | null {
  const { task_id, lock_id, lease_token } = command;
  if (lock_id !== undefined) {
    if (task_id !== undefined) return fieldInvalid("lock_id", "one_lease", "cannot be given beside task_id");
    if (lease_token === undefined) return fieldInvalid("lease_token", "required", "must prove the lock");
    const proof = unprovenLock({ lock_id, lease_token }, view, bench);
    return proof.ok ? null : proof.refusal;
  }
  if (task_id === undefined) {
    return lease_token === undefined
      ? null
      : fieldInvalid("task_id", "required", "must say which task the lease token is of");
  }
  const task = view.task(task_id);
  return task === null ? taskNotFound : unprovenLeaseOf(task, command, bench);
}

/** The same for a lease that must be named: that of this task. */
export function unprovenLeaseOf(
  task: Task,
  { lease_token, strict }: Pick<LeaseProof, "lease_token"> & Manner,
  bench: Bench,
): Refusal | null {
  if (lease_token === undefined) return leaseRefusal(task, "TASK_LEASE_REQUIRED", "lease token required");
  if (bench.maskToken(lease_token) !== task.lease_token) {
    return leaseRefusal(task, "TASK_LEASE_INVALID", "invalid lease token");
  }
  const { lease_expires_at_ms } = task;
  if (strict === true && lease_expires_at_ms !== undefined && lease_expires_at_ms <= bench.nowMs) {
    return leaseRefusal(task, "TASK_LEASE_INVALID", "the lease has expired");
  }
  return null;
}

/** The lock that a proof is of, or why it proves none. One that was taken with a task has the task's lease for its proof. */
export function unprovenLock(
  { lock_id, lease_token }: { lock_id: string; lease_token: string },
  view: Pick<View, "task" | "head">,
  bench: Bench,
): { ok: true; lock: Lock } | { ok: false; refusal: Refusal } {
  const lock = lockOf(view, lock_id);
  if (lock === undefined) return { ok: false, refusal: lockLost(lock_id, null, "there is no such lock") };
  const token = lock.task_id === undefined ? lock.lease_token : view.task(lock.task_id)?.lease_token;
  if (bench.maskToken(lease_token) !== token) {
    return { ok: false, refusal: lockLost(lock_id, lock, "invalid lease token") };
  }
  if (lock.expires_at_ms <= bench.nowMs) {
    return { ok: false, refusal: lockLost(lock_id, lock, "the lock has expired") };
  }
  return { ok: true, lock };
}

function lockOf(view: Pick<View, "head">, lockId: string): Lock | undefined {
  return view.head().locks?.find(({ lock_id }) => lock_id === lockId);
}

function lockLost(lock_id: string, lock: Lock | null, error: string): Refusal {
  return {
    code: "LOCK_LOST",
    error,
    lock_id,
    agent_id: lock?.agent_id ?? null,
    fence: lock?.fence ?? null,
    expires_at_ms: lock?.expires_at_ms ?? null,
  };
}

/** The lease that a write, not refused by the above, was proven to be made under. */
export function underLease(
  command: LeaseProof & Manner,
  view: Pick<View, "task" | "head">,
): Under | undefined {
  const { task_id, lock_id, lease_token, strict } = command;
  if (strict !== true || lease_token === undefined) return undefined;
  const lock = lock_id === undefined ? undefined : lockOf(view, lock_id);
  if (lock !== undefined) return { lock_id: lock.lock_id, agent_id: lock.agent_id, fence: lock.fence };
  if (task_id === undefined) return undefined;
  const task = view.task(task_id);
  if (task?.lease_token === undefined) return undefined;
  return { task_id, agent_id: task.lease_owner ?? "", fence: task.fence ?? null };
}

/** The refusal of a lease that was not proven, naming the holder, if there is one (contract 02 §1.5). */
export function leaseRefusal(
  task: Task,
  code: "TASK_LEASE_REQUIRED" | "TASK_LEASE_INVALID",
  error: string,
): Refusal {
  return {
    code,
    error,
    lease_owner: task.lease_owner ?? null,
    fence: task.fence ?? null,
    lease_expires_at_ms: task.lease_expires_at_ms ?? null,
  };
}
