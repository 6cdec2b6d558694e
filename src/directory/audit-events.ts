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

/** The statement that records an event: to be run in one batch with the change that it tells of. */
export function recordAudit(
  db: D1Database,
  by: Principal,
  event: Pick<AuditEvent, "type" | "subject" | "detail">,
  nowMs: number,
): D1PreparedStatement {
  return db
    .prepare(
      `INSERT INTO audit_events (tenant, at_ms, type, subject, token_id, actor_id, detail) VALUES (?, ?, ?, ?, ?, ?, ?)`,
    )
    .bind(
      tenantKey(by.tenant),
      nowMs,
      event.type,
      event.subject,
      by.token_id,
      by.tenant.actor_id ?? null,
      JSON.stringify(event.detail),
    );
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
