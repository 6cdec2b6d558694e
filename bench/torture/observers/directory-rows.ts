import { isDeepStrictEqual } from "node:util";
import { type JsonObject, objectAt, stringAt } from "../../drill/fields.ts";
import type { Violation } from "./observer.ts";

/** What a list shows of a run, and the run itself as well. */
const members = [
  "run_type",
  "source_client",
  "workspace",
  "status",
  "objective",
  "revision",
  "last_event_seq",
  "created_at_ms",
  "updated_at_ms",
  "task_counts",
] as const;

/**
 * Compares the list of runs with the runs.
 *
 * @param rows of all pages. @param runs that were made, as they show themselves; undefined for one that is not found.
 */
export function checkDirectoryRows(
  rows: readonly unknown[],
  runs: ReadonlyMap<string, JsonObject | undefined>,
): Violation[] {
  const violations: Violation[] = [];
  const listed = new Map<string, unknown>();
  for (const row of rows) {
    const run_id = stringAt(row, "run_id") ?? "";
    if (listed.has(run_id)) violations.push({ rule: "listed_twice", detail: "has two rows", run_id });
    listed.set(run_id, row);
    if (!runs.has(run_id))
      violations.push({ rule: "foreign", detail: "a row of a run that nobody made", run_id });
  }
  for (const [run_id, run] of runs) {
    const row = listed.get(run_id);
    if (run === undefined) violations.push({ rule: "lost", detail: "the run is not found", run_id });
    if (row === undefined) violations.push({ rule: "missing", detail: "no row", run_id });
    if (run === undefined || row === undefined) continue;
    for (const member of members) {
      const [ofRow, ofRun] = [(row as JsonObject)[member] ?? null, run[member] ?? null];
      if (isDeepStrictEqual(ofRow, ofRun)) continue;
      const detail = `${member} is ${JSON.stringify(ofRow)} in the list, ${JSON.stringify(ofRun)} in the run`;
      violations.push({ rule: "differs", detail, run_id });
    }
  }
  return violations;
}

/** The run in the answer of `GET /v1/runs/{id}`. */
export function runOf(answer: unknown): JsonObject | undefined {
  return objectAt(answer, "run");
}
