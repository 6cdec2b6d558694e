import { type ForkDraft, forkOf } from "../../domain/fork.ts";
import { jsonTooLarge } from "../../domain/json-size.ts";
import { diffText, stateText } from "../../history/answers.ts";
import { diffBetween } from "../../history/diff-between.ts";
import { forkStream } from "../../history/fork-lines.ts";
import { digestOf, stateAt } from "../../history/state-at.ts";
import { issueForId } from "../../protocol/ids.ts";
import { MAX_NEW_RUN_BYTES, MAX_RUN_HEADER_BYTES } from "../../protocol/limits.ts";
import type { QueryValues } from "../../protocol/query.ts";
import { exists } from "../../run/run-client.ts";
import { toText } from "../../run/text.ts";
import { refuseBound } from "../bounds.ts";
import { type Call, unwrap } from "../call.ts";
import { historyOf } from "../history-source.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { identify } from "../idempotency.ts";
import { jsonAnswer, jsonText } from "../json.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";
import { generatedId } from "./runs.ts";

/** `GET /v1/…/state`: the run as it was at `at_seq`; as it is, without. */
export async function getState(call: Call): Promise<HttpAnswer> {
  const { at_seq } = call.query({ at_seq: "uint" });
  const found = unwrap(await stateAt(historyOf(call), at_seq ?? null));
  return jsonText([toText(stateText(found))]);
}

/** `GET /v1/…/diff`: what changed from one seq to another; `from` may be the later one. */
export async function getDiff(call: Call): Promise<HttpAnswer> {
  const query = call.query({ from: "uint", to: "uint" });
  const { from, to, diff } = unwrap(
    await diffBetween(historyOf(call), required(query, "from"), required(query, "to")),
  );
  return jsonText([toText(diffText(from, to, diff))]);
}

function required(query: QueryValues<{ from: "uint"; to: "uint" }>, field: "from" | "to"): number {
  const seq = query[field];
  if (seq === undefined) {
    refuseIssues("QUERY_INVALID", [{ field, rule: "required", message: `${field} must be given` }]);
  }
  return seq;
}

/** `POST /v1/…/fork`: a new run that begins with the state of this one at a seq. */
export async function forkRun(call: Call): Promise<HttpAnswer> {
  // Its tasks are made once more, whatever their types.
  refuseBound(call.principal, "task_types");
  const { command_id, ...asked } = await call.body("forkRun");
  const identified = await identify(call, command_id, [call.id("run_id"), asked]);
  const run_id = asked.run_id ?? (await generatedId(call, identified, "fork"));
  const issue = issueForId("run_id", run_id);
  if (issue !== null) refuseIssues("ID_INVALID", [issue]);
  const tooLarge = jsonTooLarge("new_run_bytes", asked, MAX_NEW_RUN_BYTES);
  if (tooLarge !== null) throw new RequestRefused(tooLarge);

  const command =
    identified === null ? null : { command_id: identified.commandId, fingerprint: identified.fingerprint };
  const request = { tenant: call.tenant, run_id, command, inTurn: true };
  const fork = call.run(run_id);
  await call.requireRoom(() => exists(fork));
  // What is there already is told without reading the past: a repeat, or another run.
  const isTaken = (await fork.readOverview()).ok;
  const lines = isTaken ? nothing() : await forkedLines(call, { ...asked, run_id });
  const { run, repeated } = unwrap(await fork.arrive(lines, request));
  const headers: Record<string, string> = { location: `/v1/runs/${run_id}`, etag: `"${run.revision}"` };
  if (repeated) headers["idempotency-replayed"] = "true";
  return jsonAnswer({ run }, { status: 201, headers });
}

async function forkedLines(
  call: Call,
  { run_id, objective, at_seq }: Pick<ForkDraft, "run_id" | "objective"> & { at_seq?: number | undefined },
): Promise<ReadableStream<Uint8Array>> {
  const at = unwrap(await stateAt(historyOf(call), at_seq ?? null));
  const origin = { run_id: call.id("run_id"), seq: at.seq, state_sha256: digestOf(at) };
  const fork = forkOf(at.state, { run_id, objective, origin, nowMs: Date.now() });
  const tooLarge = jsonTooLarge("run_header_bytes", fork.head().run, MAX_RUN_HEADER_BYTES);
  if (tooLarge !== null) throw new RequestRefused(tooLarge);
  return forkStream(fork);
}

function nothing(): ReadableStream<Uint8Array> {
  return new ReadableStream({ type: "bytes", start: (controller) => controller.close() });
}
