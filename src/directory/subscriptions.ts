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

/** Up to which place in the order of their changes cron has told a subscription of its runs. */
export interface ToldUpto {
  /** Of a run's last change, or of when the directory heard of it if that was late, epoch ms. */
  ms: number;
  run_id: string;
}

/** A subscription that cron looks after. */
export interface Followed {
  tenant: string;
  subscription_id: string;
  toldUpto: ToldUpto;
}

/** A run that has something new, perhaps. */
export interface ChangedRun {
  run_id: string;
  last_event_seq: number;
  /** As in `ToldUpto`. */
  ms: number;
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
interface RunValues {
  run_id: string;
  run_type: string;
  workspace: string;
  source: string;
}

/** Whether the subscription `s` is about such a run. */
const isAbout = ({ run_id, run_type, workspace, source }: RunValues): string =>
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
    auditIfChanged(db, by, "secret_retired", subscription_id, { secret_id: secretId }, nowMs),
  ]);
  return (deleted?.meta.changes ?? 0) > 0;
}

interface StoredFollowed {
  tenant: string;
  subscription_id: string;
  told_upto_ms: number;
  told_upto_run_id: string;
}

const FOLLOWED = "SELECT tenant, subscription_id, told_upto_ms, told_upto_run_id FROM subscriptions";

function readFollowed({ tenant, subscription_id, told_upto_ms, told_upto_run_id }: StoredFollowed): Followed {
  return { tenant, subscription_id, toldUpto: { ms: told_upto_ms, run_id: told_upto_run_id } };
}

/** Up to `limit` active subscriptions of any tenant after a place, in order. */
export async function activeSubscriptions(
  db: D1Database,
  after: Pick<Followed, "tenant" | "subscription_id"> | null,
  limit: number,
): Promise<Followed[]> {
  const { results } = await db
    .prepare(
      `${FOLLOWED} WHERE (tenant, subscription_id) > (?, ?) AND status = 'active'
       ORDER BY tenant, subscription_id LIMIT ?`,
    )
    .bind(after?.tenant ?? "", after?.subscription_id ?? "", limit)
    .all<StoredFollowed>();
  return results.map(readFollowed);
}

/** One subscription, active or not; null when there is none. */
export async function followedSubscription(
  db: D1Database,
  { tenant, subscription_id }: Pick<Followed, "tenant" | "subscription_id">,
): Promise<Followed | null> {
  const row = await db
    .prepare(`${FOLLOWED} WHERE tenant = ? AND subscription_id = ?`)
    .bind(tenant, subscription_id)
    .first<StoredFollowed>();
  return row === null ? null : readFollowed(row);
}

/** A row of the directory of runs. */
const LISTED: RunValues = {
  run_id: "r.run_id",
  run_type: "r.run_type_key",
  workspace: "r.workspace_key",
  source: "r.source_key",
};

/** Runs that changed after a place, by one of the times that places are made of; each has an index. */
const changedSince = (time: "updated_at_ms" | "late_at_ms"): string =>
  `SELECT r.run_id AS run_id, r.last_event_seq, r.${time} AS ms FROM subscriptions s CROSS JOIN runs r
   WHERE s.tenant = ?1 AND s.subscription_id = ?2 AND r.tenant = ?1
     AND r.${time} IS NOT NULL AND (r.${time}, r.run_id) > (?3, ?4)
     AND r.last_event_seq > 0 AND r.archived_at_ms IS NULL AND ${isAbout(LISTED)}`;

/**
 * Up to `limit` runs that a subscription is about and that changed after a place, in order. One that the directory heard of
 * late may be given twice. Archived ones have nothing to tell.
 */
export async function changedRuns(
  db: D1Database,
  { tenant, subscription_id }: Pick<Followed, "tenant" | "subscription_id">,
  after: ToldUpto,
  limit: number,
): Promise<ChangedRun[]> {
  const { results } = await db
    .prepare(
      `${changedSince("updated_at_ms")} UNION ALL ${changedSince("late_at_ms")} ORDER BY ms, run_id LIMIT ?5`,
    )
    .bind(tenant, subscription_id, after.ms, after.run_id, limit)
    .all<ChangedRun>();
  return results;
}

/** Keeps up to where cron has told a subscription of its runs. */
export async function setToldUpto(
  db: D1Database,
  { tenant, subscription_id }: Pick<Followed, "tenant" | "subscription_id">,
  upto: ToldUpto,
): Promise<void> {
  await db
    .prepare(
      `UPDATE subscriptions SET told_upto_ms = ?3, told_upto_run_id = ?4 WHERE tenant = ?1 AND subscription_id = ?2`,
    )
    .bind(tenant, subscription_id, upto.ms, upto.run_id)
    .run();
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
