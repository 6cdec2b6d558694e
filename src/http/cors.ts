import type { Env } from "../env.ts";

/** Which browser pages may read answers: those of any origin, as the contract has it (02 §1.4), or of these. */
type Allowed = "any" | ReadonlySet<string>;

/** By the text of the variable: it is read once in the life of an isolate. */
const read = new Map<string, Allowed>();

/** CORS_ORIGINS: `*`, which is the default, or origins separated by blanks or commas. */
function allowedBy({ CORS_ORIGINS: text = "*" }: Env): Allowed {
  let allowed = read.get(text);
  if (allowed === undefined) {
    const origins = text.split(/[\s,]+/).filter((origin) => origin !== "");
    allowed = origins.includes("*") ? "any" : new Set(origins.map((origin) => origin.replace(/\/$/, "")));
    read.set(text, allowed);
  }
  return allowed;
}

const ANY = { "access-control-allow-origin": "*", "access-control-expose-headers": "*" };

/** What tells a browser whether the page that asks may read the answer. Credentials are never sent along by a browser itself. */
export function corsHeaders(env: Env, request: Request): Record<string, string> {
  const allowed = allowedBy(env);
  if (allowed === "any") return ANY;
  const origin = request.headers.get("origin");
  // The answer would be another one for another page, also where this one may not read it.
  const headers = { vary: "Origin" };
  if (origin === null || !allowed.has(origin)) return headers;
  return { ...headers, "access-control-allow-origin": origin, "access-control-expose-headers": "*" };
}

/** What a preflight is told beside: any method and header, where the page is allowed at all. */
export function preflightHeaders(env: Env, request: Request): Record<string, string> {
  const allowed = allowedBy(env);
  if (allowed !== "any" && !allowed.has(request.headers.get("origin") ?? "")) return {};
  return {
    "access-control-allow-methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
    "access-control-allow-headers": request.headers.get("access-control-request-headers") ?? "*",
    "access-control-max-age": "86400",
  };
}
