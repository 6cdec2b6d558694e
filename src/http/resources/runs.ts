import { listRuns, type RunCursor, type RunFilter } from "../../directory/runs.ts";
import type { RunDraft } from "../../domain/run.ts";
import { runDraft } from "../../domain/run-draft.ts";
import { isAbsolutePath } from "../../domain/workspace.ts";
import { tenantKey } from "../../identity/tenant.ts";
import { withoutAbsent } from "../../protocol/absent.ts";
import type { BodyOf } from "../../protocol/bodies.ts";
import { issueForId } from "../../protocol/ids.ts";
import { readIfMatch } from "../../protocol/if-match.ts";
import type { Run } from "../../protocol/run.ts";
import { RUN_STATUSES } from "../../protocol/status.ts";
import { exists } from "../../run/run-client.ts";
import type { Created, WholeRun } from "../../run/run-object.ts";
import { refuseBound } from "../bounds.ts";
import { type Call, unwrap } from "../call.ts";
import { type Mutation, mutate, rowHeaders } from "../command.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { digest, type Identified, identify } from "../idempotency.ts";
import { jsonAnswer, jsonText, RawJson } from "../json.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";

/** How many runs a list on `/context` reads from their objects at once. */
const RUNS_READ_AT_ONCE = 16;

/** `POST /context/runs` (contract 02 §2.1). */
export async function createRunContext(call: Call): Promise<HttpAnswer> {
  const { run, rows } = await createRun(call);
  const {
    task_counts: _counts,
    blackboard_revision: _revision,
    log_hash: _hash,
    halt: _halt,
    ...header
  } = run;
  return jsonAnswer({ ok: true, run: { ...header, tasks: [] } }, { headers: rowHeaders(rows) });
}

/** `POST /v1/runs`. */
export async function createRunNative(call: Call): Promise<HttpAnswer> {
  const { run, repeated, rows } = await createRun(call);
  const headers: Record<string, string> = {
    ...rowHeaders(rows),
    location: `/v1/runs/${run.run_id}`,
    etag: `"${run.revision}"`,
  };
  if (repeated) headers["idempotency-replayed"] = "true";
  return jsonAnswer({ run }, { status: 201, headers });
}

async function createRun(call: Call): Promise<Created> {
  const body = await call.body("createRun");
  const { command_id, ...asked } = body;
  const identified = await identify(call, command_id, asked);
  const draft = await draftOf(body, call, identified);
  const command =
    identified === null ? null : { command_id: identified.commandId, fingerprint: identified.fingerprint };
  const run = call.run(draft.run_id);
  await call.requireRoom(() => exists(run));
  return unwrap(await run.create({ tenant: call.tenant, draft, command }));
}

async function draftOf(
  body: BodyOf<"createRun">,
  call: Call,
  identified: Identified | null,
): Promise<RunDraft> {
  const run_id = body.run_id ?? (await generatedId(call, identified));
  const issue = issueForId("run_id", run_id);
  if (issue !== null) refuseIssues("ID_INVALID", [issue]);
  const made = runDraft(body, run_id);
  if (!made.ok) throw new RequestRefused(made.refusal);
  return made.draft;
}

/** A fresh id; for a request with a key always the same one, so that its repeat finds the run it made. */
export async function generatedId(
  call: Call,
  identified: Identified | null,
  purpose: "run" | "fork" = "run",
): Promise<string> {
  if (identified === null) return `run-${crypto.randomUUID()}`;
  const hex = await digest([purpose, tenantKey(call.tenant), identified.commandId]);
  const variant = ((Number.parseInt(hex.charAt(16), 16) & 0x3) | 0x8).toString(16);
  return `run-${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

/** `GET /context/runs`: chosen by the directory, read in full from the runs themselves (contract 02 §2.2). */
export async function listRunsContext(call: Call): Promise<HttpAnswer> {
  const { workspace, run_type, source, limit } = call.query({
    workspace: "string",
    run_type: "string",
    source: "string",
    limit: "uint",
  });
  const rows = await listRuns(
    call.env.DIRECTORY,
    tenantKey(call.tenant),
    { ...filterOf({ workspace, run_type, source }), archived: false },
    null,
    pageLimit(limit),
  );
  const runs: (WholeRun & { run_id: string })[] = [];
  for (let start = 0; start < rows.length; start += RUNS_READ_AT_ONCE) {
    const group = rows.slice(start, start + RUNS_READ_AT_ONCE);
    const read = await Promise.all(group.map(({ run_id }) => readWholeRun(call, run_id)));
    runs.push(...read.filter((run) => run !== null));
  }
  // A run may have moved on since the directory heard of it.
  runs.sort((a, b) => b.updated_at_ms - a.updated_at_ms || (a.run_id < b.run_id ? 1 : -1));
  const pieces = runs.flatMap(({ text }, index) => (index === 0 ? [text] : [",", text]));
  return jsonText(['{"runs":[', ...pieces, "]}"]);
}

async function readWholeRun(call: Call, runId: string): Promise<(WholeRun & { run_id: string }) | null> {
  const read = await call.run(runId).readRun();
  return read.ok ? { ...read.value, run_id: runId } : null;
}

/** `GET /v1/runs`: from the directory alone. */
export async function listRunsNative(call: Call): Promise<HttpAnswer> {
  const { workspace, run_type, source, status, archived, limit, cursor } = call.query({
    workspace: "string",
    run_type: "string",
    source: "string",
    status: "string",
    archived: "bool",
    limit: "uint",
    cursor: "string",
  });
  const runStatus = RUN_STATUSES.find((known) => known === status);
  if (status !== undefined && runStatus === undefined) {
    const message = `status must be one of ${RUN_STATUSES.join(", ")}`;
    refuseIssues("QUERY_INVALID", [{ field: "status", rule: "one_of", message }]);
  }
  const size = pageLimit(limit);
  const filter = { ...filterOf({ workspace, run_type, source }), status: runStatus, archived };
  const after = readCursor(cursor, isRunCursor);
  const rows = await listRuns(call.env.DIRECTORY, tenantKey(call.tenant), filter, after, size + 1);
  const runs = rows.slice(0, size);
  const last = rows.length > size ? runs.at(-1) : undefined;
  const position = last === undefined ? null : { updated_at_ms: last.updated_at_ms, run_id: last.run_id };
  return jsonAnswer({ runs, ...pageLinks(call, position) });
}

/** Blank filters do not filter; a workspace must be an absolute path (contract 02 §2.2, §8). */
function filterOf(query: Pick<RunFilter, "workspace" | "run_type" | "source">): RunFilter {
  const workspace = query.workspace?.trim();
  if (workspace && !isAbsolutePath(workspace)) {
    const message = "workspace must be an absolute path";
    refuseIssues("QUERY_INVALID", [{ field: "workspace", rule: "absolute_path", message }]);
  }
  return {
    workspace: workspace || undefined,
    run_type: query.run_type?.trim() || undefined,
    source: query.source?.trim() || undefined,
  };
}

function isRunCursor(value: unknown): value is RunCursor {
  if (typeof value !== "object" || value === null) return false;
  const { updated_at_ms, run_id } = value as Partial<RunCursor>;
  return isWholeNumber(updated_at_ms) && typeof run_id === "string";
}

/** `GET /context/runs/{run_id}` (contract 02 §2.3). */
export async function getRunContext(call: Call): Promise<HttpAnswer> {
  const { text, audit } = unwrap(await call.run().readAuditedRun());
  return jsonAnswer({ run: new RawJson(text), ...audit });
}

/** `GET /v1/runs/{run_id}`. */
export async function getRunNative(call: Call): Promise<HttpAnswer> {
  const { run, audit } = unwrap(await call.run().readAuditedOverview());
  return jsonAnswer({ run, audit }, { headers: { etag: `"${run.revision}"` } });
}

const replacement: Mutation<"replace_run", "replaceRun"> = {
  body: "replaceRun",
  command: (body, call) => {
    // Tasks of any type and agent can be in it.
    refuseBound(call.principal, "task_types", "agent_id");
    return { op: "replace_run", run: runOf(body, call), expected_revision: expectedRevision(call) };
  },
  asked: ({ command_id: _commandId, ...run }, call) => [run, expectedRevision(call) ?? null],
  echo: "run",
  context: ({ echo }) => ({ ok: true, ...echo }),
  native: ({ outcome }) => ({
    members: { event: outcome.event },
    headers: { etag: `"${outcome.event.revision}"` },
  }),
  represents: ["run"],
};

/** `PUT …/runs/{run_id}` (contract 02 §2.4, 07 D17). */
export const replaceRun = (call: Call) => mutate(replacement, call);

/** The revision that `If-Match` names. @throws RequestRefused `HEADER_INVALID` */
export function expectedRevision(call: Call): number | undefined {
  const read = readIfMatch(call.request.headers.get("if-match"));
  if (!read.ok) refuseIssues("HEADER_INVALID", [read.issue]);
  return read.revision ?? undefined;
}

/** The run of a PUT body. The tenant is not the client's to say (07 D02); the engine sets it and the counters. */
function runOf(body: BodyOf<"replaceRun">, call: Call): Run {
  return withoutAbsent({
    run_id: body.run_id,
    run_type: body.run_type,
    tenant_context: call.tenant,
    source_client: body.source_client,
    model_provider: body.model_provider,
    model_id: body.model_id,
    mcp_servers: body.mcp_servers,
    status: body.status,
    objective: body.objective,
    workspace: body.workspace,
    steps: body.steps,
    why_next_step: body.why_next_step,
    revision: body.revision,
    last_event_seq: body.last_event_seq,
    created_at_ms: body.created_at_ms,
    started_at_ms: body.started_at_ms,
    ended_at_ms: body.ended_at_ms,
    last_error: body.last_error,
    updated_at_ms: body.updated_at_ms,
    source_metadata: body.source_metadata,
    settings: body.settings,
    tasks: body.tasks.map((task) => withoutAbsent(task)),
  });
}
