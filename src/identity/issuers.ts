import { JOSEError, JWKSInvalid, JWKSTimeout } from "jose/errors";
import { createRemoteJWKSet, customFetch } from "jose/jwks/remote";
import { jwtVerify } from "jose/jwt/verify";
import { isValidActor } from "../protocol/actor.ts";
import { parseIJson } from "../protocol/i-json.ts";
import { isValidId } from "../protocol/ids.ts";
import { type IssuerConfig, issuersSchema } from "../protocol/issuers.ts";
import { readShape } from "../protocol/shape.ts";
import { BoundedMap } from "./bounded-map.ts";
import { isExpired, looksLikeToken, reasonOf, type Verified } from "./minted-tokens.ts";
import type { Principal } from "./principal.ts";
import type { Scope } from "./scopes.ts";
import { tenantOf } from "./tenant.ts";

/** Those that need no secret of ours: whoever could make us take a public key for an HMAC's could sign as anyone. */
const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];
/** Clocks of others may be so far from ours, in seconds. */
const CLOCK_TOLERANCE_S = 5;
/** Tokens of one issuer that an isolate has checked and need not check again. */
const MAX_VERIFIED = 1_000;
/** Keys that could not be fetched are not asked for again by every request. */
const FETCH_COOLDOWN_MS = 5_000;
const FETCH_TIMEOUT_MS = 5_000;

/** An issuer's keys cannot be had now. */
export class IssuerUnavailable extends Error {}

/** A good token whose claims name no tenant that can be. */
export class TenantUnclear extends Error {}

/** The trusted issuers of a deployment, or why its variable cannot be used. */
export type Issuers = { ok: true; issuers: readonly ExternalIssuer[] } | { ok: false; fault: string };

const NONE: Issuers = { ok: true, issuers: [] };

/** By the variable's text: it is read once in the life of an isolate, and keys are kept. */
const known = new Map<string, Issuers>();

/** The issuers that the variable BATON_ISSUERS names. */
export function issuersOf(text: string | undefined): Issuers {
  if (text === undefined || text.trim() === "") return NONE;
  let issuers = known.get(text);
  if (issuers === undefined) {
    issuers = readIssuers(text);
    known.set(text, issuers);
  }
  return issuers;
}

function readIssuers(text: string): Issuers {
  const parsed = parseIJson(text);
  if (!parsed.ok) return { ok: false, fault: "BATON_ISSUERS is not JSON" };
  const read = readShape(issuersSchema(), parsed.value, "BATON_ISSUERS");
  if (!read.ok) {
    const [first] = read.issues;
    return { ok: false, fault: `${first?.field}: ${first?.message} (${first?.rule})` };
  }
  return { ok: true, issuers: read.value.map((config) => new ExternalIssuer(config)) };
}

/** Someone else who says who somebody is. */
export class ExternalIssuer {
  readonly #config: IssuerConfig;
  readonly #keys: ReturnType<typeof createRemoteJWKSet>;
  readonly #verified = new BoundedMap<Principal>(MAX_VERIFIED);
  #failedAtMs = Number.NEGATIVE_INFINITY;

  constructor(config: IssuerConfig) {
    this.#config = config;
    this.#keys = createRemoteJWKSet(new URL(config.jwks_url), {
      timeoutDuration: FETCH_TIMEOUT_MS,
      [customFetch]: (url, options) => this.#fetch(url, options),
    });
  }

  /** The header that carries its tokens; null for the headers that carry any credential. */
  get header(): string | null {
    return this.#config.header ?? null;
  }

  /** Whether a token says that it is of this issuer. That it is, is for its signature to say. */
  claims(token: string): boolean {
    return looksLikeToken(token) && claimedIssuer(token) === this.#config.issuer;
  }

  /**
   * Whose token a text is.
   * @throws IssuerUnavailable, TenantUnclear
   */
  async verify(text: string, nowMs: number): Promise<Verified> {
    if (!looksLikeToken(text)) return { ok: false, reason: "malformed" };
    const seen = this.#verified.get(text);
    if (seen !== undefined)
      return isExpired(seen, nowMs) ? { ok: false, reason: "expired" } : { ok: true, principal: seen };
    try {
      const { payload } = await jwtVerify(text, (header, token) => this.#keyOf(header, token), {
        algorithms: ALGORITHMS,
        issuer: this.#config.issuer,
        audience: this.#config.audience,
        requiredClaims: ["exp"],
        clockTolerance: CLOCK_TOLERANCE_S,
        currentDate: new Date(nowMs),
      });
      const principal = await this.#principalOf(payload, text);
      if (isExpired(principal, nowMs)) return { ok: false, reason: "expired" };
      this.#verified.set(text, principal);
      return { ok: true, principal };
    } catch (error) {
      if (error instanceof IssuerUnavailable || error instanceof TenantUnclear) throw error;
      // A key of theirs may be too weak, or not what it says: that too is no reason to trust the token.
      return { ok: false, reason: error instanceof JOSEError ? reasonOf(error) : String(error) };
    }
  }

  /** The key that a token is signed with. That it is none of theirs is a reason to refuse; that theirs cannot be had is not. */
  async #keyOf(...asked: Parameters<ReturnType<typeof createRemoteJWKSet>>) {
    try {
      return await this.#keys(...asked);
    } catch (error) {
      const isAboutKeys = error instanceof JOSEError && error.code !== JOSEError.code;
      if (isAboutKeys && !(error instanceof JWKSTimeout) && !(error instanceof JWKSInvalid)) throw error;
      if (!(error instanceof IssuerUnavailable)) this.#failedAtMs = Date.now();
      throw new IssuerUnavailable(`the keys of ${this.#config.issuer} cannot be had`, { cause: error });
    }
  }

  async #fetch(url: string, options: RequestInit): Promise<Response> {
    const isTooSoon = Date.now() - this.#failedAtMs < FETCH_COOLDOWN_MS;
    if (isTooSoon) throw new IssuerUnavailable("the keys could not be fetched a moment ago");
    return fetch(url, options);
  }

  async #principalOf(claims: Record<string, unknown>, text: string): Promise<Principal> {
    const { tenant, scopes, actor_claim } = this.#config;
    const actor = actor_claim === undefined ? undefined : claimAt(claims, actor_claim);
    const org_id = partOf(tenant.org_id, claims);
    const workspace_id = partOf(tenant.workspace_id, claims);
    if (org_id === null || workspace_id === null) throw new TenantUnclear();
    if (actor !== undefined && !(typeof actor === "string" && isValidActor(actor))) throw new TenantUnclear();
    return {
      kind: "external",
      tenant: tenantOf(org_id, workspace_id, actor ?? null),
      scopes: scopesOf(scopes, claims),
      token_id: await externalId(this.#config.issuer, claims.jti ?? text),
      ...(typeof claims.sub === "string" && {
        subject: await externalId(this.#config.issuer, { sub: claims.sub }),
      }),
      ancestors: [],
      run_id: null,
      agent_id: null,
      task_types: null,
      expires_at_ms: Number(claims.exp) * 1000,
    };
  }
}

/** A part of the tenant: fixed, or what a claim says if that is an id; else null. */
function partOf(part: IssuerConfig["tenant"]["org_id"], claims: Record<string, unknown>): string | null {
  if (typeof part === "string") return part;
  const value = claimAt(claims, part.claim);
  return typeof value === "string" && isValidId(value) ? value : null;
}

function scopesOf(
  { claim, map, default: all }: IssuerConfig["scopes"],
  claims: Record<string, unknown>,
): Scope[] {
  const value = claim === undefined ? [] : claimAt(claims, claim);
  const words = typeof value === "string" ? value.split(/\s+/) : Array.isArray(value) ? value : [];
  const allowed = words.flatMap((word) =>
    typeof word === "string" && map !== undefined && Object.hasOwn(map, word) ? (map[word] ?? []) : [],
  );
  return [...new Set([...(all ?? []), ...allowed])];
}

/** A claim by its name or path; undefined where there is none. */
function claimAt(claims: Record<string, unknown>, path: string | readonly string[]): unknown {
  let at: unknown = claims;
  for (const name of typeof path === "string" ? [path] : path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, name)) return undefined;
    at = (at as Record<string, unknown>)[name];
  }
  return at;
}

/** The id of another's token, or of whom it is of, here: it tells them apart in logs, and nothing of the token. */
async function externalId(issuer: string, unique: unknown): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify([issuer, unique]));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return `ext_${[...hash.slice(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** The issuer that a token names, unproven. */
function claimedIssuer(token: string): string | null {
  try {
    const [, payload = ""] = token.split(".");
    const bytes = Uint8Array.from(atob(payload.replaceAll("-", "+").replaceAll("_", "/")), (char) =>
      char.charCodeAt(0),
    );
    const { iss } = JSON.parse(new TextDecoder().decode(bytes)) as { iss?: unknown };
    return typeof iss === "string" ? iss : null;
  } catch {
    return null;
  }
}
