import type { Keyring } from "../identity/keyring.ts";
import { isExpired, type Verified, verifyToken } from "../identity/minted-tokens.ts";
import type { Principal } from "../identity/principal.ts";
import { type Revocation, RevokedSet } from "../identity/revoked-set.ts";

/** Rows read at once. */
const ROWS_AT_ONCE = 5_000;

/** What each database says, as this isolate knows it. */
const sets = new WeakMap<D1Database, RevokedSet>();

/** What is revoked by a database. */
export function revokedSet(db: D1Database): RevokedSet {
  let set = sets.get(db);
  if (set === undefined) {
    set = new RevokedSet((afterSeq, nowMs) => readRevocations(db, afterSeq, nowMs));
    sets.set(db, set);
  }
  return set;
}

/**
 * Whose token a text is, revocation included.
 * @param inBackground lets a promise live on beside the request: `ExecutionContext.waitUntil`.
 * @throws RevocationsUnknown
 */
export async function checkToken(
  where: { ring: Keyring; db: D1Database },
  text: string,
  nowMs: number,
  inBackground: (reading: Promise<void>) => void,
): Promise<Verified> {
  const verified = await verifyToken(where.ring, text, nowMs);
  if (!verified.ok) return verified;
  const revoked = revokedSet(where.db);
  await revoked.refresh(nowMs, inBackground);
  const { token_id, ancestors } = verified.principal;
  return revoked.hasAny([token_id, ...ancestors]) ? { ok: false, reason: "revoked" } : verified;
}

/**
 * Why a principal that was accepted is so no longer; null while it is.
 * @throws RevocationsUnknown
 */
export async function endOf(
  db: D1Database,
  principal: Principal,
  nowMs: number,
  inBackground: (reading: Promise<void>) => void,
): Promise<"expired" | "revoked" | null> {
  const { kind, token_id, ancestors } = principal;
  if (isExpired(principal, nowMs)) return "expired";
  if (kind !== "token") return null;
  const revoked = revokedSet(db);
  await revoked.refresh(nowMs, inBackground);
  return revoked.hasAny([token_id, ...ancestors]) ? "revoked" : null;
}

async function readRevocations(db: D1Database, afterSeq: number, nowMs: number): Promise<Revocation[]> {
  const read: Revocation[] = [];
  for (;;) {
    const { results } = await db
      .prepare(
        `SELECT seq, token_id, expires_at_ms FROM revocations WHERE seq > ? AND expires_at_ms > ?
         ORDER BY seq LIMIT ${ROWS_AT_ONCE}`,
      )
      .bind(read.at(-1)?.seq ?? afterSeq, nowMs)
      .all<Revocation>();
    read.push(...results);
    if (results.length < ROWS_AT_ONCE) return read;
  }
}
