import type { Principal } from "../identity/principal.ts";
import type { Scope } from "../identity/scopes.ts";
import { tenantKey } from "../identity/tenant.ts";
import type { TokenView } from "../protocol/tokens.ts";
import { recordAudit, recordAuditIfChanged } from "./audit-events.ts";

/** A token as it is remembered: everything but itself. Whether it is active is found out when it is shown. */
export type TokenRow = Omit<TokenView, "active">;

/** A place in the list of tokens, latest first; the page begins after it. */
export interface TokenPlace {
  minted_at_ms: number;
  token_id: string;
}

type StoredToken = Omit<TokenRow, "scopes" | "task_types" | "ancestors"> & {
  scopes: string;
  task_types: string | null;
  ancestors: string;
};

const COLUMNS = `token_id, name, scopes, actor_id, run_id, agent_id, task_types, minted_by, ancestors, minted_at_ms,
  expires_at_ms, revoked_at_ms`;

/**
 * Remembers a new token, and that it was minted. False when one of this id is there: nothing is changed then.
 * @param token as a principal: what it is and what it may do.
 * @param fingerprint digest of the request, where it had an idempotency key.
 */
export async function addToken(
  db: D1Database,
  by: Principal,
  token: Principal & { expires_at_ms: number },
  told: { name: string | null; fingerprint: string | null },
  nowMs: number,
): Promise<boolean> {
  const { tenant, token_id, scopes, run_id, agent_id, task_types, ancestors, expires_at_ms } = token;
  const insert = db
    .prepare(
      `INSERT INTO tokens (tenant, token_id, name, scopes, actor_id, run_id, agent_id, task_types, minted_by, ancestors,
         fingerprint, minted_at_ms, expires_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    )
    .bind(
      tenantKey(tenant),
      token_id,
      told.name,
      JSON.stringify(scopes),
      tenant.actor_id ?? null,
      run_id,
      agent_id,
      task_types === null ? null : JSON.stringify(task_types),
      by.token_id,
      JSON.stringify(ancestors),
      told.fingerprint,
      nowMs,
      expires_at_ms,
    );
  const detail = {
    name: told.name,
    scopes,
    actor_id: tenant.actor_id ?? null,
    run_id,
    agent_id,
    task_types,
    expires_at_ms,
  };
  const event = { type: "token.minted", subject: token_id, detail };
  try {
    await db.batch([insert, recordAudit(db, inTenantOf(by, token), event, nowMs)]);
    return true;
  } catch (error) {
    // The batch is undone as a whole, the audit event with it.
    if (String(error).includes("UNIQUE constraint failed")) return false;
    throw error;
  }
}

export async function findToken(db: D1Database, tenant: string, tokenId: string): Promise<TokenRow | null> {
  const found = await db
    .prepare(`SELECT ${COLUMNS} FROM tokens WHERE tenant = ? AND token_id = ?`)
    .bind(tenant, tokenId)
    .first<StoredToken>();
  return found === null ? null : rowOf(found);
}

/** The digest of the request that minted a token; null when that had no idempotency key. */
export async function fingerprintOf(db: D1Database, tenant: string, tokenId: string): Promise<string | null> {
  return db
    .prepare("SELECT fingerprint FROM tokens WHERE tenant = ? AND token_id = ?")
    .bind(tenant, tokenId)
    .first<string>("fingerprint");
}

/** Up to `limit` tokens of a tenant, latest first, after a place in that order. */
export async function listTokens(
  db: D1Database,
  tenant: string,
  after: TokenPlace | null,
  limit: number,
): Promise<TokenRow[]> {
  const place = after ?? { minted_at_ms: Number.MAX_SAFE_INTEGER, token_id: "" };
  const { results } = await db
    .prepare(
      `SELECT ${COLUMNS} FROM tokens WHERE tenant = ?1 AND (minted_at_ms, token_id) < (?2, ?3)
       ORDER BY minted_at_ms DESC, token_id DESC LIMIT ?4`,
    )
    .bind(tenant, place.minted_at_ms, place.token_id, limit)
    .all<StoredToken>();
  return results.map(rowOf);
}

/** Writes down that a token is no longer valid, for every isolate to read, and who said so. Safe to repeat. */
export async function revokeToken(
  db: D1Database,
  by: Principal,
  token: TokenRow,
  nowMs: number,
): Promise<void> {
  const tenant = tenantKey(by.tenant);
  await db.batch([
    db
      .prepare(
        "UPDATE tokens SET revoked_at_ms = ? WHERE tenant = ? AND token_id = ? AND revoked_at_ms IS NULL",
      )
      .bind(nowMs, tenant, token.token_id),
    // Once for each token: every isolate reads them all.
    db
      .prepare("INSERT INTO revocations (token_id, expires_at_ms) SELECT ?, ? WHERE changes() > 0")
      .bind(token.token_id, token.expires_at_ms),
    recordAuditIfChanged(
      db,
      by,
      { type: "token.revoked", subject: token.token_id, detail: { name: token.name } },
      nowMs,
    ),
  ]);
}

/**
 * Forgets what expired a while ago: tokens, and revocations, which a clock that ran ahead must not undo for good. Up to `limit`
 * rows of each; returns how many.
 */
export async function forgetTokens(
  db: D1Database,
  nowMs: number,
  keptMs: number,
  limit: number,
): Promise<{ tokens: number; revocations: number }> {
  const [tokens, revocations] = await db.batch([
    db
      .prepare(
        `DELETE FROM tokens WHERE (tenant, token_id) IN
           (SELECT tenant, token_id FROM tokens WHERE expires_at_ms < ? ORDER BY expires_at_ms LIMIT ?)`,
      )
      .bind(nowMs - keptMs, limit),
    db
      .prepare(
        `DELETE FROM revocations WHERE seq IN
           (SELECT seq FROM revocations WHERE expires_at_ms < ? ORDER BY expires_at_ms LIMIT ?)`,
      )
      .bind(nowMs - keptMs, limit),
  ]);
  return { tokens: tokens?.meta.changes ?? 0, revocations: revocations?.meta.changes ?? 0 };
}

/** Whoever mints for another tenant is told of there. */
function inTenantOf(by: Principal, token: Principal): Principal {
  const { actor_id: _bound, ...tenant } = token.tenant;
  const { actor_id } = by.tenant;
  return { ...by, tenant: { ...tenant, ...(actor_id !== undefined && { actor_id }) } };
}

function rowOf(stored: StoredToken): TokenRow {
  return {
    ...stored,
    scopes: JSON.parse(stored.scopes) as Scope[],
    task_types: stored.task_types === null ? null : (JSON.parse(stored.task_types) as string[]),
    ancestors: JSON.parse(stored.ancestors) as string[],
  };
}
