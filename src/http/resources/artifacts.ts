import { runHolder } from "../../artifacts/keys.ts";
import { tooLong } from "../../artifacts/problems.ts";
import { receive } from "../../artifacts/receive.ts";
import { artifactNotFound } from "../../domain/refusals.ts";
import { nonBlank } from "../../protocol/absent.ts";
import { issueForArtifactPath } from "../../protocol/artifact-path.ts";
import { readByteRange } from "../../protocol/byte-range.ts";
import { readEntityTags } from "../../protocol/entity-tags.ts";
import type { FileVersion } from "../../protocol/file-version.ts";
import { MAX_UPLOAD_BYTES } from "../../protocol/limits.ts";
import { type Call, unwrap } from "../call.ts";
import { afterBody, declaredDigests, declaredLength, declaredType } from "../content-headers.ts";
import {
  admit,
  checkLabels,
  commitContent,
  commitFile,
  conditionOf,
  leaseTokenOf,
  type PutPlan,
  putAnswer,
  storeOf,
  unwrapContent,
} from "../file-commit.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { fingerprintOf, identify, keyOf } from "../idempotency.ts";
import { jsonAnswer, RawJson } from "../json.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";
import { contentHeaders, validators } from "../safe-content.ts";

const DEFAULT_TYPE = "file";

/** `PUT /v1/…/artifacts/{path}`: the body, of any type, becomes what the path holds. */
export const putArtifact = (call: Call) => afterBody(call.request, put(call));

async function put(call: Call): Promise<HttpAnswer> {
  const { request } = call;
  const store = storeOf(call);
  const query = call.query({
    artifact_type: "string",
    id: "string",
    step_id: "string",
    source_event_id: "string",
    expected_version: "uint",
    task_id: "string",
    lock_id: "string",
    lease_token: "string",
  });
  checkLabels(query);
  const plan: PutPlan = {
    path: call.artifactPath(),
    content_type: declaredType("Content-Type", request.headers.get("content-type")),
    artifact: {
      artifact_type: nonBlank(query.artifact_type) ?? DEFAULT_TYPE,
      id: nonBlank(query.id),
      step_id: nonBlank(query.step_id),
      source_event_id: nonBlank(query.source_event_id),
    },
    expected: conditionOf(call, query.expected_version),
    task_id: nonBlank(query.task_id),
    lock_id: nonBlank(query.lock_id),
    lease_token: leaseTokenOf(call, query.lease_token),
  };
  const expected = {
    length: declaredLength(request),
    sha256: declaredDigests(request),
    maxBytes: MAX_UPLOAD_BYTES,
    limitName: "upload_bytes",
  };
  if ((expected.length ?? 0) > MAX_UPLOAD_BYTES) {
    throw new RequestRefused(tooLong("upload_bytes", MAX_UPLOAD_BYTES));
  }
  const commandId = keyOf(call, undefined);
  await admit(call, plan, commandId ?? undefined);
  const holder = runHolder(call.id("run_id"));
  const content = unwrapContent(await receive(store, holder, request.body, expected));
  // Not the conditions of its headers: a repeat is to find what it has made.
  const { content_type, artifact, task_id, lock_id, lease_token } = plan;
  const proof = { task_id, lock_id, lease_token };
  const asked = [content.sha256, content_type, artifact, query.expected_version, proof];
  const identified = commandId === null ? null : { commandId, fingerprint: await fingerprintOf(call, asked) };
  const { members, ...init } = putAnswer(call, await commitContent(call, store, plan, content, identified));
  return jsonAnswer(members, init);
}

/** `POST /v1/…/artifacts`: stores a JSON document and puts it into the run in one call (contract 05 §6). */
export async function appendArtifact(call: Call): Promise<HttpAnswer> {
  const store = storeOf(call);
  const { command_id, content, expected_version, path: asked, ...body } = await call.body("appendArtifact");
  const lease_token = leaseTokenOf(call, body.lease_token);
  const identified = await identify(call, command_id, [asked, content, expected_version, body, lease_token]);
  const artifact_type = nonBlank(body.artifact_type) ?? DEFAULT_TYPE;
  const id = nonBlank(body.id) ?? `artifact-${crypto.randomUUID()}`;
  const path = asked ?? `${artifact_type}/${id}.json`;
  const issue = issueForArtifactPath("path", path);
  if (issue !== null) {
    const message = `${issue.message}; as it is made of artifact_type and id, give another \`path\``;
    refuseIssues("ARTIFACT_PATH_INVALID", [{ ...issue, message }]);
  }
  const plan: PutPlan = {
    path,
    content_type: "application/json",
    artifact: {
      artifact_type,
      id,
      step_id: nonBlank(body.step_id),
      source_event_id: nonBlank(body.source_event_id),
    },
    expected: conditionOf(call, expected_version),
    task_id: nonBlank(body.task_id),
    lock_id: nonBlank(body.lock_id),
    lease_token,
  };
  await admit(call, plan, identified?.commandId);
  const kept = await store.keep(runHolder(call.id("run_id")), JSON.stringify(content));
  const { members, ...init } = putAnswer(call, await commitContent(call, store, plan, kept, identified));
  return jsonAnswer(members, init);
}

/** `GET` and `HEAD /v1/…/artifacts/{path}`: the content, whole or a range of it; `version` for what the path held. */
export async function getArtifact(call: Call): Promise<HttpAnswer> {
  const { headers, method } = call.request;
  const store = storeOf(call);
  const path = call.artifactPath();
  const { version } = call.query({ version: "uint" });
  const file = unwrap(await call.run().readFile(path, version ?? null));
  if (file === null || !hasContent(file)) throw new RequestRefused(artifactNotFound(path, version));
  const etag = `"${file.sha256}"`;
  if (hasCopy(headers.get("if-none-match"), file.sha256)) {
    return { status: 304, headers: validators(file), body: null };
  }
  // A range of what the client does not have the rest of is no use to it.
  const ifRange = headers.get("if-range");
  const wanted = ifRange === null || ifRange.trim() === etag ? headers.get("range") : null;
  const range = readByteRange(wanted, file.bytes);
  if (range === "unsatisfiable") {
    throw new RequestRefused(
      { code: "RANGE_NOT_SATISFIABLE", error: `the artifact has ${file.bytes} bytes`, bytes: file.bytes },
      { "content-range": `bytes */${file.bytes}` },
    );
  }
  const { start, end } = range ?? { start: 0, end: file.bytes - 1 };
  const answer: HttpAnswer = {
    status: range === null ? 200 : 206,
    headers: {
      ...contentHeaders(file),
      "content-length": String(end - start + 1),
      ...(range !== null && { "content-range": `bytes ${start}-${end}/${file.bytes}` }),
    },
    body: null,
  };
  if (method === "HEAD") return answer;
  const read = await store.read(
    file.sha256,
    range === null ? undefined : { offset: start, length: end - start + 1 },
  );
  if (read === null) throw new Error(`the content ${file.sha256} of a run is not in the store`);
  return { ...answer, body: read.body };
}

function hasContent(file: FileVersion): file is FileVersion & { sha256: string } {
  return file.sha256 !== null;
}

/** Whether a client has this content already; tags that cannot be read are no reason to refuse it. */
function hasCopy(ifNoneMatch: string | null, sha256: string): boolean {
  const read = readEntityTags("If-None-Match", ifNoneMatch);
  if (!read.ok || read.tags === null) return false;
  return read.tags === "*" || read.tags.some(({ tag }) => tag === sha256);
}

/** `DELETE /v1/…/artifacts/{path}`: the path holds nothing from then on; its versions stay. */
export async function deleteArtifact(call: Call): Promise<HttpAnswer> {
  const query = call.query({
    expected_version: "uint",
    task_id: "string",
    lock_id: "string",
    lease_token: "string",
  });
  checkLabels(query);
  const path = call.artifactPath();
  const proof = {
    task_id: nonBlank(query.task_id),
    lock_id: nonBlank(query.lock_id),
    lease_token: leaseTokenOf(call, query.lease_token),
  };
  const identified = await identify(call, undefined, [query.expected_version, proof]);
  const { outcome, headers } = await commitFile(
    call,
    {
      op: "remove_artifact",
      path,
      expected: conditionOf(call, query.expected_version),
      ...proof,
    },
    identified,
  );
  return jsonAnswer({ file: outcome.file }, { headers });
}

/**
 * `GET /v1/…/artifacts`: what the paths hold, by path, those with a prefix if one is given; with `versions=true&path=…` the
 * versions of one path, oldest first.
 */
export async function listArtifacts(call: Call): Promise<HttpAnswer> {
  const { prefix, path, versions, limit, cursor } = call.query({
    prefix: "string",
    path: "string",
    versions: "bool",
    limit: "uint",
    cursor: "string",
  });
  if (versions === true) return listVersions(call, path ?? "", limit, cursor);
  if (path !== undefined) {
    const message = "path goes with versions=true; one artifact has a URL of its own";
    refuseIssues("QUERY_INVALID", [{ field: "path", rule: "with_versions", message }]);
  }
  const page = unwrap(
    await call.run().readFiles({
      prefix: prefix ?? "",
      afterPath: decodeURIComponent(readCursor(cursor, isEncodedPath) ?? ""),
      limit: pageLimit(limit),
    }),
  );
  // Cursors are base64 of Latin-1 texts.
  const links = pageLinks(call, page.nextPath === null ? null : encodeURIComponent(page.nextPath));
  return jsonAnswer({ artifacts: new RawJson(page.items), ...links });
}

async function listVersions(
  call: Call,
  path: string,
  limit: number | undefined,
  cursor: string | undefined,
): Promise<HttpAnswer> {
  const issue = issueForArtifactPath("path", path);
  if (issue !== null) refuseIssues("ARTIFACT_PATH_INVALID", [issue]);
  const afterVersion = readCursor(cursor, isWholeNumber) ?? -1;
  const page = unwrap(await call.run().readVersions({ path, afterVersion, limit: pageLimit(limit) }));
  if (page.items === "[]" && cursor === undefined) throw new RequestRefused(artifactNotFound(path));
  return jsonAnswer({ versions: new RawJson(page.items), ...pageLinks(call, page.nextVersion) });
}

function isEncodedPath(value: unknown): value is string {
  return typeof value === "string" && decodeURIComponent(value) !== "";
}
