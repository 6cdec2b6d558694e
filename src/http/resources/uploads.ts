import { runHolder } from "../../artifacts/keys.ts";
import { tooLong, uploadNotFound } from "../../artifacts/problems.ts";
import { PART_LIMITS, Uploads } from "../../artifacts/uploads.ts";
import { commandIdConflict } from "../../domain/refusals.ts";
import { tenantKey } from "../../identity/tenant.ts";
import { nonBlank } from "../../protocol/absent.ts";
import { MAX_PART_BYTES, MAX_PARTS } from "../../protocol/limits.ts";
import type { Call } from "../call.ts";
import { afterBody, declaredDigests, declaredLength, declaredType } from "../content-headers.ts";
import {
  admit,
  commitContent,
  conditionOf,
  leaseTokenOf,
  putAnswer,
  repeatedContent,
  storeOf,
  unwrapContent,
} from "../file-commit.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { digest, fingerprintOf, identify } from "../idempotency.ts";
import { jsonAnswer } from "../json.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";

function uploadsOf(call: Call) {
  const store = storeOf(call);
  const bucket = call.env.ARTIFACTS;
  if (bucket === undefined) throw new Error("a store has a bucket");
  const run = { tenant: tenantKey(call.tenant), run_id: call.id("run_id") };
  return { store, uploads: new Uploads({ bucket, db: call.env.DIRECTORY, store }, run) };
}

/** `POST /v1/…/uploads`: begins an upload in parts; a repeat is told of the same, as long as there is something to tell of it. */
export async function startUpload(call: Call): Promise<HttpAnswer> {
  const { uploads } = uploadsOf(call);
  const { command_id, ...body } = await call.body("startUpload");
  const lease_token = leaseTokenOf(call, body.lease_token);
  const identified = await identify(call, command_id, [body, lease_token]);
  // The key decides the id, so that a repeat finds what it began.
  const upload_id =
    identified === null
      ? crypto.randomUUID()
      : (await digest(["upload", call.tenantKey, call.id("run_id"), identified.commandId])).slice(0, 32);
  const begun = async (): Promise<HttpAnswer | null> => {
    const found = identified && (await uploads.begun(upload_id));
    if (found === null) return null;
    if (found.plan.fingerprint !== identified?.fingerprint) throw new RequestRefused(commandIdConflict);
    return startAnswer(upload_id, { "idempotency-replayed": "true" });
  };
  const repeated = await begun();
  if (repeated !== null) return repeated;
  const plan = {
    path: body.path,
    content_type: declaredType("content_type", body.content_type),
    artifact: {
      artifact_type: nonBlank(body.artifact_type) ?? "file",
      id: nonBlank(body.id),
      step_id: nonBlank(body.step_id),
      source_event_id: nonBlank(body.source_event_id),
    },
    expected: conditionOf(call, body.expected_version),
    task_id: nonBlank(body.task_id),
  };
  await admit(call, { ...plan, lease_token }, undefined);
  const asked = { ...plan, sha256: body.sha256, fingerprint: identified?.fingerprint };
  const isNew = unwrapContent(await uploads.start(asked, upload_id));
  return (isNew ? null : await begun()) ?? startAnswer(upload_id, {});
}

function startAnswer(upload_id: string, headers: Record<string, string>): HttpAnswer {
  return jsonAnswer({ upload_id, ...PART_LIMITS }, { status: 201, headers });
}

/** `PUT /v1/…/uploads/{upload_id}/parts/{part}`: takes in one part, or puts it in the place of another. */
export const putUploadPart = (call: Call) => afterBody(call.request, putPart(call));

async function putPart(call: Call): Promise<HttpAnswer> {
  const { uploads } = uploadsOf(call);
  const part = Number(/^[1-9][0-9]{0,4}$/.exec(call.id("part"))?.[0]);
  if (!(part <= MAX_PARTS)) {
    const message = `part must be a number from 1 to ${MAX_PARTS}`;
    refuseIssues("ID_INVALID", [{ field: "part", rule: "part", limit: MAX_PARTS, message }]);
  }
  const { request } = call;
  const length = declaredLength(request);
  if (length === null) {
    throw new RequestRefused({ code: "CONTENT_LENGTH_REQUIRED", error: "a part needs a Content-Length" });
  }
  await call.requireRoom(async () => false);
  if (length > MAX_PART_BYTES) throw new RequestRefused(tooLong("part_bytes", MAX_PART_BYTES));
  const digests = declaredDigests(request);
  const stored = unwrapContent(
    await uploads.putPart(call.id("upload_id"), part, request.body, length, digests),
  );
  const { sha256, bytes } = stored;
  return jsonAnswer({ part, sha256, bytes }, { headers: { etag: `"${sha256}"` } });
}

/** `POST /v1/…/uploads/{upload_id}/complete`: puts the parts together and the whole into the run. May be repeated. */
export async function completeUpload(call: Call): Promise<HttpAnswer> {
  const { store, uploads } = uploadsOf(call);
  const uploadId = call.id("upload_id");
  const { command_id, ...body } = await call.body("completeUpload", true);
  const lease_token = leaseTokenOf(call, body.lease_token);
  const key = await identify(call, command_id, [body, lease_token]);
  // The upload's own key: it becomes one commit, however often it is completed. A caller's key says that it asks for the same again.
  const identified = {
    commandId: `upload:${uploadId}`,
    fingerprint: key?.fingerprint ?? (await fingerprintOf(call, [body, lease_token])),
    anyBody: key === null,
  };
  const found = await uploads.find(uploadId);
  if (found === null) {
    const committed = await repeatedContent(call, identified);
    if (committed === null) throw new RequestRefused(uploadNotFound);
    const { members, ...init } = putAnswer(call, committed);
    return jsonAnswer(members, init);
  }
  const { upload, plan } = found;
  const { sha256: announced, fingerprint: _fingerprint, ...put } = plan;
  const proven = { ...put, lease_token };
  await admit(call, proven, identified.commandId);
  const digests = [announced, body.sha256, ...declaredDigests(call.request)].filter(
    (digest) => digest !== undefined,
  );
  const holder = runHolder(call.id("run_id"));
  const content = unwrapContent(await uploads.assemble(upload, holder, body.parts, digests));
  const committed = await commitContent(call, store, proven, content, identified);
  await uploads.finish(upload);
  const { members, ...init } = putAnswer(call, committed);
  return jsonAnswer(members, init);
}

/** `DELETE /v1/…/uploads/{upload_id}`: gives up an upload that is not completed; as long as it is remembered, any number of times. */
export async function abortUpload(call: Call): Promise<HttpAnswer> {
  const { uploads } = uploadsOf(call);
  unwrapContent(await uploads.abort(call.id("upload_id")));
  return { status: 204, headers: {}, body: null };
}
