import { JOSEError } from "jose/errors";
import { SignJWT } from "jose/jwt/sign";
import { jwtVerify } from "jose/jwt/verify";
import { MAX_CREDENTIAL_LENGTH } from "../protocol/limits.ts";
import { BoundedMap } from "./bounded-map.ts";
import type { Keyring } from "./keyring.ts";
import type { Principal } from "./principal.ts";
import { SCOPES, type Scope } from "./scopes.ts";
import { tenantOf } from "./tenant.ts";

/** What a credential was found to be. `reason` is for the log: no caller is told why it was refused. */
export type Verified = { ok: true; principal: Principal } | { ok: false; reason: string };

/** Both names stand for this engine, not for a deployment: tokens are told apart by the keys that sign them. */
const ISSUER = "baton";
const AUDIENCE = "baton";
const ALGORITHM = "HS256";

/** Three parts of base64url. */
const JWT_PATTERN = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
/** Tokens whose signature an isolate has checked and need not check again. */
const MAX_VERIFIED = 1_000;

/** By keyring, so that a token counts only under the keys that have signed it. */
const verifiedBy = new WeakMap<Keyring, BoundedMap<Principal>>();

/** Whether a text can be a token at all: anything else costs no cryptography. */
export function looksLikeToken(text: string): boolean {
  return text.length <= MAX_CREDENTIAL_LENGTH && JWT_PATTERN.test(text);
}

/** A token for a principal that expires, signed with the ring's first key. */
export async function signToken(ring: Keyring, principal: Principal, nowMs: number): Promise<string> {
  const [first] = await ring.keys("tokens");
  if (first === undefined) throw new Error("the keyring is empty");
  if (principal.expires_at_ms === null) throw new Error("a token must expire");
  const { tenant, scopes, ancestors, run_id, agent_id, task_types } = principal;
  const claims = {
    org_id: tenant.org_id,
    workspace_id: tenant.workspace_id,
    scopes,
    ...(tenant.actor_id !== undefined && { actor_id: tenant.actor_id }),
    ...(run_id !== null && { run_id }),
    ...(agent_id !== null && { agent_id }),
    ...(task_types !== null && { task_types }),
    ...(ancestors.length > 0 && { anc: ancestors }),
  };
  return new SignJWT(claims)
    .setProtectedHeader({ alg: ALGORITHM, kid: first.kid })
    .setIssuer(ISSUER)
    .setAudience(AUDIENCE)
    .setJti(principal.token_id)
    .setIssuedAt(Math.floor(nowMs / 1000))
    .setExpirationTime(Math.floor(principal.expires_at_ms / 1000))
    .sign(first.key);
}

/** Whose token a text is, without a read: whether it was revoked is not known here. Its signature is checked once. */
export async function verifyToken(ring: Keyring, text: string, nowMs: number): Promise<Verified> {
  if (!looksLikeToken(text)) return refused("malformed");
  let verified = verifiedBy.get(ring);
  if (verified === undefined) {
    verified = new BoundedMap(MAX_VERIFIED);
    verifiedBy.set(ring, verified);
  }
  const known = verified.get(text);
  if (known !== undefined)
    return isExpired(known, nowMs) ? refused("expired") : { ok: true, principal: known };
  const read = await readToken(ring, text, nowMs);
  if (read.ok) verified.set(text, read.principal);
  return read;
}

export function isExpired(principal: Principal, nowMs: number): boolean {
  return principal.expires_at_ms !== null && nowMs >= principal.expires_at_ms;
}

async function readToken(ring: Keyring, text: string, nowMs: number): Promise<Verified> {
  const keys = await ring.keys("tokens");
  try {
    const { payload } = await jwtVerify(
      text,
      ({ kid }) => {
        const found = keys.find((key) => key.kid === kid);
        if (found === undefined) throw new UnknownKey();
        return found.key;
      },
      {
        algorithms: [ALGORITHM],
        issuer: ISSUER,
        audience: AUDIENCE,
        requiredClaims: ["jti", "iat", "exp"],
        currentDate: new Date(nowMs),
      },
    );
    const principal = principalOf(payload);
    return principal === null ? refused("claims") : { ok: true, principal };
  } catch (error) {
    return refused(reasonOf(error));
  }
}

class UnknownKey extends Error {}

/** In one word or two why a token was refused; an error that is no refusal is thrown again. */
export function reasonOf(error: unknown): string {
  if (error instanceof UnknownKey) return "unknown key";
  if (!(error instanceof JOSEError)) throw error;
  // A claim's name says more than that one did not fit.
  const claim = "claim" in error && typeof error.claim === "string" ? ` ${error.claim}` : "";
  return `${error.code}${claim}`;
}

/** What the claims of a token with our signature say; null when they are not those of a token. */
function principalOf(claims: Record<string, unknown>): Principal | null {
  const { jti, exp, org_id, workspace_id, actor_id, scopes, run_id, agent_id, task_types, anc } = claims;
  if (typeof jti !== "string" || typeof org_id !== "string" || typeof workspace_id !== "string") return null;
  const known = textsOf(scopes)?.filter((word): word is Scope => SCOPES.some((scope) => scope === word));
  if (known === undefined || typeof exp !== "number") return null;
  // A bound of a form that is not known here must not read as none.
  if ([actor_id, run_id, agent_id].some((bound) => bound !== undefined && textOf(bound) === null))
    return null;
  if ([task_types, anc].some((list) => list !== undefined && textsOf(list) === undefined)) return null;
  const tenant = tenantOf(org_id, workspace_id, textOf(actor_id));
  return {
    kind: "token",
    tenant,
    scopes: known,
    token_id: jti,
    ancestors: textsOf(anc) ?? [],
    run_id: textOf(run_id),
    agent_id: textOf(agent_id),
    task_types: textsOf(task_types) ?? null,
    expires_at_ms: exp * 1000,
  };
}

function textOf(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function textsOf(value: unknown): string[] | undefined {
  return Array.isArray(value) && value.every((item) => typeof item === "string") ? value : undefined;
}

function refused(reason: string): Verified {
  return { ok: false, reason };
}
