import {
  type ClaimedDelivery,
  claimDelivery,
  type Delivery,
  type DeliveryKey,
  type Settlement,
  settleDelivery,
} from "../../directory/deliveries.ts";
import { findHook } from "../../directory/hooks.ts";
import type { Env } from "../../env.ts";
import { DELIVERIES_KEPT_MS, MAX_DELIVERY_TRIES, MAX_MAPPED_DELIVERY_BYTES } from "../../protocol/limits.ts";
import { applyMapping } from "../mapping/apply.ts";
import { readBody } from "./payloads.ts";
import { Received } from "./received.ts";

/** Who has begun to process a delivery has it for so long; then it counts as cut off. */
const PROCESSING_MS = 2 * 60_000;
/** The wait after the first failure; each further one is four times as long, up to the longest. */
const FIRST_WAIT_MS = 30_000;
const LONGEST_WAIT_MS = 6 * 60 * 60_000;

/** What mapping came to. */
type Outcome = Pick<Settlement, "status" | "run_id" | "result">;

/**
 * Makes of a stored delivery what its hook's mapping says, if it is due and nobody else is at it. May be cut off anywhere and
 * repeated: run ids and command ids are derived from the delivery, so that what was done is found done.
 * @returns the delivery as it is then; null when there was nothing to do.
 */
export async function processDelivery(env: Env, key: DeliveryKey, nowMs: number): Promise<Delivery | null> {
  const delivery = await claimDelivery(env.DIRECTORY, key, nowMs, nowMs + PROCESSING_MS);
  if (delivery === null) return null;
  const outcome = await outcomeOf(env, delivery);
  const settled = settlement(delivery, outcome, Math.max(nowMs, Date.now()));
  // That it has made a run stays known, whatever comes of processing it again.
  const made = madeRun(delivery);
  const isSame = settled.run_id === null || settled.run_id === made;
  if (made !== undefined && isSame) settled.result = { created: true, ...settled.result };
  await settleDelivery(env.DIRECTORY, delivery, settled);
  const { mapping: _mapping, ...processed } = delivery;
  return { ...processed, ...settled, run_id: settled.run_id ?? delivery.run_id };
}

/** The run that the delivery made when it was mapped before. */
function madeRun({ result, run_id }: Delivery): string | undefined {
  return result?.created === true ? (run_id ?? undefined) : undefined;
}

/** Null when it failed in a way that may pass. */
async function outcomeOf(env: Env, delivery: ClaimedDelivery): Promise<Outcome | null> {
  // It was begun so often and never came to an end, whatever that was.
  if (delivery.tries > MAX_DELIVERY_TRIES) {
    return failed("failed", "PROCESSING_CUT_OFF", `was cut off ${MAX_DELIVERY_TRIES} times`);
  }
  try {
    return await map(env, delivery);
  } catch (error) {
    const { hook_id, delivery_id } = delivery;
    console.error(JSON.stringify({ event: "delivery_failed", hook_id, delivery_id, error: String(error) }));
    return null;
  }
}

async function map(env: Env, delivery: ClaimedDelivery): Promise<Outcome> {
  const hook = await findHook(env.DIRECTORY, delivery.tenant, delivery.hook_id);
  if (hook === null) return failed("failed", "HOOK_NOT_FOUND", "the hook was deleted");
  if (delivery.bytes > MAX_MAPPED_DELIVERY_BYTES) {
    const limit = MAX_MAPPED_DELIVERY_BYTES;
    const text = `bodies are mapped up to ${limit} bytes`;
    return failed("mapping_failed", "MAPPING_LIMIT", text, { limit_name: "payload_bytes", limit });
  }
  const raw = await readBody(env, delivery);
  if (raw === null) return failed("failed", "DELIVERY_NOT_FOUND", "the delivery was forgotten");
  const payload = new Received(new Headers({ "content-type": delivery.content_type }), raw).payload();
  if (!payload.ok) return failed("mapping_failed", "PAYLOAD_MALFORMED", payload.error);

  const { delivery_id, event, headers, content_type, received_at_ms } = delivery;
  const { status, run_id, ...result } = await applyMapping(env, {
    tenant: hook.owner,
    hook: { hook_id: hook.hook_id, mapping: delivery.mapping },
    delivery: {
      delivery_id,
      event,
      headers,
      body: payload.value,
      raw,
      content_type,
      received_at_ms,
      made_run_id: madeRun(delivery),
    },
  });
  return { status, run_id: run_id ?? null, result };
}

function failed(
  status: "mapping_failed" | "failed",
  code: string,
  error: string,
  members: Record<string, unknown> = {},
): Outcome {
  return { status, run_id: null, result: { error: { code, error, ...members } } };
}

function settlement(delivery: Delivery, outcome: Outcome | null, nowMs: number): Settlement {
  const forgetAtMs = delivery.received_at_ms + DELIVERIES_KEPT_MS;
  if (outcome !== null) return { ...outcome, finished_at_ms: nowMs, due_at_ms: forgetAtMs };
  const told = failed("failed", "PROCESSING_FAILED", "processing failed; the log says why");
  if (delivery.tries >= MAX_DELIVERY_TRIES) return { ...told, finished_at_ms: nowMs, due_at_ms: forgetAtMs };
  const waitMs = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 4 ** (delivery.tries - 1));
  return { ...told, status: "received", finished_at_ms: null, due_at_ms: nowMs + waitMs };
}
