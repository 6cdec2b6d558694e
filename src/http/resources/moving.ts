import { readRetention, writeRetention } from "../../directory/departures.ts";
import { archiveMissing, archiveRun, restoreRun } from "../../moving/archive.ts";
import { artifactBlobs } from "../../moving/blobs.ts";
import { exportText, streamOf } from "../../moving/export.ts";
import { firstLineOf } from "../../moving/first-line.ts";
import { deleteRun } from "../../moving/remove.ts";
import { MAX_EXPORT_LINE_BYTES } from "../../protocol/export-format.ts";
import { issueForId } from "../../protocol/ids.ts";
import { readIfMatch } from "../../protocol/if-match.ts";
import { retentionBody } from "../../protocol/retention.ts";
import type { Arrived } from "../../run/arrival.ts";
import { importInvalid } from "../../run/arrival-fault.ts";
import { exists } from "../../run/run-client.ts";
import { readBody } from "../body.ts";
import { refuseBound } from "../bounds.ts";
import { type Call, unwrap } from "../call.ts";
import { discard } from "../discard.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { identify } from "../idempotency.ts";
import { jsonAnswer } from "../json.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";

const NDJSON = "application/x-ndjson";

/** `GET /v1/runs/{run_id}/export`: the run as it is now, streamed (docs/moving.md). */
export async function exportRun(call: Call): Promise<HttpAnswer> {
  const { artifacts } = call.query({ artifacts: "bool" });
  const run = call.run();
  const start = unwrap(await run.startExport());
  const headers = {
    "content-type": NDJSON,
    "content-disposition": `attachment; filename="${call.id("run_id").replaceAll(":", "_")}.ndjson"`,
    etag: `"${start.revision}"`,
  };
  if (call.request.method === "HEAD") return { status: 200, headers, body: null };
  const blobs = artifactBlobs(call.env, call.tenantKey, call.id("run_id"));
  const pieces = exportText(run, start, { blobs, inline: artifacts ?? false });
  return { status: 200, headers, body: streamOf(pieces) };
}

/** `POST /v1/runs/import`: brings a run back from what an export wrote. */
export async function importRun(call: Call): Promise<HttpAnswer> {
  const query = call.query({ run_id: "string" });
  refuseBound(call.principal, "task_types", "agent_id");
  const type = call.request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
  if (type !== NDJSON && type !== "application/ndjson") {
    await discard(call.request.body);
    throw new RequestRefused({
      code: "CONTENT_TYPE_UNSUPPORTED",
      error: `content type must be ${NDJSON}`,
    });
  }
  const identified = await identify(call, undefined, query.run_id ?? null);
  const first = await firstLineOf(call.request.body, MAX_EXPORT_LINE_BYTES).catch(() => refuseBrokenOff());
  const run_id = query.run_id ?? runIdIn(first.text);
  const issue = issueForId("run_id", run_id);
  if (issue !== null) refuseIssues("ID_INVALID", [issue]);
  const command = identified && {
    command_id: identified.commandId,
    fingerprint: identified.fingerprint,
    ofContent: true,
  };
  const run = call.run(run_id);
  await call.requireRoom(() => exists(run));
  const arrived = await run.arrive(first.stream, { tenant: call.tenant, run_id, command });
  return arrivedAnswer(unwrap(arrived));
}

/** `DELETE /v1/runs/{run_id}`: for good (docs/moving.md). With `If-Match`, only at that revision. */
export async function deleteRunNative(call: Call): Promise<HttpAnswer> {
  const read = readIfMatch(call.request.headers.get("if-match"));
  if (!read.ok) refuseIssues("HEADER_INVALID", [read.issue]);
  unwrap(await deleteRun(call.env, call.tenantKey, call.id("run_id"), read.revision ?? null));
  return { status: 204, headers: {}, body: null };
}

/** `POST /v1/runs/{run_id}/archive`. */
export async function archive(call: Call): Promise<HttpAnswer> {
  const archived = unwrap(await archiveRun(call.env, call.tenantKey, call.id("run_id")));
  const { archived_at_ms, revision, archive } = archived;
  const { sha256, bytes } = archive;
  return jsonAnswer({ run_id: call.id("run_id"), archived_at_ms, revision, archive: { sha256, bytes } });
}

/** `POST /v1/runs/{run_id}/restore`. */
export async function restore(call: Call): Promise<HttpAnswer> {
  const identified = await identify(call, undefined, null);
  const command = identified && { command_id: identified.commandId, fingerprint: identified.fingerprint };
  const restored = await restoreRun(call.env, call.tenant, call.tenantKey, call.id("run_id"), command);
  const { run, repeated, checks } = unwrap(restored);
  const headers: Record<string, string> = { etag: `"${run.revision}"` };
  if (repeated) headers["idempotency-replayed"] = "true";
  return jsonAnswer({ run, checked: checks }, { headers });
}

/** `GET /v1/retention`. */
export async function getRetention(call: Call): Promise<HttpAnswer> {
  return jsonAnswer({ retention: await readRetention(call.env.DIRECTORY, call.tenantKey) });
}

/** `PUT /v1/retention`: replaces what was said before; cron goes by it from its next tick on. */
export async function putRetention(call: Call): Promise<HttpAnswer> {
  const retention = await readBody(call.request, retentionBody(), { mayBeEmpty: false });
  if (retention.archive_after_ms !== null && call.env.ARTIFACTS === undefined) {
    throw new RequestRefused(archiveMissing);
  }
  await writeRetention(call.env.DIRECTORY, call.tenantKey, retention, Date.now());
  return jsonAnswer({ retention });
}

/** The answer to a call that brought a run here. */
export function arrivedAnswer({ run, repeated, checks }: Arrived): HttpAnswer {
  const headers: Record<string, string> = {
    location: `/v1/runs/${run.run_id}`,
    etag: `"${run.revision}"`,
  };
  if (repeated) headers["idempotency-replayed"] = "true";
  return jsonAnswer({ run, checked: checks }, { status: 201, headers });
}

/** What breaks off later is refused where the lines are read. */
function refuseBrokenOff(): never {
  const issue = { field: "line 1", rule: "complete", message: "the stream broke off" };
  throw new RequestRefused(importInvalid([issue]));
}

function runIdIn(line: string | null): string {
  try {
    const { run_id } = JSON.parse(line ?? "") as { run_id?: unknown };
    if (typeof run_id === "string") return run_id;
  } catch {
    // Said below: a line that is no JSON names no run either.
  }
  throw new RequestRefused(
    importInvalid([
      { field: "line 1: run_id", rule: "required", message: "names no run; say it as ?run_id=" },
    ]),
  );
}
