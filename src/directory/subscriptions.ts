import { normalisePath } from "../domain/workspace.ts";
import type { Principal } from "../identity/principal.ts";
import type { DeliveryData, RunChoice, SubscriptionBody } from "../protocol/subscription.ts";
import { recordAudit, recordAuditIfChanged } from "./audit-events.ts";

/** Why a subscription is disabled: an operator wanted it, its receiver answered 410, or nothing succeeded for days. */
export type DisabledReason = "operator" | "gone" | "failing";

/**
 * A subscription that is about other runs from now on begins with them so much earlier: what was committed a moment before
 * may not have come to its ears yet.
 */
const CHANGE_SLACK_MS = 5_000;

/** A secret of a subscription, as it is stored. */
export interface SealedSecret {
  secret_id: string;
  sealed: string;
  created_at_ms: number;
  /** Epoch ms from when it no longer signs; null while it is the newest. */
  retires_at_ms: number | null;
}

/** A subscription as the directory has it. */
export interface Subscription {
  tenant: string;
  subscription_id: string;
  name: string | null;
  url: string;
  events: string[];
  run_id: string | null;
  filter: RunChoice;
  data: DeliveryData;
  status: "active" | "disabled";
  disabled_reason: DisabledReason | null;
  disabled_at_ms: number | null;
  /** Of this deployment, as the request called it that made or changed the subscription. */
  origin: string;
  /** Of a run it has not heard of, it wants the events from this moment on, epoch ms. */
  since_ms: number;
  created_at_ms: number;
  updated_at_ms: number;
}

const COLUMNS = `tenant, subscription_id, name, url, events, run_id, filter, data, status, disabled_reason, disabled_at_ms,
  origin, since_ms, created_at_ms, updated_at_ms`;

type StoredSubscription = Omit<Subscription, "events" | "filter"> & { events: string; filter: string };

function read(row: StoredSubscription): Subscription {
  return {
    ...row,
    events: JSON.parse(row.events) as string[],
    filter: JSON.parse(row.filter) as RunChoice,
  };
}

/** What the filter says of runs, as the directory of runs compares it. */
function keysOf({ run_type, workspace, source }: RunChoice): (string | null)[] {
  return [
    run_type?.trim().toLowerCase() ?? null,
    workspace === undefined ? null : normalisePath(workspace),
    source?.trim().toLowerCase() ?? null,
  ];
}

/** Values of a run in a statement: columns, or parameters. */
export interface RunValues {
  run_id: string;
  run_type: string;
  workspace: string;
  source: string;
}

/** Whether the subscription `s` is about such a run. */
export const isAbout = ({ run_id, run_type, workspace, source }: RunValues): string =>
  `(s.run_id IS NULL OR s.run_id = ${run_id}) AND (s.run_type_key IS NULL OR s.run_type_key = ${run_type})
   AND (s.workspace_key IS NULL OR s.workspace_key = ${workspace}) AND (s.source_key IS NULL OR s.source_key = ${source})`;

/**
 * The ids of the active subscriptions that are about a run, JSON array, as a part of the statement that writes the run's row:
 * one more statement would cost each row a second. Reads no row where there are none.
 */
export function subscriptionsAbout(run: RunValues & { tenant: string }): string {
  return `SELECT json_group_array(s.subscription_id) FROM subscriptions s
    WHERE s.tenant = ${run.tenant} AND ifnull(s.run_id, '') IN ('', ${run.run_id}) AND s.status = 'active' AND ${isAbout(run)}`;
}

/** One subscription with its secrets; null when the tenant has none of that id. */
export async function findSubscription(
  db: D1Database,
  tenant: string,
  subscriptionId: string,
): Promise<{ subscription: Subscription; secrets: SealedSecret[] } | null> {
  const [rows, secrets] = await db.batch([
    db
      .prepare(`SELECT ${COLUMNS} FROM subscriptions WHERE tenant = ? AND subscription_id = ?`)
      .bind(tenant, subscriptionId),
    db
      .prepare(
        `SELECT secret_id, sealed, created_at_ms, retires_at_ms FROM subscription_secrets
         WHERE tenant = ? AND subscription_id = ? ORDER BY retires_at_ms IS NOT NULL, created_at_ms DESC, secret_id`,
      )
      .bind(tenant, subscriptionId),
  ]);
  const row = (rows?.results as StoredSubscription[] | undefined)?.[0];
  if (row === undefined) return null;
  return { subscription: read(row), secrets: (secrets?.results ?? []) as unknown as SealedSecret[] };
}

/** Up to `limit` subscriptions of a tenant after an id, by id. */
export async function listSubscriptions(
  db: D1Database,
  tenant: string,
  afterId: string,
  limit: number,
): Promise<Subscription[]> {
  const { results } = await db
    .prepare(
      `SELECT ${COLUMNS} FROM subscriptions WHERE tenant = ? AND subscription_id > ?
       ORDER BY subscription_id LIMIT ?`,
    )
    .bind(tenant, afterId, limit)
    .all<StoredSubscription>();
  return results.map(read);
}

/** Makes a subscription unless the tenant has `limit` of them. Returns whether it was made. */
export async function insertSubscription(
  db: D1Database,
  by: Principal,
  subscription: Subscription,
  secret: SealedSecret,
  limit: number,
): Promise<boolean> {
  const { tenant, subscription_id, created_at_ms } = subscription;
  const [inserted] = await db.batch([
    db
      .prepare(
        `INSERT INTO subscriptions (${COLUMNS}, run_type_key, workspace_key, source_key, told_upto_ms, told_upto_run_id)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?13, ''
         WHERE (SELECT count(*) FROM subscriptions WHERE tenant = ?1) < ?19`,
      )
      .bind(
        tenant,
        subscription_id,
        subscription.name,
        subscription.url,
        JSON.stringify(subscription.events),
        subscription.run_id,
        JSON.stringify(subscription.filter),
        subscription.data,
        subscription.status,
        subscription.disabled_reason,
        subscription.disabled_at_ms,
        subscription.origin,
        subscription.since_ms,
        created_at_ms,
        subscription.updated_at_ms,
        ...keysOf(subscription.filter),
        limit,
      ),
    db
      .prepare("INSERT INTO subscription_secrets SELECT ?, ?, ?, ?, ?, NULL WHERE changes() > 0")
      .bind(tenant, subscription_id, secret.secret_id, secret.sealed, secret.created_at_ms),
    auditIfChanged(db, by, "created", subscription_id, { host: hostIn(subscription.url) }, created_at_ms),
  ]);
  return (inserted?.meta.changes ?? 0) > 0;
}

/** Whether a change makes a subscription be about other runs. */
export function isAboutOthers(before: Subscription, { run_id = "", filter = {} }: SubscriptionBody): boolean {
  const keys = (choice: RunChoice) => JSON.stringify(keysOf(choice));
  return run_id !== (before.run_id ?? "") || keys(filter) !== keys(before.filter);
}

/**
 * Replaces what a client says of a subscription. When it is about other runs from now on, it begins anew with them: of those
 * that it has not heard of, it wants what happens from now on.
 */
export async function updateSubscription(
  db: D1Database,
  by: Principal,
  before: Subscription,
  body: SubscriptionBody,
  origin: string,
  nowMs: number,
): Promise<void> {
  const { tenant, subscription_id } = before;
  const filter = body.filter ?? {};
  const run_id = body.run_id ?? null;
  await db.batch([
    db
      .prepare(
        `UPDATE subscriptions SET name = ?3, url = ?4, events = ?5, run_id = ?6, filter = ?7, data = ?8, origin = ?9,
           run_type_key = ?10, workspace_key = ?11, source_key = ?12, updated_at_ms = ?13,
           since_ms = ifnull(?14, since_ms), told_upto_ms = min(told_upto_ms, ifnull(?14, told_upto_ms))
         WHERE tenant = ?1 AND subscription_id = ?2`,
      )
      .bind(
        tenant,
        subscription_id,
        body.name ?? null,
        body.url,
        JSON.stringify(body.events ?? ["*"]),
        run_id,
        JSON.stringify(filter),
        body.data ?? "thin",
        origin,
        ...keysOf(filter),
        nowMs,
        isAboutOthers(before, body) ? nowMs - CHANGE_SLACK_MS : null,
      ),
    recordAudit(
      db,
      by,
      {
        type: "subscription.changed",
        subject: subscription_id,
        detail: { host: hostIn(body.url), host_before: hostIn(before.url) },
      },
      nowMs,
    ),
  ]);
}

/** Disables a subscription that is active. Returns whether it was. */
export async function disableSubscription(
  db: D1Database,
  by: Principal,
  subscription: Pick<Subscription, "tenant" | "subscription_id">,
  reason: DisabledReason,
  nowMs: number,
): Promise<boolean> {
  const { tenant, subscription_id } = subscription;
  const [updated] = await db.batch([
    db
      .prepare(
        `UPDATE subscriptions SET status = 'disabled', disabled_reason = ?3, disabled_at_ms = ?4, updated_at_ms = ?4
         WHERE tenant = ?1 AND subscription_id = ?2 AND status = 'active'`,
      )
      .bind(tenant, subscription_id, reason, nowMs),
    auditIfChanged(db, by, "disabled", subscription_id, { reason }, nowMs),
  ]);
  return (updated?.meta.changes ?? 0) > 0;
}

/**
 * Makes a disabled subscription active again: it goes on where it stopped, or, with `fromNow`, which holds for one that is
 * active too, leaves out what has happened until now. Returns whether that changed it.
 */
export async function enableSubscription(
  db: D1Database,
  by: Principal,
  subscription: Pick<Subscription, "tenant" | "subscription_id">,
  fromNow: boolean,
  nowMs: number,
): Promise<boolean> {
  const { tenant, subscription_id } = subscription;
  const [updated] = await db.batch([
    db
      .prepare(
        `UPDATE subscriptions SET status = 'active', disabled_reason = NULL, disabled_at_ms = NULL, updated_at_ms = ?3,
           since_ms = iif(?4, ?3, since_ms), told_upto_ms = iif(?4, ?3, told_upto_ms)
         WHERE tenant = ?1 AND subscription_id = ?2 AND (?4 OR status = 'disabled')`,
      )
      .bind(tenant, subscription_id, nowMs, fromNow ? 1 : 0),
    auditIfChanged(db, by, "enabled", subscription_id, { from: fromNow ? "now" : "where_it_stopped" }, nowMs),
  ]);
  return (updated?.meta.changes ?? 0) > 0;
}

/** Deletes a subscription and its secrets. Returns whether it was there. */
export async function deleteSubscription(
  db: D1Database,
  by: Principal,
  { tenant, subscription_id }: Pick<Subscription, "tenant" | "subscription_id">,
  nowMs: number,
): Promise<boolean> {
  const where = "WHERE tenant = ? AND subscription_id = ?";
  const [, deleted] = await db.batch([
    db.prepare(`DELETE FROM subscription_secrets ${where}`).bind(tenant, subscription_id),
    db.prepare(`DELETE FROM subscriptions ${where}`).bind(tenant, subscription_id),
    auditIfChanged(db, by, "deleted", subscription_id, {}, nowMs),
  ]);
  return (deleted?.meta.changes ?? 0) > 0;
}

/** The audit event of a change, recorded only if the statement before it in the batch has changed a row. */
function auditIfChanged(
  db: D1Database,
  by: Principal,
  what: string,
  subject: string,
  detail: Record<string, unknown>,
  nowMs: number,
): D1PreparedStatement {
  return recordAuditIfChanged(db, by, { type: `subscription.${what}`, subject, detail }, nowMs);
}

/** What audit events tell of an address: the rest of it may hold a secret. */
function hostIn(url: string): string {
  return new URL(url).host;
}
