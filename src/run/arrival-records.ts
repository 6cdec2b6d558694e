import type { Commit } from "../domain/commit.ts";
import type { RunHead } from "../domain/head.ts";
import { stateLines } from "../domain/state-lines.ts";
import type { ExportLine } from "../protocol/export-format.ts";
import type { RunHeader } from "../protocol/run.ts";
import { payloadShapeOf } from "./arrival-checks.ts";
import type { LogRow } from "./chain.ts";

/** The texts of a row, as they are stored. */
export function rowOf(row: NonNullable<ExportLine["commit"]>, { event, patch }: Commit): LogRow {
  return {
    seq: row.seq,
    prev_hash: row.prev_hash,
    command_id: row.command_id,
    receipt: row.receipt === null ? null : JSON.stringify(row.receipt),
    event: JSON.stringify(event),
    patch: patch === null ? null : JSON.stringify(patch),
  };
}

/** The commit as one of the run under its new id. What clients wrote stays as it is. */
export function renamed({ event, patch }: Commit, { run_id, tenant_context }: RunHeader): Commit {
  const own = { ...event, run_id };
  if (payloadShapeOf(event) === "run") {
    const payload = event.payload as { run: RunHeader };
    own.payload = { ...payload, run: { ...payload.run, run_id, tenant_context } };
  }
  return { event: own, patch: patch === null ? null : { ...patch, run_id } };
}

/** The first line of a state, which says everything but tasks, notes and files. */
export function headLine(head: RunHead): string {
  const none = { facts: [], decisions: [], open_questions: [], artifacts: [] };
  return stateLines({ head, tasks: [], lists: none, files: [] }).next().value ?? "";
}
