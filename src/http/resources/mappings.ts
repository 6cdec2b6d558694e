import { planOf } from "../../hooks/mapping/plan.ts";
import { PRESETS } from "../../hooks/mapping/presets.ts";
import { readMapping } from "../../hooks/mapping/read.ts";
import type { MappingInput } from "../../hooks/mapping/sample.ts";
import {
  MAPPING_PRESETS,
  type Mapping,
  type MappingSample,
  mappingTestSchema,
} from "../../protocol/mapping.ts";
import { readBody } from "../body.ts";
import type { Call } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { refuseIssues } from "../problem.ts";

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
