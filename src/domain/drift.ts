import type { Blackboard } from "../protocol/blackboard.ts";
import type { Run } from "../protocol/run.ts";

/** Where a replay and the stored run disagree (contract 06 §3.4; the last four members are Baton's own). */
export interface Drift {
  mismatch: boolean;
  status_mismatch: boolean;
  why_next_step_mismatch: boolean;
  step_count_mismatch: boolean;
  blackboard_revision_mismatch: boolean;
  blackboard_task_count_mismatch: boolean;
  blackboard_task_status_mismatch: boolean;
  revision_mismatch: boolean;
  /** Any other difference in what is stored: titles, payloads, notes, times, … */
  content_mismatch: boolean;
  /** What claims are decided by (columns, edges, counters) does not follow from the stored tasks. */
  index_mismatch: boolean;
  /** False when the replay stopped before the end of the log: then nothing was compared. */
  compared: boolean;
}

export const NOT_COMPARED: Drift = {
  mismatch: false,
  status_mismatch: false,
  why_next_step_mismatch: false,
  step_count_mismatch: false,
  blackboard_revision_mismatch: false,
  blackboard_task_count_mismatch: false,
  blackboard_task_status_mismatch: false,
  revision_mismatch: false,
  content_mismatch: false,
  index_mismatch: false,
  compared: false,
};

/** A run with its blackboard, as one side of the comparison. */
export interface Sides {
  run: Run;
  blackboard: Blackboard;
}

/**
 * Compares what the log says with what is stored. A healthy run never drifts.
 * @param isIndexSound whether the stored indexes follow from the stored tasks.
 */
export function driftBetween(replayed: Sides, stored: Sides, isIndexSound: boolean): Drift {
  const replayedStatus = new Map(replayed.blackboard.tasks.map((task) => [task.id, task.status]));
  const flags = {
    status_mismatch: replayed.run.status !== stored.run.status,
    why_next_step_mismatch: replayed.run.why_next_step !== stored.run.why_next_step,
    step_count_mismatch: replayed.run.steps.length !== stored.run.steps.length,
    blackboard_revision_mismatch: replayed.blackboard.revision !== stored.blackboard.revision,
    blackboard_task_count_mismatch: replayed.blackboard.tasks.length !== stored.blackboard.tasks.length,
    blackboard_task_status_mismatch: stored.blackboard.tasks.some(
      (task) => replayedStatus.get(task.id) !== task.status,
    ),
    revision_mismatch: replayed.run.revision !== stored.run.revision,
    content_mismatch: !isSameJson(replayed, stored),
    index_mismatch: !isIndexSound,
  };
  return { mismatch: Object.values(flags).some(Boolean), ...flags, compared: true };
}

/** Whether two JSON values are equal, whatever order members were written in. */
function isSameJson(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const names = Object.keys(a);
  if (names.length !== Object.keys(b).length) return false;
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  return names.every((name) => Object.hasOwn(right, name) && isSameJson(left[name], right[name]));
}
