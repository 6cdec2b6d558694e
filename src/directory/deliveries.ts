import type { DeliveryStatus, KeyedBy } from "../protocol/hooks.ts";

/** Which delivery. */
export interface DeliveryKey {
  tenant: string;
  hook_id: string;
  delivery_id: string;
}

/** A delivery without its body (migrations/0007_hooks.sql). */
export interface Delivery extends DeliveryKey {
  delivery_key: string;
  keyed_by: KeyedBy;
  event: string | null;
  received_at_ms: number;
  status: DeliveryStatus;
  due_at_ms: number;
  attempts: number;
  tries: number;
  finished_at_ms: number | null;
  run_id: string | null;
  result: Record<string, unknown> | null;
  repeats: number;
  last_repeat_at_ms: number | null;
  headers: Record<string, string>;
  content_type: string;
  bytes: number;
  sha256: string;
}

/** What of a delivery is known when it comes in. */
export type NewDelivery = DeliveryKey &
  Pick<
    Delivery,
    "delivery_key" | "keyed_by" | "event" | "received_at_ms" | "headers" | "content_type" | "bytes" | "sha256"
  >;

/** Where a delivery's body lies: with its row, or in R2. */
export type StoredPayload = { bytes: Uint8Array } | { key: string };

type Row = Omit<Delivery, "headers" | "result"> & { headers: string; result: string | null };

const COLUMNS = `tenant, hook_id, delivery_id, delivery_key, keyed_by, event, received_at_ms, status, due_at_ms, attempts,
  tries, finished_at_ms, run_id, result, repeats, last_repeat_at_ms, headers, content_type, bytes, sha256`;

/** The row of a delivery's key. */
const OF_KEY = "tenant = ? AND hook_id = ? AND delivery_id = ?";

function deliveryOf(row: Row): Delivery {
  return {
    ...row,
    headers: JSON.parse(row.headers) as Record<string, string>,
    result: row.result === null ? null : (JSON.parse(row.result) as Record<string, unknown>),
  };
}

/** What a repeat is answered with. */
export type Known = Pick<Delivery, "run_id" | "status" | "repeats">;

/**
 * Keeps a delivery, once: when it is there already, that it came again is counted, and nothing else changes.
 * @returns what is known of it then; `repeats` is 0 for the one that was kept.
 */
export async function keepDelivery(
  db: D1Database,
  delivery: NewDelivery,
  payload: StoredPayload,
): Promise<Known> {
  const key = "key" in payload ? payload.key : null;
  const insert = db
    .prepare(
      `INSERT INTO deliveries (tenant, hook_id, delivery_id, delivery_key, keyed_by, event, received_at_ms, status, due_at_ms,
         attempts, tries, repeats, headers, content_type, bytes, sha256, payload_key, payload)
       SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, 'received', ?7, 0, 0, 0, ?8, ?9, ?10, ?11, ?12, ?13
       WHERE ?12 IS NULL OR EXISTS (SELECT 1 FROM loose_objects WHERE key = ?12 AND unwanted = 0)
       ON CONFLICT (tenant, hook_id, delivery_id)
         DO UPDATE SET repeats = repeats + 1, last_repeat_at_ms = excluded.received_at_ms
       RETURNING run_id, status, repeats`,
    )
    .bind(
      delivery.tenant,
      delivery.hook_id,
      delivery.delivery_id,
      delivery.delivery_key,
      delivery.keyed_by,
      delivery.event,
      delivery.received_at_ms,
      JSON.stringify(delivery.headers),
      delivery.content_type,
      delivery.bytes,
      delivery.sha256,
      key,
      "bytes" in payload ? payload.bytes : null,
    );
  // The object in R2 was announced before it was written; from here on it is this delivery's.
  const take = db
    .prepare(
      `DELETE FROM loose_objects WHERE key = ?1 AND EXISTS (SELECT 1 FROM deliveries
         WHERE payload_key = ?1 AND tenant = ?2 AND hook_id = ?3 AND delivery_id = ?4)`,
    )
    .bind(key, delivery.tenant, delivery.hook_id, delivery.delivery_id);
  const [kept] = await db.batch<Known>(key === null ? [insert] : [insert, take]);
  const known = kept?.results[0];
  if (known === undefined) throw new Error("the body was written for so long that it has been collected");
  return known;
}

/** Counts that a delivery came again; null when it is not known. */
export async function countRepeat(db: D1Database, key: DeliveryKey, nowMs: number): Promise<Known | null> {
  return db
    .prepare(
      `UPDATE deliveries SET repeats = repeats + 1, last_repeat_at_ms = ? WHERE ${OF_KEY}
       RETURNING run_id, status, repeats`,
    )
    .bind(nowMs, key.tenant, key.hook_id, key.delivery_id)
    .first<Known>();
}

export async function findDelivery(db: D1Database, key: DeliveryKey): Promise<Delivery | null> {
  const row = await db
    .prepare(`SELECT ${COLUMNS} FROM deliveries WHERE ${OF_KEY}`)
    .bind(key.tenant, key.hook_id, key.delivery_id)
    .first<Row>();
  return row === null ? null : deliveryOf(row);
}

export async function findPayload(db: D1Database, key: DeliveryKey): Promise<StoredPayload | null> {
  const row = await db
    .prepare(`SELECT payload_key, payload FROM deliveries WHERE ${OF_KEY}`)
    .bind(key.tenant, key.hook_id, key.delivery_id)
    .first<{ payload_key: string | null; payload: number[] | null }>();
  if (row === null) return null;
  return row.payload_key === null ? { bytes: new Uint8Array(row.payload ?? []) } : { key: row.payload_key };
}

/** Where a page of deliveries ends: its last one. */
export type DeliveryPosition = [receivedAtMs: number, deliveryId: string];

/** Up to `limit` deliveries of a hook, newest first, before a position; those of one status if it is given. */
export async function listDeliveries(
  db: D1Database,
  { tenant, hook_id }: Pick<DeliveryKey, "tenant" | "hook_id">,
  status: DeliveryStatus | null,
  before: DeliveryPosition | null,
  limit: number,
): Promise<Delivery[]> {
  const [atMs, id] = before ?? [Number.MAX_SAFE_INTEGER, ""];
  const { results } = await db
    .prepare(
      `SELECT ${COLUMNS} FROM deliveries
       WHERE tenant = ?1 AND hook_id = ?2 AND (received_at_ms, delivery_id) < (?3, ?4) ${status === null ? "" : "AND status = ?6"}
       ORDER BY received_at_ms DESC, delivery_id DESC LIMIT ?5`,
    )
    .bind(...[tenant, hook_id, atMs, id, limit], ...(status === null ? [] : [status]))
    .all<Row>();
  return results.map(deliveryOf);
}

/** A delivery that is being processed, and by what mapping, as hooks have it: the same in every try. */
export type ClaimedDelivery = Delivery & { mapping: unknown };

/**
 * Begins to process a delivery that is due: nobody else begins before `deadlineMs`.
 * @returns the delivery as it is then; null when it is not due, done, or begun by someone else.
 */
export async function claimDelivery(
  db: D1Database,
  key: DeliveryKey,
  nowMs: number,
  deadlineMs: number,
): Promise<ClaimedDelivery | null> {
  const row = await db
    .prepare(
      `UPDATE deliveries SET status = 'processing', due_at_ms = ?, attempts = attempts + 1, tries = tries + 1,
         mapping = coalesce(mapping, (SELECT mapping FROM hooks
           WHERE hooks.tenant = deliveries.tenant AND hooks.hook_id = deliveries.hook_id))
       WHERE ${OF_KEY} AND status IN ('received', 'processing') AND due_at_ms <= ? RETURNING ${COLUMNS}, mapping`,
    )
    .bind(deadlineMs, key.tenant, key.hook_id, key.delivery_id, nowMs)
    .first<Row & { mapping: string | null }>();
  if (row === null) return null;
  const { mapping, ...rest } = row;
  return { ...deliveryOf(rest), mapping: mapping === null ? null : JSON.parse(mapping) };
}

/** What processing came to: done, or to be tried again. */
export interface Settlement {
  status: DeliveryStatus;
  due_at_ms: number;
  finished_at_ms: number | null;
  run_id: string | null;
  result: Record<string, unknown> | null;
}

/** Writes what processing came to, unless someone else has begun since. Returns whether it was written. */
export async function settleDelivery(
  db: D1Database,
  delivery: Delivery,
  settled: Settlement,
): Promise<boolean> {
  const { meta } = await db
    .prepare(
      `UPDATE deliveries SET status = ?, due_at_ms = ?, finished_at_ms = ?, run_id = coalesce(?, run_id), result = ?,
         mapping = CASE WHEN ? IS NULL THEN mapping END
       WHERE ${OF_KEY} AND status = 'processing' AND attempts = ?`,
    )
    .bind(
      settled.status,
      settled.due_at_ms,
      settled.finished_at_ms,
      settled.run_id,
      settled.result === null ? null : JSON.stringify(settled.result),
      settled.finished_at_ms,
      delivery.tenant,
      delivery.hook_id,
      delivery.delivery_id,
      delivery.attempts,
    )
    .run();
  return meta.changes > 0;
}

/** Has a delivery processed again, whatever became of it; false when someone is at it. */
export async function reopenDelivery(db: D1Database, key: DeliveryKey, nowMs: number): Promise<boolean> {
  const { meta } = await db
    .prepare(
      `UPDATE deliveries SET status = 'received', due_at_ms = ?1, tries = 0, finished_at_ms = NULL, mapping = NULL
       WHERE tenant = ?2 AND hook_id = ?3 AND delivery_id = ?4 AND NOT (status = 'processing' AND due_at_ms > ?1)`,
    )
    .bind(nowMs, key.tenant, key.hook_id, key.delivery_id)
    .run();
  return meta.changes > 0;
}

/** Up to `limit` deliveries that wait to be processed, or whose processing was cut off, earliest first. */
export async function openDeliveries(
  db: D1Database,
  nowMs: number,
  limit: number,
): Promise<(DeliveryKey & { bytes: number })[]> {
  const { results } = await db
    .prepare(
      `SELECT tenant, hook_id, delivery_id, bytes FROM deliveries WHERE finished_at_ms IS NULL AND due_at_ms <= ?
       ORDER BY due_at_ms, tenant, hook_id, delivery_id LIMIT ?`,
    )
    .bind(nowMs, limit)
    .all<DeliveryKey & { bytes: number }>();
  return results;
}

/** Up to `limit` deliveries that were kept long enough, earliest first. */
export async function oldDeliveries(db: D1Database, nowMs: number, limit: number): Promise<DeliveryKey[]> {
  const { results } = await db
    .prepare(
      `SELECT tenant, hook_id, delivery_id FROM deliveries WHERE finished_at_ms IS NOT NULL AND due_at_ms <= ?
       ORDER BY due_at_ms, tenant, hook_id, delivery_id LIMIT ?`,
    )
    .bind(nowMs, limit)
    .all<DeliveryKey>();
  return results;
}

/** Up to `limit` deliveries of a hook. */
export async function deliveriesOf(
  db: D1Database,
  { tenant, hook_id }: Pick<DeliveryKey, "tenant" | "hook_id">,
  limit: number,
): Promise<DeliveryKey[]> {
  const { results } = await db
    .prepare("SELECT tenant, hook_id, delivery_id FROM deliveries WHERE tenant = ? AND hook_id = ? LIMIT ?")
    .bind(tenant, hook_id, limit)
    .all<DeliveryKey>();
  return results;
}

/** Forgets deliveries; bodies that lie in R2 are collected from there. */
export async function forgetDeliveries(db: D1Database, keys: DeliveryKey[], nowMs: number): Promise<void> {
  if (keys.length === 0) return;
  const chosen = `(tenant, hook_id, delivery_id) IN
    (SELECT value ->> 'tenant', value ->> 'hook_id', value ->> 'delivery_id' FROM json_each(?1))`;
  const list = JSON.stringify(
    keys.map(({ tenant, hook_id, delivery_id }) => ({ tenant, hook_id, delivery_id })),
  );
  await db.batch([
    db
      .prepare(
        `INSERT INTO loose_objects (key, multipart_id, unwanted, due_at_ms)
         SELECT payload_key, NULL, 1, ?2 FROM deliveries WHERE ${chosen} AND payload_key IS NOT NULL`,
      )
      .bind(list, nowMs),
    db.prepare(`DELETE FROM deliveries WHERE ${chosen}`).bind(list),
  ]);
}
