import type { Env } from "../env.ts";
import { credentialOf, isSameSecret } from "../identity/credential.ts";
import { type Principal, rootPrincipal } from "../identity/principal.ts";
import { LOCAL_TENANT } from "../identity/tenant.ts";
import { RequestRefused } from "./problem.ts";

/**
 * Who sends a request, by the one credential that it carries.
 * @throws RequestRefused `SETUP_REQUIRED`, `AUTH_REQUIRED`
 */
export async function authenticate(request: Request, env: Env): Promise<Principal> {
  if (!env.BATON_TOKEN) {
    throw new RequestRefused({
      code: "SETUP_REQUIRED",
      error: "this deployment has no token: set the secret BATON_TOKEN (`wrangler secret put BATON_TOKEN`)",
    });
  }
  const credential = credentialOf(request.headers);
  if (credential !== null && isSameSecret(credential, env.BATON_TOKEN)) return rootPrincipal(LOCAL_TENANT);
  throw new RequestRefused({
    code: "AUTH_REQUIRED",
    error: "Unauthorized: missing or invalid API token",
  });
}
