import type { Principal } from "../identity/principal.ts";
import { recordAudit, recordAuditIfChanged } from "./audit-events.ts";
import type { SealedSecret, Subscription } from "./subscriptions.ts";

/** Adds a secret that signs from now on; those before it go on signing until `retiresAtMs`, those that have retired go. */
export async function addSecret(
  db: D1Database,
  by: Principal,
  { tenant, subscription_id }: Pick<Subscription, "tenant" | "subscription_id">,
  secret: SealedSecret,
  retiresAtMs: number,
): Promise<void> {
  const nowMs = secret.created_at_ms;
  await db.batch([
    db
      .prepare(
        "DELETE FROM subscription_secrets WHERE tenant = ? AND subscription_id = ? AND retires_at_ms <= ?",
      )
      .bind(tenant, subscription_id, nowMs),
    db
      .prepare(
        `UPDATE subscription_secrets SET retires_at_ms = min(?3, ifnull(retires_at_ms, ?3))
         WHERE tenant = ?1 AND subscription_id = ?2`,
      )
      .bind(tenant, subscription_id, retiresAtMs),
    db
      .prepare("INSERT INTO subscription_secrets VALUES (?, ?, ?, ?, ?, NULL)")
      .bind(tenant, subscription_id, secret.secret_id, secret.sealed, nowMs),
    recordAudit(
      db,
      by,
      {
        type: "subscription.secret_added",
        subject: subscription_id,
        detail: { secret_id: secret.secret_id, others_retire_at_ms: retiresAtMs },
      },
      nowMs,
    ),
  ]);
}

/** Retires a secret at once, unless it is the newest. Returns whether it did. */
export async function retireSecret(
  db: D1Database,
  by: Principal,
  { tenant, subscription_id }: Pick<Subscription, "tenant" | "subscription_id">,
  secretId: string,
  nowMs: number,
): Promise<boolean> {
  const [deleted] = await db.batch([
    db
      .prepare(
        `DELETE FROM subscription_secrets
         WHERE tenant = ? AND subscription_id = ? AND secret_id = ? AND retires_at_ms IS NOT NULL`,
      )
      .bind(tenant, subscription_id, secretId),
    recordAuditIfChanged(
      db,
      by,
      { type: "subscription.secret_retired", subject: subscription_id, detail: { secret_id: secretId } },
      nowMs,
    ),
  ]);
  return (deleted?.meta.changes ?? 0) > 0;
}
