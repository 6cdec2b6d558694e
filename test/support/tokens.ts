import { env, exports } from "cloudflare:workers";
import { SignJWT } from "jose/jwt/sign";
import { keyringOf } from "../../src/identity/keyring.ts";

export const ROOT = "test-token";

/** One answer; `body` is its JSON, or empty when it has none. */
export interface Answered {
  status: number;
  headers: Headers;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: answers of every route are looked into
  body: any;
}

/** Sends a request to the Worker with a credential; null sends none. */
export async function callAs(
  credential: string | null,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<Answered> {
  const response = await exports.default.fetch(requestAs(credential, method, path, body, headers));
  return answered(response);
}

export function requestAs(
  credential: string | null,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Request {
  const sent = new Headers(headers);
  if (credential !== null) sent.set("authorization", `Bearer ${credential}`);
  if (body !== undefined && !sent.has("content-type")) sent.set("content-type", "application/json");
  const text = body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body);
  return new Request(`http://host${path}`, {
    method,
    headers: sent,
    ...(text !== undefined && { body: text }),
  });
}

export async function answered(response: Response): Promise<Answered> {
  const { status, headers } = response;
  // A stream has no end of its own.
  if (headers.get("content-type") === "text/event-stream") {
    await response.body?.cancel();
    return { status, headers, text: "", body: {} };
  }
  const text = await response.text();
  const isJson = /[/+]json$/.test(headers.get("content-type") ?? "") && text !== "";
  return { status, headers, text, body: isJson ? JSON.parse(text) : {} };
}

/** A tenant that no other test uses. */
export function newTenant(): { org_id: string; workspace_id: string } {
  return { org_id: `org-${crypto.randomUUID()}`, workspace_id: "main" };
}

/** Mints a token; by the root credential unless another is named. */
export async function mint(
  asked: Record<string, unknown>,
  by: string = ROOT,
): Promise<{ token: string; token_id: string; expires_at_ms: number }> {
  const { status, body, text } = await callAs(by, "POST", "/v1/tokens", asked);
  if (status !== 201) throw new Error(`not minted: ${status} ${text}`);
  return body;
}

/** A token with claims and a header of the test's choice, signed with the deployment's own key. */
export async function signedWith(
  claims: Record<string, unknown>,
  header: Record<string, unknown> = {},
  key?: CryptoKey | Uint8Array,
): Promise<string> {
  const [own] = (await keyringOf(env)?.keys("tokens")) ?? [];
  if (own === undefined) throw new Error("the tests have a key");
  return new SignJWT(claims)
    .setProtectedHeader({ alg: "HS256", kid: own.kid, ...header })
    .sign(key ?? own.key);
}

/** Claims of a good token. */
export function goodClaims(changes: Record<string, unknown> = {}): Record<string, unknown> {
  const now = Math.floor(Date.now() / 1000);
  return {
    iss: "baton",
    aud: "baton",
    jti: `tok_${crypto.randomUUID().replaceAll("-", "")}`,
    iat: now,
    exp: now + 600,
    org_id: "org-claims",
    workspace_id: "main",
    scopes: ["viewer"],
    ...changes,
  };
}
