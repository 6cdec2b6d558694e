import type { LockGiven } from "../../domain/outcome.ts";
import { agentBlank } from "../../domain/refusals.ts";
import type { Lock } from "../../protocol/lock.ts";
import { checkBound } from "../bounds.ts";
import { type Call, unwrap } from "../call.ts";
import { type Mutation, mutate } from "../command.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { RequestRefused } from "../problem.ts";

/** `/context` has none of these routes. */
const nothing = () => ({});

export const acquisition: Mutation<"acquire_lock", "acquireLock"> = {
  body: "acquireLock",
  command: ({ agent_id, resources, lease_ms }, call) => {
    checkBound(call.principal, "agent_id", agent_id.trim());
    if (agent_id.trim() === "") throw new RequestRefused(agentBlank);
    return { op: "acquire_lock", agent_id, resources, lease_ms };
  },
  context: nothing,
  native: ({ outcome }, call) => ({
    members: { lock: givenMembers(outcome) },
    status: 201,
    headers: { location: `/v1/runs/${call.id("run_id")}/locks/${outcome.lock.lock_id}` },
  }),
  represents: ["run"],
};

/** `POST /v1/…/locks`: takes resources for a while, all of them or none. */
export const acquireLock = (call: Call) => mutate(acquisition, call);

export const lockHeartbeat: Mutation<"heartbeat_lock", "heartbeatLock"> = {
  body: "heartbeatLock",
  command: ({ lease_token, lease_ms }, call) => ({
    op: "heartbeat_lock",
    lock_id: call.id("lock_id"),
    lease_token,
    lease_ms,
  }),
  context: nothing,
  native: ({ outcome }) => ({ members: { lock: givenMembers(outcome) } }),
  represents: ["run"],
};

/** `POST /v1/…/locks/{lock_id}/heartbeat`: it lasts from now on as long as a new one. */
export const heartbeatLock = (call: Call) => mutate(lockHeartbeat, call);

export const lockRelease: Mutation<"release_lock", "releaseLock"> = {
  body: "releaseLock",
  command: ({ lease_token }, call) => ({ op: "release_lock", lock_id: call.id("lock_id"), lease_token }),
  context: nothing,
  native: ({ outcome: { lock_id } }) => ({ members: { lock_id } }),
  represents: ["run"],
};

/** `POST /v1/…/locks/{lock_id}/release`. */
export const releaseLock = (call: Call) => mutate(lockRelease, call);

/** `GET /v1/…/locks`: those that are out, in order of their fences. */
export async function listLocks(call: Call): Promise<HttpAnswer> {
  return jsonAnswer({ locks: unwrap(await call.run().readLocks()).map(lockMembers) });
}

/** `GET /v1/…/locks/{lock_id}`. */
export async function getLock(call: Call): Promise<HttpAnswer> {
  const id = call.id("lock_id");
  const lock = unwrap(await call.run().readLocks()).find(({ lock_id }) => lock_id === id);
  if (lock !== undefined) return jsonAnswer({ lock: lockMembers(lock) });
  throw new RequestRefused({ code: "LOCK_NOT_FOUND", error: "there is no such lock, or it has ended" });
}

/** A lock as everybody sees it. */
export function lockMembers({ lease_token: _token, ...lock }: Lock): Record<string, unknown> {
  return lock;
}

/** A lock as its holder gets it. */
function givenMembers({ lock, token, at_ms }: LockGiven): Record<string, unknown> {
  return { ...lockMembers(lock), token, expires_in_ms: lock.expires_at_ms - at_ms };
}
