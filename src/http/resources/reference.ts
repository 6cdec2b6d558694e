import {
  type Converted,
  convertReference,
  type ReferenceFiles,
  ReferenceUnreadable,
} from "../../domain/reference-import.ts";
import { streamOf } from "../../moving/export.ts";
import { convertedText } from "../../moving/reference.ts";
import { issueForId } from "../../protocol/ids.ts";
import { MAX_REFERENCE_BYTES } from "../../protocol/limits.ts";
import { importInvalid } from "../../run/arrival-fault.ts";
import { maskToken } from "../../run/lease-tokens.ts";
import { exists } from "../../run/run-client.ts";
import { chunksOf } from "../body.ts";
import { refuseBound } from "../bounds.ts";
import { type Call, unwrap } from "../call.ts";
import { discard } from "../discard.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { identify } from "../idempotency.ts";
import { jsonAnswer } from "../json.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";

const FORM = "multipart/form-data";

/**
 * `POST /v1/runs/import/reference`: the files of one run of the reference engine, as parts named by their file names
 * (docs/moving.md).
 */
export async function importReference(call: Call): Promise<HttpAnswer> {
  const query = call.query({ run_id: "string" });
  refuseBound(call.principal, "task_types", "agent_id");
  const files = await readFiles(call.request);
  const identified = await identify(call, undefined, [query.run_id ?? null, files]);
  const converted = convert(files, call, query.run_id ?? null);
  const run_id = converted.initial.run_id;
  const issue = issueForId("run_id", run_id);
  if (issue !== null) refuseIssues("ID_INVALID", [issue]);
  const command = identified && {
    command_id: identified.commandId,
    fingerprint: identified.fingerprint,
  };
  const object = call.run(run_id);
  await call.requireRoom(() => exists(object));
  const lines = streamOf(convertedText(converted));
  const arrived = unwrap(await object.arrive(lines, { tenant: call.tenant, run_id, command }));
  const { run, repeated, checks } = arrived;
  const headers: Record<string, string> = { location: `/v1/runs/${run_id}`, etag: `"${run.revision}"` };
  if (repeated) headers["idempotency-replayed"] = "true";
  return jsonAnswer({ run, report: converted.report, checked: checks }, { status: 201, headers });
}

function convert(files: ReferenceFiles, call: Call, run_id: string | null): Converted {
  try {
    return convertReference(files, {
      tenant: call.tenant,
      run_id,
      nowMs: Date.now(),
      newId: () => crypto.randomUUID(),
      maskToken,
    });
  } catch (error) {
    if (!(error instanceof ReferenceUnreadable)) throw error;
    const { file, rule, message } = error;
    throw new RequestRefused(importInvalid([{ field: file, rule, message: `${file} ${message}` }]));
  }
}

/** @throws RequestRefused naming the part that is none of the files. */
async function readFiles(request: Request): Promise<ReferenceFiles> {
  const type = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
  if (type !== FORM) {
    await discard(request.body);
    throw new RequestRefused({
      code: "CONTENT_TYPE_UNSUPPORTED",
      error: `content type must be ${FORM}`,
    });
  }
  const form = await formOf(request);
  const files: ReferenceFiles = {
    run_state: null,
    events: null,
    blackboard: null,
    blackboard_patches: null,
    checkpoints: [],
  };
  for (const [field, value] of form) {
    const name = typeof value === "string" || value.name === "" ? field : value.name;
    const text = typeof value === "string" ? value : await value.text();
    const base = name.split("/").at(-1) ?? "";
    const member = MEMBERS.get(base);
    if (member !== undefined && files[member] === null) files[member] = text;
    else if (member === undefined && /^[0-9]+\.json$/.test(base)) files.checkpoints.push({ name, text });
    else {
      const rule = member === undefined ? "known_file" : "once";
      const message = member === undefined ? "is none of the files of a run" : "comes twice";
      throw new RequestRefused(importInvalid([{ field: name.slice(0, 200), rule, message }]));
    }
  }
  return files;
}

const MEMBERS: ReadonlyMap<string, Exclude<keyof ReferenceFiles, "checkpoints">> = new Map([
  ["run_state.json", "run_state"],
  ["events.jsonl", "events"],
  ["blackboard.json", "blackboard"],
  ["blackboard_patches.jsonl", "blackboard_patches"],
]);

async function formOf(request: Request): Promise<FormData> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunksOf(request)) {
    length += chunk.length;
    if (length <= MAX_REFERENCE_BYTES) chunks.push(chunk);
    if (length > 4 * MAX_REFERENCE_BYTES) break;
  }
  if (length > MAX_REFERENCE_BYTES) {
    throw new RequestRefused({
      code: "BODY_TOO_LARGE",
      error: `the files together are limited to ${MAX_REFERENCE_BYTES} bytes`,
      limit_name: "body_bytes",
      limit: MAX_REFERENCE_BYTES,
    });
  }
  try {
    const headers = { "content-type": request.headers.get("content-type") ?? "" };
    return await new Response(Buffer.concat(chunks), { headers }).formData();
  } catch {
    throw new RequestRefused({ code: "BODY_MALFORMED", error: `body is not ${FORM}` });
  }
}
