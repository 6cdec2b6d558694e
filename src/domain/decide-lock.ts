import type { Lock } from "../protocol/lock.ts";
import type { CommandOf } from "./command.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { leaseMs } from "./lease.ts";
import { unprovenLock } from "./lease-proof.ts";
import { obstacleTo } from "./locks.ts";
import { acquiredOutcome, renewedOutcome } from "./outcome.ts";
import { agentBlank, fieldInvalid } from "./refusals.ts";
import type { View } from "./view.ts";

/** Gives resources to an agent for a while, all of them or none (docs/claims.md). */
export function decideAcquire(
  command: CommandOf<"acquire_lock">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const { resources } = command;
  const agent_id = command.agent_id.trim();
  if (agent_id === "") return { ok: false, refusal: agentBlank };
  if (resources.length === 0) {
    return { ok: false, refusal: fieldInvalid("resources", "non_empty", "must name at least one resource") };
  }
  const head = view.head();
  const { conflicts, refusal } = obstacleTo(resources, head.locks, context.nowMs, context.lockComparisons);
  if (refusal !== null) return { ok: false, refusal };
  if (conflicts.length > 0) {
    return { ok: false, refusal: { code: "LOCK_HELD", error: "resources are locked", conflicts } };
  }
  const eventId = `evt-${context.newId()}`;
  const draft = new Draft(head, context, commandId);
  const lock: Lock = {
    lock_id: `lock-${context.newId()}`,
    agent_id,
    fence: draft.nextSeq(),
    resources,
    lease_token: context.maskToken(context.leaseToken(eventId)),
    expires_at_ms: context.nowMs + leaseMs(command.lease_ms),
  };
  const { status } = head.run;
  const event = draft.event({ type: "context.lock.acquired", status, payload: { lock } }, eventId);
  return { ok: true, commits: draft.commits, outcome: acquiredOutcome(event, context) };
}

/** Makes a lock last from now on as long as a new one. */
export function decideLockHeartbeat(
  command: CommandOf<"heartbeat_lock">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const proof = unprovenLock(command, view, context);
  if (!proof.ok) return proof;
  const { lock } = proof;
  if (lock.task_id !== undefined) {
    const message = "was taken with a task: the task's heartbeats renew it";
    return { ok: false, refusal: fieldInvalid("lock_id", "own_lease", message) };
  }
  const head = view.head();
  const draft = new Draft(head, context, commandId);
  const renewed = { ...lock, expires_at_ms: context.nowMs + leaseMs(command.lease_ms) };
  const { status } = head.run;
  const event = draft.event({ type: "context.lock.renewed", status, payload: { lock: renewed } });
  return { ok: true, commits: draft.commits, outcome: renewedOutcome(command, event, context) };
}

/** Ends a lock. One that was taken with a task may end before its task. */
export function decideLockRelease(
  command: CommandOf<"release_lock">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const proof = unprovenLock(command, view, context);
  if (!proof.ok) return proof;
  const { lock_id } = proof.lock;
  const head = view.head();
  const draft = new Draft(head, context, commandId);
  draft.event({ ...releasedEvent([lock_id], "released"), status: head.run.status });
  return { ok: true, commits: draft.commits, outcome: { op: "release_lock", lock_id } };
}

/** What tells that locks are no more. */
export function releasedEvent(lock_ids: string[], reason: "released" | "expired") {
  return { type: "context.lock.released", payload: { lock_ids, reason } };
}
