import { type CountedQuota, exceeded, type QuotaExceeded, readAllowance } from "../directory/quotas.ts";
import type { Env } from "../env.ts";
import type { Principal } from "../identity/principal.ts";
import { tenantKey } from "../identity/tenant.ts";
import { declaredLength } from "./content-headers.ts";
import type { RouteFacts } from "./route-facts.ts";

/** How much of a quota a request takes: so much, or as much as its body is long. */
type Taken = Readonly<Partial<Record<CountedQuota, number | "body">>>;

/** What requests take of which quota, by method and path behind the door. What is not here takes nothing for good. */
export const TAKEN: Readonly<Record<string, Taken>> = {
  "POST /runs": { runs: 1 },
  "POST /runs/:run_id/fork": { runs: 1 },
  // Of an export, only the contents that it brings along are kept: whoever has room for one byte may try.
  "POST /runs/import": { runs: 1, artifact_bytes: 1 },
  "POST /runs/import/reference": { runs: 1, artifact_bytes: 1 },
  "POST /runs/:run_id/artifacts": { artifact_bytes: "body" },
  "PUT /runs/:run_id/artifacts/:path+": { artifact_bytes: "body" },
  "POST /runs/:run_id/uploads": { artifact_bytes: 1 },
  "PUT /runs/:run_id/uploads/:upload_id/parts/:part": { artifact_bytes: "body" },
  "POST /tokens": { tokens: 1 },
};

/** A route without its door, as `TAKEN` has it. */
export function takingKey({ method, path }: Pick<RouteFacts, "method" | "path">): string {
  return `${method} ${path.replace(/^\/(?:context|v1)/, "")}`;
}

/**
 * Why a request would take its tenant over a quota; null when it would not. It costs one read. The root credential sets
 * the quotas and is not held to them; what it makes counts. The handler refuses it (`Call.requireRoom`): only that knows
 * whether the request is the repeat of one that was done, which takes nothing.
 */
export async function overQuota(
  env: Env,
  { kind, tenant }: Principal,
  route: RouteFacts,
  request: Request,
): Promise<QuotaExceeded | null> {
  if (kind === "root") return null;
  const taken = TAKEN[takingKey(route)];
  if (taken === undefined) return null;
  const allowance = await readAllowance(env.DIRECTORY, tenantKey(tenant));
  for (const [quota, amount] of Object.entries(taken) as [CountedQuota, number | "body"][]) {
    // A body of unknown length is let in as long as there is any room.
    const more = amount === "body" ? (declaredLength(request) ?? 1) : amount;
    const problem = exceeded(allowance, quota, more);
    if (problem !== null) return problem;
  }
  return null;
}
