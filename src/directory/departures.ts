/** A deletion that was asked for (migrations/0003_moving.sql). */
export interface Deletion {
  tenant: string;
  run_id: string;
  created_at_ms: number | null;
  expected_revision: number | null;
  asked_at_ms: number;
  done_at_ms: number | null;
}

const COLUMNS = "tenant, run_id, created_at_ms, expected_revision, asked_at_ms, done_at_ms";

/** Writes down that a run shall be deleted, before anything is; what was asked before stays. */
export async function askDeletion(db: D1Database, deletion: Omit<Deletion, "done_at_ms">): Promise<void> {
  await db
    .prepare(
      `INSERT INTO tombstones (tenant, run_id, created_at_ms, expected_revision, asked_at_ms) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (tenant, run_id) DO NOTHING`,
    )
    .bind(
      deletion.tenant,
      deletion.run_id,
      deletion.created_at_ms,
      deletion.expected_revision,
      deletion.asked_at_ms,
    )
    .run();
}

/** Takes back a deletion that turned out not to be wanted at this revision; one that others asked for stays. */
export async function dropDeletion(
  db: D1Database,
  { tenant, run_id, expected_revision, asked_at_ms }: Deletion,
): Promise<void> {
  await db
    .prepare(
      `DELETE FROM tombstones WHERE tenant = ? AND run_id = ? AND done_at_ms IS NULL
         AND expected_revision IS ? AND asked_at_ms = ?`,
    )
    .bind(tenant, run_id, expected_revision, asked_at_ms)
    .run();
}

export async function findDeletion(db: D1Database, tenant: string, runId: string): Promise<Deletion | null> {
  return db
    .prepare(`SELECT ${COLUMNS} FROM tombstones WHERE tenant = ? AND run_id = ?`)
    .bind(tenant, runId)
    .first<Deletion>();
}

/** The last steps of a deletion, together: the run's row goes, and with it whatever was owed for it. */
export async function finishDeletion(
  db: D1Database,
  tenant: string,
  runId: string,
  nowMs: number,
): Promise<void> {
  await db.batch([
    db.prepare("DELETE FROM runs WHERE tenant = ? AND run_id = ?").bind(tenant, runId),
    db.prepare("DELETE FROM archivings WHERE tenant = ? AND run_id = ?").bind(tenant, runId),
    db
      .prepare("UPDATE tombstones SET done_at_ms = ? WHERE tenant = ? AND run_id = ? AND done_at_ms IS NULL")
      .bind(nowMs, tenant, runId),
  ]);
}

/** Up to `limit` deletions that were asked for at `untilMs` or before and are not done, oldest first. */
export async function openDeletions(db: D1Database, untilMs: number, limit: number): Promise<Deletion[]> {
  const { results } = await db
    .prepare(
      `SELECT ${COLUMNS} FROM tombstones WHERE done_at_ms IS NULL AND asked_at_ms <= ?
       ORDER BY asked_at_ms, tenant, run_id LIMIT ?`,
    )
    .bind(untilMs, limit)
    .all<Deletion>();
  return results;
}

/** Puts an open deletion behind the others: it could not be finished now. */
export async function postponeDeletion(db: D1Database, deletion: Deletion, nowMs: number): Promise<void> {
  await db
    .prepare("UPDATE tombstones SET asked_at_ms = ? WHERE tenant = ? AND run_id = ? AND done_at_ms IS NULL")
    .bind(nowMs, deletion.tenant, deletion.run_id)
    .run();
}

/** Up to `limit` deletions that were done at `untilMs` or before and whose R2 keys were not looked through again. */
export async function unsweptDeletions(db: D1Database, untilMs: number, limit: number): Promise<Deletion[]> {
  const { results } = await db
    .prepare(
      `SELECT ${COLUMNS} FROM tombstones WHERE swept_at_ms IS NULL AND done_at_ms <= ?
       ORDER BY done_at_ms, tenant, run_id LIMIT ?`,
    )
    .bind(untilMs, limit)
    .all<Deletion>();
  return results;
}

export async function setSwept(
  db: D1Database,
  { tenant, run_id }: Pick<Deletion, "tenant" | "run_id">,
  nowMs: number,
): Promise<void> {
  await db
    .prepare("UPDATE tombstones SET swept_at_ms = ? WHERE tenant = ? AND run_id = ?")
    .bind(nowMs, tenant, run_id)
    .run();
}

/** A run that is being archived or restored. */
export interface Archiving {
  tenant: string;
  run_id: string;
  /** When it was begun, or last said to go on. By it whoever moves the run knows that the move is still its own. */
  asked_at_ms: number;
}

/**
 * Writes down that a run is about to move to the archive, or back. False when it is on its way already: only one at a time
 * may move it.
 */
export async function askArchiving(
  db: D1Database,
  { tenant, run_id, asked_at_ms }: Archiving,
): Promise<boolean> {
  const { meta } = await db
    .prepare("INSERT INTO archivings (tenant, run_id, asked_at_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
    .bind(tenant, run_id, asked_at_ms)
    .run();
  return meta.changes > 0;
}

/**
 * Says that a move is still under way, or takes it over from one that is not; it is then known by the later moment. False
 * when it is another's by now, or over.
 */
export async function renewArchiving(
  db: D1Database,
  { tenant, run_id, asked_at_ms }: Archiving,
  nowMs: number,
): Promise<boolean> {
  const { meta } = await db
    .prepare("UPDATE archivings SET asked_at_ms = ? WHERE tenant = ? AND run_id = ? AND asked_at_ms = ?")
    .bind(nowMs, tenant, run_id, asked_at_ms)
    .run();
  return meta.changes > 0;
}

/** The move is over: the list says where the run is. @param archivedAtMs null when it is in its object. */
export async function finishArchiving(
  db: D1Database,
  { tenant, run_id, asked_at_ms }: Archiving,
  archivedAtMs: number | null,
): Promise<void> {
  const isOwn = "EXISTS (SELECT 1 FROM archivings WHERE tenant = ?1 AND run_id = ?2 AND asked_at_ms = ?3)";
  await db.batch([
    db
      .prepare(`UPDATE runs SET archived_at_ms = ?4 WHERE tenant = ?1 AND run_id = ?2 AND ${isOwn}`)
      .bind(tenant, run_id, asked_at_ms, archivedAtMs),
    db
      .prepare("DELETE FROM archivings WHERE tenant = ? AND run_id = ? AND asked_at_ms = ?")
      .bind(tenant, run_id, asked_at_ms),
  ]);
}

/** Up to `limit` moves that were begun at `untilMs` or before, oldest first. */
export async function openArchivings(db: D1Database, untilMs: number, limit: number): Promise<Archiving[]> {
  const { results } = await db
    .prepare(
      `SELECT tenant, run_id, asked_at_ms FROM archivings WHERE asked_at_ms <= ?
       ORDER BY asked_at_ms, tenant, run_id LIMIT ?`,
    )
    .bind(untilMs, limit)
    .all<Archiving>();
  return results;
}

/** How long a tenant keeps ended runs, in milliseconds; null for ever. */
export interface Retention {
  /** After the last change of an ended run. */
  archive_after_ms: number | null;
  /** After archiving. */
  delete_after_ms: number | null;
}

export async function readRetention(db: D1Database, tenant: string): Promise<Retention> {
  const row = await db
    .prepare("SELECT archive_after_ms, delete_after_ms FROM retention WHERE tenant = ?")
    .bind(tenant)
    .first<Retention>();
  return row ?? { archive_after_ms: null, delete_after_ms: null };
}

export async function writeRetention(
  db: D1Database,
  tenant: string,
  { archive_after_ms, delete_after_ms }: Retention,
  nowMs: number,
): Promise<void> {
  await db
    .prepare(
      `INSERT INTO retention (tenant, archive_after_ms, delete_after_ms, updated_at_ms) VALUES (?, ?, ?, ?)
       ON CONFLICT (tenant) DO UPDATE SET archive_after_ms = excluded.archive_after_ms,
         delete_after_ms = excluded.delete_after_ms, updated_at_ms = excluded.updated_at_ms`,
    )
    .bind(tenant, archive_after_ms, delete_after_ms, nowMs)
    .run();
}

/** A run that retention is due for. */
export interface AgedRun {
  run_id: string;
  at_ms: number;
}

/** Tenants from one on, in order, that have a retention. */
export async function tenantsWithRetention(
  db: D1Database,
  from: string,
  limit: number,
): Promise<({ tenant: string } & Retention)[]> {
  const { results } = await db
    .prepare(
      `SELECT tenant, archive_after_ms, delete_after_ms FROM retention
       WHERE tenant >= ? AND (archive_after_ms IS NOT NULL OR delete_after_ms IS NOT NULL) ORDER BY tenant LIMIT ?`,
    )
    .bind(from, limit)
    .all<{ tenant: string } & Retention>();
  return results;
}

/** Up to `limit` ended runs that have not changed since `untilMs`, oldest first, after a place in this order. */
export async function runsToArchive(
  db: D1Database,
  tenant: string,
  untilMs: number,
  after: AgedRun,
  limit: number,
): Promise<AgedRun[]> {
  const { results } = await db
    .prepare(
      `SELECT run_id, updated_at_ms AS at_ms FROM runs
       WHERE tenant = ?1 AND archived_at_ms IS NULL AND status IN ('completed', 'failed', 'cancelled')
         AND updated_at_ms <= ?2 AND (updated_at_ms, run_id) > (?3, ?4)
       ORDER BY updated_at_ms, run_id LIMIT ?5`,
    )
    .bind(tenant, untilMs, after.at_ms, after.run_id, limit)
    .all<AgedRun>();
  return results;
}

/** Up to `limit` runs that were archived at `untilMs` or before, oldest first, after a place in this order. */
export async function runsToDelete(
  db: D1Database,
  tenant: string,
  untilMs: number,
  after: AgedRun,
  limit: number,
): Promise<AgedRun[]> {
  const { results } = await db
    .prepare(
      `SELECT run_id, archived_at_ms AS at_ms FROM runs
       WHERE tenant = ?1 AND archived_at_ms IS NOT NULL AND archived_at_ms <= ?2
         AND (archived_at_ms, run_id) > (?3, ?4)
       ORDER BY archived_at_ms, run_id LIMIT ?5`,
    )
    .bind(tenant, untilMs, after.at_ms, after.run_id, limit)
    .all<AgedRun>();
  return results;
}

/** A content that a holder refers to. */
export interface HeldContent {
  sha256: string;
  bytes: number;
}

/** Up to `limit` contents of a holder, by digest, after one. */
export async function contentsOf(
  db: D1Database,
  tenant: string,
  holder: string,
  after: string,
  limit: number,
): Promise<HeldContent[]> {
  const { results } = await db
    .prepare(
      `SELECT b.sha256, b.bytes FROM blob_holders h JOIN blobs b ON b.tenant = h.tenant AND b.sha256 = h.sha256
       WHERE h.tenant = ? AND h.holder = ? AND h.sha256 > ? ORDER BY h.sha256 LIMIT ?`,
    )
    .bind(tenant, holder, after, limit)
    .all<HeldContent>();
  return results;
}
