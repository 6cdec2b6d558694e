import type { Env } from "../env.ts";
import { issuersOf } from "../identity/issuers.ts";
import type { HttpAnswer } from "./http-answer.ts";
import { RequestRefused } from "./problem.ts";

const SETUP = `Baton is deployed, but it has no root credential yet. Until it has one, it refuses every request but this one
and GET /global/health.

1. Make two secrets, and keep them where only you can read them:

     openssl rand -base64 32
     openssl rand -base64 32

2. Give them to the deployment, from the project's directory. The first is the root credential; the second is what tokens
   are signed with and secrets of hooks are encrypted with:

     npx wrangler secret put BATON_TOKEN
     npx wrangler secret put BATON_KEYS

3. A few seconds later, create a run:

     curl -s ORIGIN/v1/runs -H "Authorization: Bearer $BATON_TOKEN" \\
       -H "content-type: application/json" -d '{"objective":"Try Baton"}'
`;

const FRONT = `Baton: a durable coordination engine for fleets of AI agents.

The API is under /v1, and under /context for clients of the reference engine. Every request there needs a credential:
Authorization: Bearer <token>. What a problem's code means is at /problems/{code}; whether this deployment is up, at
/global/health. The documentation lies beside the source, in docs/; begin with docs/http-api.md.
`;

/**
 * Nothing is served by a deployment without its secret, nor by one that cannot tell whom it should trust.
 * @throws RequestRefused `SETUP_REQUIRED`
 */
export function requireSetup(env: Env): void {
  const trusted = issuersOf(env.BATON_ISSUERS);
  if (env.BATON_TOKEN && trusted.ok) return;
  if (!trusted.ok) throw new RequestRefused({ code: "SETUP_REQUIRED", error: trusted.fault });
  throw new RequestRefused({
    code: "SETUP_REQUIRED",
    error: "this deployment has no token: set the secret BATON_TOKEN (`wrangler secret put BATON_TOKEN`)",
  });
}

/** `GET /`: what this is; before it is set up, what to do. Tells nothing that is not in the source. */
export function frontPage(env: Env, origin: string): HttpAnswer {
  const isSetUp = Boolean(env.BATON_TOKEN);
  return {
    status: isSetUp ? 200 : 503,
    headers: { "content-type": "text/plain; charset=utf-8" },
    body: isSetUp ? FRONT : SETUP.replace("ORIGIN", origin),
  };
}
