import {
  type Delivery,
  type DeliveryKey,
  type DeliveryPosition,
  findDelivery,
  listDeliveries,
  reopenDelivery,
} from "../../directory/deliveries.ts";
import { readBody } from "../../hooks/in/payloads.ts";
import { processDelivery } from "../../hooks/in/process.ts";
import { Received } from "../../hooks/in/received.ts";
import { DELIVERY_STATUSES } from "../../protocol/hooks.ts";
import { DELIVERIES_KEPT_MS, MAX_SHOWN_DELIVERY_BYTES } from "../../protocol/limits.ts";
import { refuseBound } from "../bounds.ts";
import type { Call } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";
import { downloadHeaders } from "../safe-content.ts";
import { hookOf } from "./hooks.ts";

/** A delivery as operators see it. */
function shown({ tenant, due_at_ms, tries, headers, ...delivery }: Delivery) {
  const isOpen = delivery.finished_at_ms === null;
  return {
    ...delivery,
    // While it is processed: when it counts as cut off.
    next_try_at_ms: isOpen ? due_at_ms : null,
    kept_until_ms: delivery.received_at_ms + DELIVERIES_KEPT_MS,
  };
}

/** `GET /v1/hooks/{hook_id}/deliveries`: newest first; `status` for those of one status. */
export async function listHookDeliveries(call: Call): Promise<HttpAnswer> {
  const query = call.query({ status: "string", limit: "uint", cursor: "string" });
  const status = DELIVERY_STATUSES.find((known) => known === query.status) ?? null;
  if (query.status !== undefined && status === null) refuseStatus();
  const hook = await hookOf(call);
  const limit = pageLimit(query.limit);
  const before = readCursor(query.cursor, isPosition);
  const deliveries = await listDeliveries(call.env.DIRECTORY, hook, status, before, limit);
  const last = deliveries.length < limit ? undefined : deliveries.at(-1);
  const position = last === undefined ? null : [last.received_at_ms, last.delivery_id];
  return jsonAnswer({ deliveries: deliveries.map(shown), ...pageLinks(call, position) });
}

function refuseStatus(): never {
  const message = `status must be one of ${DELIVERY_STATUSES.join(", ")}`;
  refuseIssues("QUERY_INVALID", [{ field: "status", rule: "one_of", message }]);
}

function isPosition(value: unknown): value is DeliveryPosition {
  return (
    Array.isArray(value) && value.length === 2 && isWholeNumber(value[0]) && typeof value[1] === "string"
  );
}

function keyOf(call: Call): DeliveryKey {
  return {
    tenant: call.tenantKey,
    hook_id: call.id("hook_id"),
    delivery_id: call.id("delivery_id"),
  };
}

/** @throws RequestRefused `HOOK_NOT_FOUND`, `DELIVERY_NOT_FOUND` */
async function deliveryOf(call: Call): Promise<Delivery> {
  await hookOf(call);
  const delivery = await findDelivery(call.env.DIRECTORY, keyOf(call));
  if (delivery !== null) return delivery;
  throw new RequestRefused({ code: "DELIVERY_NOT_FOUND", error: "delivery not found" });
}

/**
 * `GET /v1/hooks/{hook_id}/deliveries/{delivery_id}`: with the headers that are kept and, where it is short and can be read
 * as data, the payload; a mapping can be tried on the three of `event`, `headers` and `payload`.
 */
export async function getDelivery(call: Call): Promise<HttpAnswer> {
  const delivery = await deliveryOf(call);
  const isShort = delivery.bytes <= MAX_SHOWN_DELIVERY_BYTES;
  const body = isShort ? await readBody(call.env, delivery) : null;
  const type = new Headers({ "content-type": delivery.content_type });
  const payload = body === null ? null : new Received(type, body).payload();
  return jsonAnswer({
    delivery: shown(delivery),
    headers: delivery.headers,
    payload: payload?.ok ? payload.value : undefined,
    payload_url: `/v1/hooks/${delivery.hook_id}/deliveries/${delivery.delivery_id}/payload`,
  });
}

/** `GET /v1/hooks/{hook_id}/deliveries/{delivery_id}/payload`: the body as it came. */
export async function deliveryPayload(call: Call): Promise<HttpAnswer> {
  const delivery = await deliveryOf(call);
  const headers = {
    ...downloadHeaders(delivery.delivery_id, delivery),
    "content-length": String(delivery.bytes),
    "cache-control": "private, no-store",
  };
  if (call.request.method === "HEAD") return { status: 200, headers, body: null };
  return { status: 200, headers, body: await readBody(call.env, delivery) };
}

/**
 * `POST /v1/hooks/{hook_id}/deliveries/{delivery_id}/replay`: processes a delivery once more, by the mapping as it is now, and
 * tells what came of it. What was made before is found by its keys and not made again.
 */
export async function replayDelivery(call: Call): Promise<HttpAnswer> {
  refuseBound(call.principal, "task_types");
  const found = await deliveryOf(call);
  const nowMs = Date.now();
  const isMine = await reopenDelivery(call.env.DIRECTORY, found, nowMs);
  const processed = isMine ? await processDelivery(call.env, found, nowMs) : null;
  if (processed !== null) return jsonAnswer({ delivery: shown(processed) });
  throw new RequestRefused({ code: "DELIVERY_BUSY", error: "the delivery is being processed" });
}
