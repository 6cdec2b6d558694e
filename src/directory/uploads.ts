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

/** Adds an upload, unless the run has `limit` unfinished ones already. Returns whether it was added. */
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
       WHERE (SELECT count(*) FROM uploads WHERE tenant = ?1 AND run_id = ?2 AND done = 0) < ?8`,
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

export async function findUpload(db: D1Database, id: UploadId): Promise<Upload | null> {
  return db
    .prepare(
      `SELECT tenant, run_id, upload_id, key, multipart_id, asked, sha256 FROM uploads
       WHERE tenant = ? AND run_id = ? AND upload_id = ?`,
    )
    .bind(id.tenant, id.run_id, id.upload_id)
    .first<Upload>();
}

/** Takes a part off the list: it is about to be written, and what it was before is gone then. */
export async function removePart(db: D1Database, uploadId: string, part: number): Promise<void> {
  await db.prepare("DELETE FROM upload_parts WHERE upload_id = ? AND part = ?").bind(uploadId, part).run();
}

/** Notes a part that has arrived, and for which tenant, whose usage it counts to. */
export async function putPart(
  db: D1Database,
  { tenant, upload_id }: Pick<UploadId, "tenant" | "upload_id">,
  part: UploadPart,
): Promise<void> {
  await db
    .prepare(
      `INSERT INTO upload_parts (upload_id, part, etag, sha256, bytes, tenant) VALUES (?, ?, ?, ?, ?, ?)
       ON CONFLICT (upload_id, part) DO UPDATE SET
         etag = excluded.etag, sha256 = excluded.sha256, bytes = excluded.bytes`,
    )
    .bind(upload_id, part.part, part.etag, part.sha256, part.bytes, tenant)
    .run();
}

/** The parts that have arrived, in order. */
export async function partsOf(db: D1Database, uploadId: string): Promise<UploadPart[]> {
  const { results } = await db
    .prepare("SELECT part, etag, sha256, bytes FROM upload_parts WHERE upload_id = ? ORDER BY part")
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
