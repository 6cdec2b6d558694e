import { findDelivery } from "../../directory/deliveries.ts";
import { readBody as readPayload } from "../../hooks/in/payloads.ts";
import { type Payload, Received } from "../../hooks/in/received.ts";
import { deliveryRunId, keyedRunId } from "../../hooks/mapping/ids.ts";
import { planOf } from "../../hooks/mapping/plan.ts";
import { PRESETS } from "../../hooks/mapping/presets.ts";
import { readMapping } from "../../hooks/mapping/read.ts";
import type { MappingInput } from "../../hooks/mapping/sample.ts";
import { MAX_MAPPED_DELIVERY_BYTES } from "../../protocol/limits.ts";
import {
  hookTestSchema,
  MAPPING_PRESETS,
  type Mapping,
  type MappingSample,
  mappingTestSchema,
} from "../../protocol/mapping.ts";
import { exists } from "../../run/run-client.ts";
import { readBody } from "../body.ts";
import type { Call } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";
import { hookOf } from "./hooks.ts";

/** What a sample is called where it stands for a delivery. */
const SAMPLE_IDS = { hook_id: "hook_sample", delivery_id: "dlv_sample" };

/** `GET /v1/mappings/presets`: mappings to begin with. */
export async function listPresets(): Promise<HttpAnswer> {
  return jsonAnswer({ presets: MAPPING_PRESETS.map((name) => ({ name, ...PRESETS[name] })) });
}

/** `POST /v1/mappings/test`: what a mapping would make of a sample. Nothing is read or written. */
export async function testMapping(call: Call): Promise<HttpAnswer> {
  const { mapping: asked, sample } = await readBody(call.request, mappingTestSchema(), { mayBeEmpty: false });
  const mapping = mappingOf(asked);
  return jsonAnswer({ ...planOf(mapping, inputOf(sample, SAMPLE_IDS)) });
}

/**
 * `POST /v1/hooks/{hook_id}/test`: what the hook's mapping, or another one, would make of a sample or of a delivery that the
 * hook has had. Nothing is written.
 */
export async function testHook(call: Call): Promise<HttpAnswer> {
  const body = await readBody(call.request, hookTestSchema(), { mayBeEmpty: false });
  const hook = await hookOf(call);
  const mapping = mappingOf(body.mapping ?? hook.mapping);
  const { sample, delivery_id } = body;
  if ((sample === undefined) === (delivery_id === undefined)) {
    const message = "give a sample or a delivery_id, and not both";
    refuseIssues("BODY_INVALID", [{ field: "sample", rule: "one_of", message }]);
  }
  const ids = { hook_id: hook.hook_id, delivery_id: SAMPLE_IDS.delivery_id };
  const input = sample === undefined ? await deliveredInput(call, delivery_id ?? "") : inputOf(sample, ids);
  const planned = planOf(mapping, input);
  if (planned.verdict !== "plan") return jsonAnswer({ ...planned });
  const { run_key } = planned.plan;
  const own = sample === undefined ? deliveryRunId(hook.hook_id, input.delivery_id) : null;
  const run_id = run_key === null ? own : keyedRunId(hook.hook_id, run_key);
  const run_exists = run_id !== null && (await exists(call.run(run_id)));
  return jsonAnswer({ ...planned, run_id, run_exists });
}

/** A delivery that the hook has had, as its mapping would see it now. @throws RequestRefused */
async function deliveredInput(call: Call, delivery_id: string): Promise<MappingInput> {
  const delivery = await findDelivery(call.env.DIRECTORY, {
    tenant: call.tenantKey,
    hook_id: call.id("hook_id"),
    delivery_id,
  });
  const isReadable = delivery !== null && delivery.bytes <= MAX_MAPPED_DELIVERY_BYTES;
  const raw = isReadable ? await readPayload(call.env, delivery) : null;
  if (delivery === null || (isReadable && raw === null)) {
    throw new RequestRefused({ code: "DELIVERY_NOT_FOUND", error: "delivery not found" });
  }
  const type = new Headers({ "content-type": delivery.content_type });
  const payload = raw === null ? TOO_LARGE : new Received(type, raw).payload();
  if (!payload.ok)
    refuseIssues("BODY_INVALID", [{ field: "delivery_id", rule: "payload", message: payload.error }]);
  const { hook_id, event, headers, received_at_ms } = delivery;
  return { hook_id, delivery_id, event, headers, body: payload.value, received_at_ms };
}

const TOO_LARGE: Payload = { ok: false, error: `bodies are mapped up to ${MAX_MAPPED_DELIVERY_BYTES} bytes` };

function inputOf(
  { event, headers, body }: MappingSample,
  ids: { hook_id: string; delivery_id: string },
): MappingInput {
  const names = Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]);
  return {
    ...ids,
    event: event ?? null,
    headers: Object.fromEntries(names),
    body: body ?? null,
    received_at_ms: Date.now(),
  };
}

/** @throws RequestRefused naming what is wrong with it */
function mappingOf(asked: unknown): Mapping {
  const read = readMapping(asked);
  if (!read.ok) refuseIssues("BODY_INVALID", read.issues);
  return read.mapping;
}
