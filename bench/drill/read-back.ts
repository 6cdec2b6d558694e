import { setTimeout as sleep } from "node:timers/promises";
import type { AuditInput } from "./audit.ts";
import { listAt, numberAt, objectAt, stringAt } from "./fields.ts";
import type { Reader } from "./reader.ts";
import { type RunView, toAuditEvent, toAuditPatch, toAuditTask, toReplayView, toRunView } from "./records.ts";

/** The directory follows a run within about a second; this much is waited for, in milliseconds. */
const directoryPatienceMs = 15_000;

/** What the server tells of a run. */
export type ReadBack = Pick<
  AuditInput,
  "events" | "patches" | "tasks" | "facts" | "blackboardRevision" | "run" | "directoryRow" | "replays"
>;

/**
 * Reads a run back. Nothing is written any more, so the views must agree to the last digit. Throws an Error when the server
 * cannot be read, or refuses to be.
 */
export async function readBack(reader: Reader, runId: string): Promise<ReadBack> {
  const path = `/v1/runs/${runId}`;
  const events = await reader.rows(`${path}/events`, "events", toAuditEvent);
  const patches = await reader.rows(`${path}/blackboard/patches`, "patches", toAuditPatch);
  const tasks = await reader.rows(`${path}/tasks`, "tasks", toAuditTask);
  const blackboard = objectAt(await reader.get(`${path}/blackboard`), "blackboard");
  const run = toRunView(objectAt(await reader.get(path), "run"));
  const replays = [
    toReplayView(await reader.get(`${path}/replay?from_checkpoint=false`)),
    toReplayView(await reader.get(`${path}/replay?from_checkpoint=true`)),
  ];
  return {
    events,
    patches,
    tasks,
    facts: listAt(blackboard, "facts").map((fact) => stringAt(fact, "id") ?? ""),
    blackboardRevision: numberAt(blackboard, "revision") ?? 0,
    run,
    directoryRow: await directoryRow(reader, run),
    replays,
  };
}

/** Waits for the row to catch up with the run; gives the row as it is when it does not. */
async function directoryRow(reader: Reader, run: RunView): Promise<RunView | undefined> {
  const deadlineMs = performance.now() + directoryPatienceMs;
  const path = `/v1/runs?workspace=${encodeURIComponent(run.workspace)}`;
  for (;;) {
    const rows = await reader.rows(path, "runs", toRunView);
    const row = rows.find((candidate) => candidate.run_id === run.run_id);
    if (row?.last_event_seq === run.last_event_seq || performance.now() > deadlineMs) return row;
    await sleep(250);
  }
}
