import { isAbout, type RunValues } from "./subscriptions.ts";

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
