import { otherTenantsWith } from "../directory/runs.ts";
import type { Principal } from "../identity/principal.ts";
import { LOCAL_TENANT, tenantOfKey } from "../identity/tenant.ts";
import type { Call } from "./call.ts";
import type { HttpAnswer } from "./http-answer.ts";
import { RequestRefused } from "./problem.ts";
import type { Route } from "./routes.ts";

/**
 * Whether a request names no tenant and may have meant any: clients of the reference engine create a run with tenant
 * headers and go on without them (contract 01 §8). Only the root credential may act for whom it does not name.
 */
export function isHomeless({ door, principal }: Call): boolean {
  return door === "context" && principal.kind === "root" && principal.tenant === LOCAL_TENANT;
}

/**
 * Handles such a request for its own tenant, and where that has no such run, for the only other tenant that has one. The
 * first try has changed nothing: the run was not there.
 * @param onFound told for whom it is handled then.
 */
export async function handleAnywhere(
  route: Route,
  call: Call,
  runId: string | undefined,
  onFound: (principal: Principal) => void,
): Promise<HttpAnswer> {
  try {
    return await route.handle(call);
  } catch (error) {
    const isAbsent = error instanceof RequestRefused && error.problem.code === "RUN_NOT_FOUND";
    if (!isAbsent || runId === undefined) throw error;
    const [only, ...others] = await otherTenantsWith(call.env.DIRECTORY, runId);
    if (only === undefined || others.length > 0) throw error;
    const there = call.inTenant(tenantOfKey(only));
    onFound(there.principal);
    return route.handle(there);
  }
}
