import { revokedSet } from "../../directory/revocations.ts";
import {
  addToken,
  findToken,
  fingerprintOf,
  listTokens,
  revokeToken,
  type TokenPlace,
  type TokenRow,
} from "../../directory/tokens.ts";
import { commandIdConflict, limitExceeded } from "../../domain/refusals.ts";
import { signToken } from "../../identity/minted-tokens.ts";
import { narrowed } from "../../identity/narrow.ts";
import type { Principal } from "../../identity/principal.ts";
import { hasScope } from "../../identity/scopes.ts";
import { tenantKey } from "../../identity/tenant.ts";
import {
  DEFAULT_TOKEN_LIFETIME_MS,
  MAX_CREDENTIAL_LENGTH,
  MAX_TOKEN_ANCESTORS,
} from "../../protocol/limits.ts";
import { type MintBody, mintBody, type TokenView } from "../../protocol/tokens.ts";
import { readBody } from "../body.ts";
import type { Call } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { digest, type Identified, identify } from "../idempotency.ts";
import { jsonAnswer } from "../json.ts";
import { keyringFor } from "../keyring.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";

/** `GET /v1/whoami`: what the credential is and may do. */
export async function whoami(call: Call): Promise<HttpAnswer> {
  const { kind, tenant, token_id, scopes, ancestors, run_id, agent_id, task_types, expires_at_ms } =
    call.principal;
  return jsonAnswer({
    kind,
    token_id,
    tenant,
    scopes,
    run_id,
    agent_id,
    task_types,
    ancestors,
    expires_at_ms,
  });
}

/** `POST /v1/tokens`: a token as narrow as the credential that asks, or narrower. It is shown in this answer only. */
export async function mintToken(call: Call): Promise<HttpAnswer> {
  const ring = keyringFor(call.env);
  const body = await readBody(call.request, mintBody(), { mayBeEmpty: false });
  const by = call.principal;
  const identified = await identify(call, undefined, body);
  const nowMs = Date.now();
  const token_id = await tokenId(call, body, identified);
  const read = narrowed(by, body, { token_id, nowMs, defaultLifetimeMs: DEFAULT_TOKEN_LIFETIME_MS });
  if (!read.ok) refuseIssues("TOKEN_NOT_NARROWER", read.issues);
  const { token } = read;
  if (token.ancestors.length > MAX_TOKEN_ANCESTORS) {
    throw new RequestRefused(limitExceeded("token_ancestors", MAX_TOKEN_ANCESTORS, token.ancestors.length));
  }
  const text = await signToken(ring, token, nowMs);
  if (text.length > MAX_CREDENTIAL_LENGTH) {
    throw new RequestRefused(limitExceeded("token_length", MAX_CREDENTIAL_LENGTH, text.length));
  }
  await call.requireRoom(async () => {
    const minted = await fingerprintOf(call.env.DIRECTORY, tenantKey(token.tenant), token_id);
    return minted !== null;
  });
  const told = { name: body.name ?? null, fingerprint: identified?.fingerprint ?? null };
  const isNew = await addToken(call.env.DIRECTORY, by, token, told, nowMs);
  if (!isNew) return repeatedMint(call, token, told.fingerprint);
  const row = await tokenOf(call, tenantKey(token.tenant), token_id);
  return mintAnswer(call, row, text, {});
}

/** The key decides the id, so that a repeat finds what it made. Who mints is part of it: keys of others are theirs. */
async function tokenId(call: Call, body: MintBody, identified: Identified | null): Promise<string> {
  if (identified === null) return `tok_${crypto.randomUUID().replaceAll("-", "")}`;
  const tenant = tenantKey({ ...call.tenant, ...body.tenant });
  const hex = await digest(["token", tenant, call.principal.token_id, identified.commandId]);
  return `tok_${hex.slice(0, 32)}`;
}

/** A repeat under the same key is answered without the token: nobody is shown it twice. */
async function repeatedMint(call: Call, token: Principal, fingerprint: string | null): Promise<HttpAnswer> {
  const tenant = tenantKey(token.tenant);
  const first = await fingerprintOf(call.env.DIRECTORY, tenant, token.token_id);
  if (fingerprint === null || first !== fingerprint) throw new RequestRefused(commandIdConflict);
  const row = await tokenOf(call, tenant, token.token_id);
  return mintAnswer(call, row, null, { "idempotency-replayed": "true" });
}

function mintAnswer(
  call: Call,
  row: TokenRow,
  token: string | null,
  headers: Record<string, string>,
): HttpAnswer {
  return jsonAnswer(
    { token, ...viewOf(call, row) },
    {
      status: 201,
      headers: { ...headers, location: `/v1/tokens/${row.token_id}` },
    },
  );
}

/** `GET /v1/tokens`: those of the tenant, latest first; never the tokens themselves. */
export async function getTokens(call: Call): Promise<HttpAnswer> {
  const { limit, cursor } = call.query({ limit: "uint", cursor: "string" });
  const size = pageLimit(limit);
  const after = readCursor(cursor, isTokenPlace);
  const rows = await listTokens(call.env.DIRECTORY, call.tenantKey, after, size + 1);
  const tokens = rows.slice(0, size);
  const last = rows.length > size ? tokens.at(-1) : undefined;
  const position = last === undefined ? null : { minted_at_ms: last.minted_at_ms, token_id: last.token_id };
  return jsonAnswer({ tokens: tokens.map((row) => viewOf(call, row)), ...pageLinks(call, position) });
}

/** `GET /v1/tokens/{token_id}`: of an operator any, of others their own and what was minted from it. */
export async function getToken(call: Call): Promise<HttpAnswer> {
  const row = await tokenOf(call, call.tenantKey, call.id("token_id"));
  if (!governs(call.principal) && row.token_id !== call.principal.token_id && !comesFrom(row, call.principal))
    throw tokenNotFound();
  return jsonAnswer({ ...viewOf(call, row) });
}

/** `POST /v1/tokens/{token_id}/revoke`: ends a token, and with it all that were minted from it. May be repeated. */
export async function postRevocation(call: Call): Promise<HttpAnswer> {
  const row = await tokenOf(call, call.tenantKey, call.id("token_id"));
  const { principal, env } = call;
  if (!governs(principal) && row.token_id !== principal.token_id && !comesFrom(row, principal))
    throw tokenNotFound();
  const nowMs = Date.now();
  if (row.revoked_at_ms === null) await revokeToken(env.DIRECTORY, principal, row, nowMs);
  revokedSet(env.DIRECTORY).add(row.token_id, row.expires_at_ms);
  return jsonAnswer({ ...viewOf(call, { ...row, revoked_at_ms: row.revoked_at_ms ?? nowMs }) });
}

/** Whether a principal has to do with all tokens of its tenant. */
function governs(principal: Principal): boolean {
  return hasScope(principal.scopes, "operator") && principal.run_id === null;
}

function comesFrom(row: TokenRow, principal: Principal): boolean {
  return row.ancestors.includes(principal.token_id);
}

/** @throws RequestRefused `TOKEN_NOT_FOUND` */
async function tokenOf(call: Call, tenant: string, tokenId: string): Promise<TokenRow> {
  const row = await findToken(call.env.DIRECTORY, tenant, tokenId);
  if (row === null) throw tokenNotFound();
  return row;
}

function tokenNotFound(): RequestRefused {
  return new RequestRefused({ code: "TOKEN_NOT_FOUND", error: "token not found" });
}

function viewOf(call: Call, row: TokenRow): TokenView {
  const isRevoked = revokedSet(call.env.DIRECTORY).hasAny([row.token_id, ...row.ancestors]);
  const active = row.revoked_at_ms === null && !isRevoked && row.expires_at_ms > Date.now();
  return { ...row, active };
}

function isTokenPlace(value: unknown): value is TokenPlace {
  if (typeof value !== "object" || value === null) return false;
  const { minted_at_ms, token_id } = value as Partial<TokenPlace>;
  return isWholeNumber(minted_at_ms) && typeof token_id === "string";
}
