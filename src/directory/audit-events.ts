import type { Principal } from "../identity/principal.ts";
import { tenantKey } from "../identity/tenant.ts";

/** Something that was done to a tenant's credentials, hooks or subscriptions. */
export interface AuditEvent {
  seq: number;
  at_ms: number;
  /** What kind of thing, a dot, and what was done to it: `token.minted`. */
  type: string;
  /** The id of what it was done to. */
  subject: string;
  /** The credential that did it. */
  token_id: string;
  actor_id: string | null;
  /** Never a secret. */
  detail: Record<string, unknown>;
}

/** What is said of an event that is to be recorded. */
type NewAuditEvent = Pick<AuditEvent, "type" | "subject" | "detail">;

const COLUMNS = "tenant, at_ms, type, subject, token_id, actor_id, detail";

/** The statement that records an event: to be run in one batch with the change that it tells of. */
export function recordAudit(
  db: D1Database,
  by: Principal,
  event: NewAuditEvent,
  nowMs: number,
): D1PreparedStatement {
  return db
    .prepare(`INSERT INTO audit_events (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)`)
    .bind(...valuesOf(by, event, nowMs));
}

/** The same, for right behind the statement that makes the change: recorded only if that has changed a row. */
export function recordAuditIfChanged(
  db: D1Database,
  by: Principal,
  event: NewAuditEvent,
  nowMs: number,
): D1PreparedStatement {
  return db
    .prepare(`INSERT INTO audit_events (${COLUMNS}) SELECT ?, ?, ?, ?, ?, ?, ? WHERE changes() > 0`)
    .bind(...valuesOf(by, event, nowMs));
}

function valuesOf(by: Principal, { type, subject, detail }: NewAuditEvent, nowMs: number) {
  const actor = by.tenant.actor_id ?? null;
  return [tenantKey(by.tenant), nowMs, type, subject, by.token_id, actor, JSON.stringify(detail)];
}

/** Up to `limit` events of a tenant, newest first, before a seq. */
export async function listAudit(
  db: D1Database,
  tenant: string,
  beforeSeq: number,
  limit: number,
): Promise<AuditEvent[]> {
  const { results } = await db
    .prepare(
      `SELECT seq, at_ms, type, subject, token_id, actor_id, detail FROM audit_events
       WHERE tenant = ? AND seq < ? ORDER BY seq DESC LIMIT ?`,
    )
    .bind(tenant, beforeSeq, limit)
    .all<Omit<AuditEvent, "detail"> & { detail: string }>();
  return results.map((row) => ({ ...row, detail: JSON.parse(row.detail) as Record<string, unknown> }));
}
