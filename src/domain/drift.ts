import type { Blackboard } from "../protocol/blackboard.ts";
import type { Run } from "../protocol/run.ts";
import type { Audit } from "./audit.ts";
import { isSameJson } from "./json-same.ts";

/** Where a replay and the stored run disagree (contract 06 §3.4; the last five members are Baton's own). */
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
  /** There when the digests of the two states differ, which are of more than the views show: the artifact space, too. */
  state_mismatch?: true;
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
  /** Digest of the whole state (state-lines.ts); null where it cannot be known. */
  state_sha256: string | null;
  /** What the log comes to for an audit, which that digest is not of; null where it cannot be known. */
  audit: Audit | null;
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
    content_mismatch:
      !isSameJson(replayed.run, stored.run) || !isSameJson(replayed.blackboard, stored.blackboard),
    index_mismatch: !isIndexSound,
  };
  const { state_sha256 } = replayed;
  const isOtherState =
    (state_sha256 !== null && state_sha256 !== (stored.state_sha256 ?? state_sha256)) ||
    (replayed.audit !== null && !isSameJson(replayed.audit, stored.audit ?? replayed.audit));
  return {
    mismatch: isOtherState || Object.values(flags).some(Boolean),
    ...flags,
    ...(isOtherState && { state_mismatch: true }),
    compared: true,
  };
}
