import type { Issue } from "../protocol/issue.ts";
import type { MintBody } from "../protocol/tokens.ts";
import type { Principal } from "./principal.ts";
import { hasScope } from "./scopes.ts";
import { tenantOf } from "./tenant.ts";

/** A token that a credential may mint, or in what it would be wider than that. */
export type Narrowed =
  | { ok: true; token: Principal & { expires_at_ms: number } }
  | { ok: false; issues: Issue[] };

/**
 * The token that is asked for, as narrow as the credential that mints it or narrower. The root credential has no bounds.
 *
 * N1 Each of its scopes is one that the minter has.
 * N2 It belongs to the minter's tenant; its actor, run and agent are the minter's where that has one.
 * N3 Its task types are among the minter's.
 * N4 It expires no later than the minter.
 * N5 It is revoked with the minter, and with whatever that comes from.
 */
export function narrowed(
  by: Principal,
  asked: MintBody,
  made: { token_id: string; nowMs: number; defaultLifetimeMs: number },
): Narrowed {
  const issues: Issue[] = [];
  const refuse = (field: string, message: string): void => {
    issues.push({ field, rule: "narrower", message });
  };
  for (const scope of asked.scopes) {
    if (!hasScope(by.scopes, scope)) refuse("scopes", `the minting credential has not the scope ${scope}`);
  }
  const bound = (field: "run_id" | "agent_id" | "actor_id", own: string | null): string | null => {
    const wanted = asked[field] ?? own;
    if (own !== null && wanted !== own) refuse(field, `the minting credential is bound to another ${field}`);
    return wanted;
  };
  // The root credential acts for whom its headers say; what it mints acts for whom it says.
  const actor_id = bound("actor_id", by.kind === "root" ? null : (by.tenant.actor_id ?? null));
  const run_id = bound("run_id", by.run_id);
  const agent_id = bound("agent_id", by.agent_id);
  const task_types = asked.task_types ?? by.task_types;
  if (by.task_types !== null && !task_types?.every((type) => by.task_types?.includes(type))) {
    refuse("task_types", `the minting credential is bound to ${by.task_types.join(", ")}`);
  }
  const { org_id, workspace_id } = asked.tenant ?? by.tenant;
  if (by.kind !== "root" && (org_id !== by.tenant.org_id || workspace_id !== by.tenant.workspace_id)) {
    refuse("tenant", "only the root credential mints for other tenants");
  }
  const latest = by.expires_at_ms ?? Number.MAX_SAFE_INTEGER;
  const wanted =
    asked.expires_in_ms == null
      ? Math.min(latest, made.nowMs + made.defaultLifetimeMs)
      : made.nowMs + asked.expires_in_ms;
  if (wanted > latest) refuse("expires_in_ms", "the minting credential expires before");
  if (issues.length > 0) return { ok: false, issues };
  return {
    ok: true,
    token: {
      kind: "token",
      tenant: tenantOf(org_id, workspace_id, actor_id),
      scopes: [...new Set(asked.scopes)],
      token_id: made.token_id,
      ancestors: by.kind === "root" ? [] : [...by.ancestors, by.token_id],
      run_id,
      agent_id,
      task_types: task_types ?? null,
      // Tokens tell time in seconds.
      expires_at_ms: Math.floor(wanted / 1000) * 1000,
    },
  };
}
