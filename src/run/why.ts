import { type Surroundings, type Wait, waitsFor } from "../domain/why.ts";
import { MAX_WAITS_TOLD } from "../protocol/limits.ts";
import type { Task } from "../protocol/task.ts";
import { jsonArray, MAX_TASKS_SCANNED, type TaskPage } from "./reads.ts";
import type { RunState } from "./run-state.ts";
import { toText } from "./text.ts";

/** Why a task is not given out. */
export interface Why {
  task_id: string;
  /** Whether a claim of `/v1` can take it now. */
  claimable: boolean;
  waits_for: Wait[];
}

/** Which tasks to list, from after a position. */
export interface ReadinessQuery {
  /** Those that a claim can take now; or those that are not over, and that none can take. */
  ready: boolean;
  afterPos: number;
  limit: number;
}

export function readWhy(state: RunState, id: string, nowMs: number): Why | null {
  const task = state.task(id);
  if (task === null) return null;
  const waits_for = waitsFor(task, surroundings(state), nowMs);
  return { task_id: id, claimable: waits_for.length === 0, waits_for };
}

/** Tasks that are ready, or not, in list order, each with what it waits for. */
export function readByReadiness(
  state: RunState,
  { ready, afterPos, limit }: ReadinessQuery,
  nowMs: number,
): TaskPage {
  const around = surroundings(state);
  const { rows, isCut } = state.tasks.page(afterPos, MAX_TASKS_SCANNED);
  const items: string[] = [];
  let pos = afterPos;
  for (const row of rows) {
    if (items.length === limit) return { items: toText(jsonArray(items)), nextPos: pos };
    pos = row.pos;
    if (row.status === "done" || row.status === "failed") continue;
    const waits = waitsFor(JSON.parse(row.doc) as Task, around, nowMs);
    if ((waits.length === 0) !== ready) continue;
    items.push(`${row.doc.slice(0, -1)},"waits_for":${JSON.stringify(waits)}}`);
  }
  const mayGoOn = isCut || rows.length === MAX_TASKS_SCANNED;
  return { items: toText(jsonArray(items)), nextPos: mayGoOn ? pos : null };
}

/** Of this moment. Many tasks of a page may share a key, whose holders' documents may be long: they are read once. */
function surroundings(state: RunState): Surroundings {
  const holders = new Map<string, Task[]>();
  return {
    runStatus: state.head().run.status,
    openDependencies: (task) => state.tasks.openDependencies(task, MAX_WAITS_TOLD),
    placesOf: (key) => ({ limit: state.limitOf(key), busy: state.tasks.busy(key) }),
    holdersOf: (key) => {
      const read = holders.get(key) ?? state.tasks.holders(key, MAX_WAITS_TOLD);
      holders.set(key, read);
      return read;
    },
  };
}
