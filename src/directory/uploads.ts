/** Which upload is meant: it belongs to one run of one tenant. */
export interface UploadId {
  tenant: string;
  run_id: string;
  upload_id: string;
}

/** An upload in parts. */
export interface Upload extends UploadId {
  /** Of the object in R2 that the parts become. */
  key: string;
  /** R2's id. */
  multipart_id: string;
  /** What the upload shall become, JSON. */
  asked: string;
  /** Of the whole content, hex; null until it has been put together. */
  sha256: string | null;
}

/** A part that has arrived. */
export interface UploadPart {
  /** 1, 2, 3, … */
  part: number;
  /** R2's. */
  etag: string;
  sha256: string;
  bytes: number;
}

/** Adds an upload, unless its id is taken or the run has `limit` unfinished ones already. Returns whether it was added. */
export async function addUpload(
  db: D1Database,
  upload: Omit<Upload, "sha256">,
  limit: number,
  nowMs: number,
): Promise<boolean> {
  const { meta } = await db
    .prepare(
      `INSERT INTO uploads (tenant, run_id, upload_id, key, multipart_id, asked, started_at_ms, done)
       SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 0
       WHERE (SELECT count(*) FROM uploads WHERE tenant = ?1 AND run_id = ?2 AND done = 0) < ?8
       ON CONFLICT DO NOTHING`,
    )
    .bind(
      upload.tenant,
      upload.run_id,
      upload.upload_id,
      upload.key,
      upload.multipart_id,
      upload.asked,
      nowMs,
      limit,
    )
    .run();
  return meta.changes > 0;
}

/** Column `done` of an upload that was given up: it is remembered for whoever asks again. */
const GIVEN_UP = 2;

/** An upload, given up or not; null when nothing is known of it any more. */
export async function findUpload(
  db: D1Database,
  id: UploadId,
): Promise<(Upload & { isGivenUp: boolean }) | null> {
  const row = await db
    .prepare(
      `SELECT tenant, run_id, upload_id, key, multipart_id, asked, sha256, done FROM uploads
       WHERE tenant = ? AND run_id = ? AND upload_id = ?`,
    )
    .bind(id.tenant, id.run_id, id.upload_id)
    .first<Upload & { done: number }>();
  if (row === null) return null;
  const { done, ...upload } = row;
  return { ...upload, isGivenUp: done === GIVEN_UP };
}

/** Notes that an upload was given up, and forgets its parts. */
export async function giveUpUpload(db: D1Database, id: UploadId): Promise<void> {
  await db.batch([
    db
      .prepare(`UPDATE uploads SET done = ${GIVEN_UP} WHERE tenant = ? AND run_id = ? AND upload_id = ?`)
      .bind(id.tenant, id.run_id, id.upload_id),
    db.prepare("DELETE FROM upload_parts WHERE upload_id = ?").bind(id.upload_id),
  ]);
}

/**
 * Counts a part that is about to be written to its tenant, and takes off the list what it was before: both are in R2 for a
 * while, and what fails to arrive may be too. Returns false when there is no such upload, or it takes no parts any more.
 */
export async function reservePart(
  db: D1Database,
  { tenant, run_id, upload_id }: UploadId,
  part: number,
  bytes: number,
): Promise<boolean> {
  const { meta } = await db
    .prepare(
      `INSERT INTO upload_parts (upload_id, part, etag, sha256, bytes, tenant)
       SELECT ?3, ?4, '', '', ?5, ?1 FROM uploads
       WHERE tenant = ?1 AND run_id = ?2 AND upload_id = ?3 AND sha256 IS NULL AND done = 0
       ON CONFLICT (upload_id, part) DO UPDATE SET etag = '', bytes = max(bytes, excluded.bytes)`,
    )
    .bind(tenant, run_id, upload_id, part, bytes)
    .run();
  return meta.changes > 0;
}

/** Notes that a part has arrived. Returns false when its upload is gone, or done. */
export async function putPart(db: D1Database, uploadId: string, part: UploadPart): Promise<boolean> {
  const { meta } = await db
    .prepare("UPDATE upload_parts SET etag = ?, sha256 = ?, bytes = ? WHERE upload_id = ? AND part = ?")
    .bind(part.etag, part.sha256, part.bytes, uploadId, part.part)
    .run();
  return meta.changes > 0;
}

/** The parts that have arrived, in order. */
export async function partsOf(db: D1Database, uploadId: string): Promise<UploadPart[]> {
  const { results } = await db
    .prepare(
      "SELECT part, etag, sha256, bytes FROM upload_parts WHERE upload_id = ? AND etag <> '' ORDER BY part",
    )
    .bind(uploadId)
    .all<UploadPart>();
  return results;
}

/** Notes what the parts have become: from then on no part can be changed. */
export async function setDigest(db: D1Database, id: UploadId, sha256: string): Promise<void> {
  await db
    .prepare("UPDATE uploads SET sha256 = ? WHERE tenant = ? AND run_id = ? AND upload_id = ?")
    .bind(sha256, id.tenant, id.run_id, id.upload_id)
    .run();
}

/** Notes that an upload is in its run. */
export async function finishUpload(db: D1Database, id: UploadId): Promise<void> {
  await db.batch([
    db
      .prepare("UPDATE uploads SET done = 1 WHERE tenant = ? AND run_id = ? AND upload_id = ?")
      .bind(id.tenant, id.run_id, id.upload_id),
    db.prepare("DELETE FROM upload_parts WHERE upload_id = ?").bind(id.upload_id),
  ]);
}

/** Forgets an upload with its parts. The object in R2 is another matter. */
export async function removeUpload(db: D1Database, id: UploadId): Promise<void> {
  await db.batch([
    db
      .prepare("DELETE FROM uploads WHERE tenant = ? AND run_id = ? AND upload_id = ?")
      .bind(id.tenant, id.run_id, id.upload_id),
    db.prepare("DELETE FROM upload_parts WHERE upload_id = ?").bind(id.upload_id),
  ]);
}

/** Forgets all uploads of a run; their objects in R2 are due for collection at once. */
export async function removeUploadsOf(db: D1Database, tenant: string, runId: string): Promise<void> {
  const ofRun = "FROM uploads WHERE tenant = ? AND run_id = ?";
  await db.batch(
    [
      `UPDATE loose_objects SET due_at_ms = 0 WHERE key IN (SELECT key ${ofRun})`,
      `DELETE FROM upload_parts WHERE upload_id IN (SELECT upload_id ${ofRun})`,
      `DELETE ${ofRun}`,
    ].map((query) => db.prepare(query).bind(tenant, runId)),
  );
}

/** Up to `limit` uploads that began at `untilMs` or before, finished or not, oldest first. */
export async function oldUploads(db: D1Database, untilMs: number, limit: number): Promise<UploadId[]> {
  const { results } = await db
    .prepare(
      `SELECT tenant, run_id, upload_id FROM uploads WHERE started_at_ms <= ?
       ORDER BY started_at_ms, tenant, run_id, upload_id LIMIT ?`,
    )
    .bind(untilMs, limit)
    .all<UploadId>();
  return results;
}
