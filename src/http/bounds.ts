import { type Bound, runNotFound, tokenBound } from "../domain/refusals.ts";
import type { Principal } from "../identity/principal.ts";
import type { BodyName } from "../protocol/bodies.ts";
import { RequestRefused } from "./problem.ts";
import type { RouteFacts } from "./route-facts.ts";

/**
 * What a token is bound to, held against a request as far as its route tells. A token that is bound to a run sees no other:
 * others are not found, whether they are there or not. What is about no run is not its business.
 * @throws RequestRefused `RUN_NOT_FOUND`, `TOKEN_BOUND`
 */
export function checkRunBound(principal: Principal, route: RouteFacts, runId: string | undefined): void {
  if (principal.run_id === null || principal.run_id === runId) return;
  if (runId !== undefined) throw new RequestRefused(runNotFound);
  if (route.isForBound !== true) throw new RequestRefused(tokenBound("run_id", [principal.run_id]));
}

/** Refuses what a token so bound could step over its bounds with. @throws RequestRefused `TOKEN_BOUND` */
export function refuseBound(principal: Principal, ...bounds: Bound[]): void {
  for (const bound of bounds) {
    const allowed = allowedBy(principal, bound);
    if (allowed !== null) throw new RequestRefused(tokenBound(bound, allowed));
  }
}

/** Refuses a value that a token's bounds do not allow; absent counts as not allowed. @throws RequestRefused `TOKEN_BOUND` */
export function checkBound(principal: Principal, bound: Bound, value: string | undefined): void {
  const allowed = allowedBy(principal, bound);
  if (allowed === null || (value !== undefined && allowed.includes(value))) return;
  throw new RequestRefused(tokenBound(bound, allowed));
}

/** What a body that leaves it open says of the agent and the task type, where the token is bound to just one. */
export function completed(name: BodyName, body: unknown, principal: Principal): unknown {
  if (name !== "claimTask" && name !== "transitionTask" && name !== "acquireLock") return body;
  if (typeof body !== "object" || body === null || Array.isArray(body)) return body;
  const { agent_id, task_types } = principal;
  const given = body as { agent_id?: unknown; task_type?: unknown };
  const [onlyType, ...others] = task_types ?? [];
  const isTypeOpen = name === "claimTask" && onlyType !== undefined && others.length === 0;
  return {
    ...given,
    ...(agent_id !== null && { agent_id: given.agent_id ?? agent_id }),
    ...(isTypeOpen && { task_type: given.task_type ?? onlyType }),
  };
}

function allowedBy(principal: Principal, bound: Bound): string[] | null {
  const value = principal[bound];
  if (value === null) return null;
  return typeof value === "string" ? [value] : [...value];
}
