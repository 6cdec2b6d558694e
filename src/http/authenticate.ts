import { checkToken } from "../directory/revocations.ts";
import type { Env } from "../env.ts";
import { type ClaimedTenant, claimedTenant, issuesOfClaims } from "../identity/claimed-tenant.ts";
import { credentialOf, isSameSecret } from "../identity/credential.ts";
import { IssuerUnavailable, issuersOf, TenantUnclear } from "../identity/issuers.ts";
import { keyringOf } from "../identity/keyring.ts";
import type { Verified } from "../identity/minted-tokens.ts";
import { type Principal, rootPrincipal } from "../identity/principal.ts";
import { RevocationsUnknown } from "../identity/revoked-set.ts";
import { LOCAL_TENANT, tenantOf } from "../identity/tenant.ts";
import { RequestRefused, refuseIssues } from "./problem.ts";

/**
 * Who sends a request, by the one credential that it carries. For the root credential nothing is waited for.
 * @throws RequestRefused `AUTH_REQUIRED`, `IDENTITY_UNAVAILABLE`, `TENANT_CONTEXT_DENIED`,
 * `HEADER_INVALID`
 */
export async function authenticate(
  request: Request,
  env: Env,
  context: Pick<ExecutionContext, "waitUntil">,
): Promise<Principal> {
  const credential = credentialOf(request.headers);
  const claimed = claimedTenant(request.headers);
  if (credential !== null && env.BATON_TOKEN && isSameSecret(credential, env.BATON_TOKEN)) {
    return rootPrincipal(tenantOfRoot(claimed));
  }
  const verified =
    (await verifyExternal(env, credential, request)) ??
    (credential === null ? null : await verifyMinted(credential, env, context));
  if (verified === null) throw unauthorized(null);
  if (!verified.ok) throw unauthorized(verified.reason);
  refuseOtherTenant(verified.principal, claimed);
  return verified.principal;
}

/**
 * What a trusted issuer's token says; null when the request has none. Its own header counts only where no credential of
 * the usual headers is there.
 */
async function verifyExternal(
  env: Env,
  credential: string | null,
  { headers, url }: Request,
): Promise<Verified | null> {
  const trusted = issuersOf(env.BATON_ISSUERS);
  const issuers = trusted.ok ? trusted.issuers : [];
  let refused: Verified | null = null;
  for (const issuer of issuers) {
    const token =
      issuer.header === null ? credential : credential === null ? headers.get(issuer.header) : null;
    // Of several issuers with one header, those that the token names are asked: one may be there for several audiences.
    if (token === null || !issuer.claims(token)) continue;
    // A header of its own is added on the way, from a cookie maybe: another site's page could ride on it.
    if (issuer.header !== null && isFromOtherOrigin(headers, url))
      return { ok: false, reason: "other origin" };
    try {
      const verified = await issuer.verify(token, Date.now());
      if (verified.ok) return verified;
      refused = verified;
    } catch (error) {
      if (error instanceof IssuerUnavailable) throw identityUnavailable();
      if (error instanceof TenantUnclear) throw tenantDenied();
      throw error;
    }
  }
  if (refused !== null) return refused;
  const isSent = issuers.some(({ header }) => header !== null && headers.has(header));
  return credential === null && isSent ? { ok: false, reason: "no such issuer" } : null;
}

/** Whether a page of another origin sends this: browsers say so with everything but plain reads. */
function isFromOtherOrigin(headers: Headers, url: string): boolean {
  const origin = headers.get("origin");
  if (origin === null) return false;
  const [page, own] = [URL.parse(origin), URL.parse(url)];
  return page === null || own === null || page.host !== own.host;
}

async function verifyMinted(
  credential: string,
  env: Env,
  context: Pick<ExecutionContext, "waitUntil">,
): Promise<Verified> {
  const ring = keyringOf(env);
  if (ring === null) return { ok: false, reason: "no keys" };
  try {
    return await checkToken({ ring, db: env.DIRECTORY }, credential, Date.now(), (reading) =>
      context.waitUntil(reading),
    );
  } catch (error) {
    if (error instanceof RevocationsUnknown) throw identityUnavailable();
    throw error;
  }
}

/** The tenant that the root credential acts for: that of the headers, where they name one (contract 02 §1.2). */
function tenantOfRoot(claimed: ClaimedTenant | null) {
  if (claimed === null) return LOCAL_TENANT;
  const issues = issuesOfClaims(claimed);
  if (issues.length > 0) refuseIssues("HEADER_INVALID", issues);
  return tenantOf(claimed.org_id ?? "local", claimed.workspace_id ?? "local", claimed.actor_id);
}

/** Every other credential has its tenant. One that is named beside it must be the same; whose actor it is, it says itself. */
function refuseOtherTenant({ tenant }: Principal, claimed: ClaimedTenant | null): void {
  if (claimed === null) return;
  const { org_id, workspace_id } = claimed;
  if (
    (org_id ?? tenant.org_id) === tenant.org_id &&
    (workspace_id ?? tenant.workspace_id) === tenant.workspace_id
  )
    return;
  throw tenantDenied();
}

function tenantDenied(): RequestRefused {
  return new RequestRefused({ code: "TENANT_CONTEXT_DENIED", error: "Unauthorized: tenant context denied" });
}

/** One text for every reason: which one it is, is for the log. */
export function unauthorized(reason: string | null): RequestRefused {
  const error = "Unauthorized: missing or invalid API token";
  return new RequestRefused({ code: "AUTH_REQUIRED", error }, {}, reason);
}

/** Whether a token still counts cannot be told now. */
export function identityUnavailable(): RequestRefused {
  const error = "whether this credential still counts cannot be told now";
  return new RequestRefused({ code: "IDENTITY_UNAVAILABLE", error }, { "retry-after": "5" });
}
