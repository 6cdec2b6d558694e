import { sha256Hex } from "../../artifacts/sha256.ts";
import { announceObject } from "../../directory/blobs.ts";
import {
  countRepeat,
  type DeliveryKey,
  type Known,
  keepDelivery,
  type StoredPayload,
} from "../../directory/deliveries.ts";
import type { Hook } from "../../directory/hooks.ts";
import { exceeded, type QuotaExceeded, readAllowance } from "../../directory/quotas.ts";
import type { Env } from "../../env.ts";
import type { Keyring } from "../../identity/keyring.ts";
import type { KeyedBy } from "../../protocol/hooks.ts";
import {
  ABANDONED_AFTER_MS,
  MAX_DELIVERY_BYTES_WITHOUT_BUCKET,
  MAX_INLINE_DELIVERY_BYTES,
} from "../../protocol/limits.ts";
import { keptHeaders } from "./kept-headers.ts";
import type { Received } from "./received.ts";
import type { About, Checks, Failure, Handshake } from "./scheme.ts";
import { about, verify } from "./schemes/schemes.ts";
import { openSecrets } from "./secrets.ts";

/** What is kept of a content type: no type that means anything is longer, and a header may be. */
const MAX_CONTENT_TYPE_LENGTH = 255;

/** A delivery that is kept: this time, or known from before. */
export interface Kept {
  key: DeliveryKey;
  status: "accepted" | "duplicate";
  keyed_by: KeyedBy;
  /** Of the run that it made or went on with, once it is processed. */
  run_id: string | null;
}

/** What came of a request to a hook. */
export type Receipt =
  | { failure: Failure }
  | { handshake: Handshake }
  | { exceeded: QuotaExceeded }
  | { kept: Kept };

/** The longest body that a hook takes here. */
export function maxBodyBytes(env: Env, hook: Hook): number {
  if (env.ARTIFACTS !== undefined) return hook.max_body_bytes;
  return Math.min(hook.max_body_bytes, MAX_DELIVERY_BYTES_WITHOUT_BUCKET);
}

/**
 * Takes in what came to a hook: verifies the bytes, answers a provider that only asks, and keeps what is new. Once this
 * returns, the delivery is durable; nothing has been made of it yet.
 *
 * R1 Nothing is stored that was not verified.
 * R2 A delivery's id is made of the hook and the sender's id: however many copies come at once, D1 keeps one row.
 * R3 A body in R2 is announced before it is written and belongs to the row from when the row is there: a crash in between
 *    leaves something to collect, and never a row without its body.
 */
export async function receive(
  env: Env,
  keyring: Keyring,
  hook: Hook,
  received: Received,
  checks: Checks,
): Promise<Receipt> {
  const failure = await verify(hook.scheme, await openSecrets(keyring, hook), received, checks);
  if (failure !== null) return { failure };
  const said = about(hook.scheme, received);
  if (said.handshake !== null) return { handshake: said.handshake };
  return keep(env, hook, received, said, checks.nowMs);
}

async function keep(
  env: Env,
  hook: Hook,
  received: Received,
  { key: senderKey, event }: About,
  nowMs: number,
): Promise<Receipt> {
  const { tenant, hook_id, scheme } = hook;
  const { headers, body } = received;
  const sha256 = sha256Hex(body);
  // Two equal events without ids are taken for one: nothing else tells a repeat from another event.
  const keyed_by: KeyedBy = senderKey === null ? "body_digest" : "delivery_id";
  const delivery_key = senderKey ?? sha256;
  const key = { tenant, hook_id, delivery_id: deliveryId(hook_id, keyed_by, delivery_key) };
  const receiptOf = ({ repeats, run_id }: Known): Receipt => ({
    kept: { key, status: repeats === 0 ? "accepted" : "duplicate", keyed_by, run_id },
  });

  const over = await overQuota(env.DIRECTORY, tenant, body.length);
  const isLong = env.ARTIFACTS !== undefined && body.length > MAX_INLINE_DELIVERY_BYTES;
  if (over !== null || isLong) {
    // What is known needs no room; and most repeats are seen here, before a long body is written again.
    const known = await countRepeat(env.DIRECTORY, key, nowMs);
    if (known !== null) return receiptOf(known);
    if (over !== null) return { exceeded: over };
  }
  let payload: StoredPayload = { bytes: body };
  if (env.ARTIFACTS !== undefined && isLong) {
    payload = await writeBody(env.DIRECTORY, env.ARTIFACTS, key, body, nowMs);
  }
  const delivery = {
    ...key,
    delivery_key,
    keyed_by,
    event,
    received_at_ms: nowMs,
    headers: keptHeaders(scheme, headers),
    content_type: (headers.get("content-type") ?? "").slice(0, MAX_CONTENT_TYPE_LENGTH),
    bytes: body.length,
    sha256,
  };
  return receiptOf(await keepDelivery(env.DIRECTORY, delivery, payload));
}

/** Why the tenant may keep no more deliveries; null when it may. */
async function overQuota(db: D1Database, tenant: string, bytes: number): Promise<QuotaExceeded | null> {
  const allowance = await readAllowance(db, tenant);
  return exceeded(allowance, "deliveries", 1) ?? exceeded(allowance, "artifact_bytes", bytes);
}

/** 128 bits of a digest: one for each hook and key. */
function deliveryId(hookId: string, keyedBy: KeyedBy, key: string): string {
  const text = JSON.stringify([hookId, keyedBy, key]);
  return `dlv_${sha256Hex(new TextEncoder().encode(text)).slice(0, 32)}`;
}

async function writeBody(
  db: D1Database,
  bucket: R2Bucket,
  { tenant, delivery_id }: DeliveryKey,
  body: Uint8Array,
  nowMs: number,
): Promise<StoredPayload> {
  // Not the id alone: of two copies at once, one must not delete what the other has written.
  const key = `deliveries/${tenant}/${delivery_id}/${crypto.randomUUID()}`;
  await announceObject(db, { key, multipartId: null }, nowMs + ABANDONED_AFTER_MS);
  await bucket.put(key, body);
  return { key };
}
