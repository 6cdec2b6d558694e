/** Where a tenant's content lies. */
export interface Blob {
  sha256: string;
  /** In R2. */
  key: string;
  bytes: number;
}

/** An object in R2 that is being written, before a content takes it. */
export interface LooseObject {
  key: string;
  /** R2's id of the multipart upload that writes it, if one does. */
  multipartId: string | null;
}

/** The statement that adds references to those of these hashes whose content exists. */
function holdStatement(
  db: D1Database,
  tenant: string,
  holder: string,
  hashes: string[],
  nowMs: number,
): D1PreparedStatement {
  // Asked for again, it counts as new: a collection that has looked before must not drop it. What the holder is known
  // to have stays known.
  return db
    .prepare(
      `INSERT INTO blob_holders (tenant, holder, sha256, asked_at_ms)
       SELECT ?1, ?2, sha256, ?4 FROM blobs WHERE tenant = ?1 AND sha256 IN (SELECT value FROM json_each(?3))
       ON CONFLICT (tenant, holder, sha256) DO UPDATE SET asked_at_ms = max(excluded.asked_at_ms, asked_at_ms + 1)`,
    )
    .bind(tenant, holder, JSON.stringify(hashes), nowMs);
}

/** Adds references of a holder to contents, as far as they exist. Returns the hashes of those that do. */
export async function holdBlobs(
  db: D1Database,
  tenant: string,
  holder: string,
  hashes: string[],
  nowMs: number,
): Promise<Set<string>> {
  const [, held] = await db.batch<{ sha256: string }>([
    holdStatement(db, tenant, holder, hashes, nowMs),
    db
      .prepare(
        `SELECT sha256 FROM blob_holders
         WHERE tenant = ? AND holder = ? AND sha256 IN (SELECT value FROM json_each(?))`,
      )
      .bind(tenant, holder, JSON.stringify(hashes)),
  ]);
  return new Set(held?.results.map(({ sha256 }) => sha256));
}

export async function findBlob(db: D1Database, tenant: string, sha256: string): Promise<Blob | null> {
  return db
    .prepare("SELECT sha256, key, bytes FROM blobs WHERE tenant = ? AND sha256 = ?")
    .bind(tenant, sha256)
    .first<Blob>();
}

/** Announces an object before it is written, so that it is found if nobody comes to want it. */
export async function announceObject(db: D1Database, object: LooseObject, dueAtMs: number): Promise<void> {
  await db
    .prepare("INSERT INTO loose_objects (key, multipart_id, unwanted, due_at_ms) VALUES (?, ?, 0, ?)")
    .bind(object.key, object.multipartId, dueAtMs)
    .run();
}

/** Adds to an announced object the multipart upload that writes it. */
export async function announceMultipart(db: D1Database, key: string, multipartId: string): Promise<void> {
  await db.prepare("UPDATE loose_objects SET multipart_id = ? WHERE key = ?").bind(multipartId, key).run();
}

/**
 * Makes an announced object, now written, the content of this hash, unless there is one already or the announcement was
 * collected; and adds a holder to that content. All or nothing.
 * @returns the content as it is then; null when there is none, because the object came too late.
 */
export async function adoptObject(
  db: D1Database,
  tenant: string,
  holder: string,
  object: Blob,
  nowMs: number,
): Promise<Blob | null> {
  const { sha256, key, bytes } = object;
  const results = await db.batch<Blob>([
    db
      .prepare(
        `INSERT INTO blobs (tenant, sha256, key, bytes)
         SELECT ?1, ?2, ?3, ?4 WHERE EXISTS (SELECT 1 FROM loose_objects WHERE key = ?3 AND unwanted = 0)
         ON CONFLICT (tenant, sha256) DO NOTHING`,
      )
      .bind(tenant, sha256, key, bytes),
    db
      .prepare(
        `DELETE FROM loose_objects
         WHERE key = ?3 AND EXISTS (SELECT 1 FROM blobs WHERE tenant = ?1 AND sha256 = ?2 AND key = ?3)`,
      )
      .bind(tenant, sha256, key),
    holdStatement(db, tenant, holder, [sha256], nowMs),
    db.prepare("SELECT sha256, key, bytes FROM blobs WHERE tenant = ? AND sha256 = ?").bind(tenant, sha256),
  ]);
  return results[3]?.results[0] ?? null;
}

/** Keeps contents from taking an object. Returns false when it is none that could be taken: then it must stay. */
export async function loosenObject(db: D1Database, key: string): Promise<boolean> {
  const { meta } = await db.prepare("UPDATE loose_objects SET unwanted = 1 WHERE key = ?").bind(key).run();
  return meta.changes > 0;
}

/** Takes objects that were deleted, or never written, off the list. */
export async function forgetObjects(db: D1Database, keys: string[]): Promise<void> {
  if (keys.length === 0) return;
  await db
    .prepare("DELETE FROM loose_objects WHERE key IN (SELECT value FROM json_each(?))")
    .bind(JSON.stringify(keys))
    .run();
}

/** An object that should be gone by now. */
export interface DueObject extends LooseObject {
  /** 1 when no content may take it any more. */
  unwanted: 0 | 1;
}

/** Up to `limit` loose objects that are due, earliest first. */
export async function dueObjects(db: D1Database, nowMs: number, limit: number): Promise<DueObject[]> {
  const { results } = await db
    .prepare(
      `SELECT key, multipart_id AS multipartId, unwanted FROM loose_objects
       WHERE due_at_ms <= ? ORDER BY due_at_ms, key LIMIT ?`,
    )
    .bind(nowMs, limit)
    .all<DueObject>();
  return results;
}

/**
 * Keeps contents from taking these objects, and has them looked at once more later.
 * @returns those that no content has taken before.
 */
export async function postponeObjects(
  db: D1Database,
  objects: LooseObject[],
  nowMs: number,
  dueAtMs: number,
): Promise<LooseObject[]> {
  if (objects.length === 0) return [];
  const { results } = await db
    .prepare(
      `UPDATE loose_objects SET unwanted = 1, due_at_ms = ?2
       WHERE due_at_ms <= ?1 AND key IN (SELECT value FROM json_each(?3))
       RETURNING key, multipart_id AS multipartId`,
    )
    .bind(nowMs, dueAtMs, JSON.stringify(objects.map(({ key }) => key)))
    .all<LooseObject>();
  return results;
}

/**
 * Notes that a holder has these contents: it is not asked again. A reference that was dropped meanwhile, when the run was
 * moved away and came back before it committed, is made again, and asked for in its time.
 */
export async function confirmHeld(
  db: D1Database,
  tenant: string,
  holder: string,
  hashes: string[],
  nowMs: number,
): Promise<void> {
  await db
    .prepare(
      `INSERT INTO blob_holders (tenant, holder, sha256, asked_at_ms)
       SELECT ?1, ?2, sha256, ?4 FROM blobs WHERE tenant = ?1 AND sha256 IN (SELECT value FROM json_each(?3))
       ON CONFLICT (tenant, holder, sha256) DO UPDATE SET asked_at_ms = NULL WHERE asked_at_ms IS NOT NULL`,
    )
    .bind(tenant, holder, JSON.stringify(hashes), nowMs)
    .run();
}

/** Notes that a holder has all that it has asked for. */
export async function confirmAllHeld(db: D1Database, tenant: string, holder: string): Promise<void> {
  await db
    .prepare(
      `UPDATE blob_holders SET asked_at_ms = NULL
       WHERE tenant = ? AND holder = ? AND asked_at_ms IS NOT NULL`,
    )
    .bind(tenant, holder)
    .run();
}

/** Drops up to `limit` references of a holder. Returns whether there may be more. */
export async function dropHolder(
  db: D1Database,
  tenant: string,
  holder: string,
  limit: number,
  nowMs: number,
): Promise<boolean> {
  const { results } = await db
    .prepare("SELECT sha256 FROM blob_holders WHERE tenant = ? AND holder = ? ORDER BY sha256 LIMIT ?")
    .bind(tenant, holder, limit)
    .all<{ sha256: string }>();
  const hashes = results.map(({ sha256 }) => sha256);
  if (hashes.length === 0) return false;
  await db.batch([
    db
      .prepare(
        `DELETE FROM blob_holders
         WHERE tenant = ? AND holder = ? AND sha256 IN (SELECT value FROM json_each(?))`,
      )
      .bind(tenant, holder, JSON.stringify(hashes)),
    unheldStatement(db, tenant, hashes, nowMs),
  ]);
  return hashes.length === limit;
}

/** A reference whose holder has not been seen to have the content. */
export interface AskedReference {
  tenant: string;
  holder: string;
  sha256: string;
  asked_at_ms: number;
}

/** Up to `limit` references that were asked for at `untilMs` or before and are not known to be had, oldest first. */
export async function referencesToAsk(
  db: D1Database,
  untilMs: number,
  limit: number,
): Promise<AskedReference[]> {
  const { results } = await db
    .prepare(
      `SELECT tenant, holder, sha256, asked_at_ms FROM blob_holders
       WHERE asked_at_ms <= ? ORDER BY asked_at_ms, tenant, holder, sha256 LIMIT ?`,
    )
    .bind(untilMs, limit)
    .all<AskedReference>();
  return results;
}

/** Drops references, except those that were asked for again since they were read. */
export async function dropReferences(
  db: D1Database,
  tenant: string,
  holder: string,
  references: AskedReference[],
  nowMs: number,
): Promise<void> {
  if (references.length === 0) return;
  const read = JSON.stringify(references.map(({ sha256, asked_at_ms }) => ({ sha256, asked_at_ms })));
  await db.batch([
    db
      .prepare(
        `DELETE FROM blob_holders WHERE tenant = ?1 AND holder = ?2 AND EXISTS (
           SELECT 1 FROM json_each(?3) WHERE value ->> 'sha256' = blob_holders.sha256
             AND value ->> 'asked_at_ms' = blob_holders.asked_at_ms)`,
      )
      .bind(tenant, holder, read),
    unheldStatement(
      db,
      tenant,
      references.map(({ sha256 }) => sha256),
      nowMs,
    ),
  ]);
}

/** Puts off asking for references whose holder cannot be asked now. */
export async function postponeAsking(
  db: D1Database,
  tenant: string,
  holder: string,
  untilMs: number,
  nowMs: number,
): Promise<void> {
  await db
    .prepare("UPDATE blob_holders SET asked_at_ms = ? WHERE tenant = ? AND holder = ? AND asked_at_ms <= ?")
    .bind(nowMs, tenant, holder, untilMs)
    .run();
}

/** Marks those of these contents that nobody holds. */
function unheldStatement(
  db: D1Database,
  tenant: string,
  hashes: string[],
  nowMs: number,
): D1PreparedStatement {
  return db
    .prepare(
      `UPDATE blobs SET unheld_at_ms = ?3
       WHERE tenant = ?1 AND sha256 IN (SELECT value FROM json_each(?2)) AND unheld_at_ms IS NULL
         AND NOT EXISTS (SELECT 1 FROM blob_holders h WHERE h.tenant = ?1 AND h.sha256 = blobs.sha256)`,
    )
    .bind(tenant, JSON.stringify(hashes), nowMs);
}

/** Makes loose objects of up to `limit` contents that nobody holds. Returns how many contents were looked at. */
export async function loosenUnheld(db: D1Database, limit: number, nowMs: number): Promise<number> {
  const chosen = `SELECT tenant, sha256 FROM blobs WHERE unheld_at_ms <= ?1 ORDER BY unheld_at_ms, tenant, sha256 LIMIT ?2`;
  const unheld = `NOT EXISTS (SELECT 1 FROM blob_holders h WHERE h.tenant = blobs.tenant AND h.sha256 = blobs.sha256)`;
  const results = await db.batch([
    // Held again since it was marked.
    db
      .prepare(`UPDATE blobs SET unheld_at_ms = NULL WHERE (tenant, sha256) IN (${chosen}) AND NOT ${unheld}`)
      .bind(nowMs, limit),
    db
      .prepare(
        `INSERT INTO loose_objects (key, multipart_id, unwanted, due_at_ms)
         SELECT key, NULL, 1, ?1 FROM blobs WHERE (tenant, sha256) IN (${chosen}) AND ${unheld}`,
      )
      .bind(nowMs, limit),
    db.prepare(`DELETE FROM blobs WHERE (tenant, sha256) IN (${chosen}) AND ${unheld}`).bind(nowMs, limit),
  ]);
  return results.reduce((sum, { meta }, index) => sum + (index === 1 ? 0 : meta.changes), 0);
}
