import type { Scope } from "../protocol/scope.ts";

export { SCOPES, type Scope } from "../protocol/scope.ts";

/**
 * What a credential may do, from least to most: each of `viewer`, `agent`, `planner` and `operator` may do all that the
 * one before it may. `ingest` stands apart: it delivers to hooks and does nothing else.
 *
 * - `viewer` reads;
 * - `agent` also works: claims and moves tasks, appends, patches, stores artifacts and checkpoints;
 * - `planner` also makes runs: creates, replaces, forks and imports them, and rolls back;
 * - `operator` also governs the tenant: deletes and archives, retention, tokens, hooks, subscriptions.
 */
const LADDER: readonly Scope[] = ["viewer", "agent", "planner", "operator"];

/** Whether a holder of these scopes may do what needs one. */
export function hasScope(held: readonly Scope[], needed: Scope): boolean {
  if (held.includes(needed)) return true;
  const rung = LADDER.indexOf(needed);
  // An operator may deliver to hooks too: it could mint itself a token that may.
  if (rung === -1) return held.includes("operator");
  return held.some((scope) => LADDER.indexOf(scope) > rung);
}
