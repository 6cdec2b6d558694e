import type { Commit } from "../domain/commit.ts";
import { type Drift, driftBetween, NOT_COMPARED, type Sides } from "../domain/drift.ts";
import { newHead } from "../domain/head.ts";
import { MemoryRun } from "../domain/memory.ts";
import { fromCheckpoint, replay } from "../domain/replay.ts";
import type { Blackboard } from "../protocol/blackboard.ts";
import type { Checkpoint } from "../protocol/checkpoint.ts";
import type { Run } from "../protocol/run.ts";
import type { RunState } from "./run-state.ts";
import type { CheckpointTable } from "./storage/checkpoints.ts";

export interface ReplayQuery {
  /** Replay up to this seq; null for the end of the log. */
  uptoSeq: number | null;
  /** Start from the newest checkpoint that is not newer than `uptoSeq`, if there is one. */
  fromCheckpoint: boolean;
}

/** A replay and what it found (contract 06 §3.4). */
export interface ReplayReport {
  run_id: string;
  from_checkpoint: boolean;
  checkpoint_seq: number | null;
  upto_seq: number;
  events_applied: number;
  blackboard_patches_applied: number;
  replay: Run;
  replay_blackboard: Blackboard;
  persisted: Run;
  persisted_blackboard: Blackboard;
  drift: Drift;
}

/** Recomputes a run from its log and compares it with what is stored. Reads the whole log; changes nothing. */
export function replayReport(state: RunState, query: ReplayQuery): ReplayReport {
  const lastSeq = state.commits.lastSeq();
  const uptoSeq = Math.min(query.uptoSeq ?? lastSeq, lastSeq);
  const checkpoint = query.fromCheckpoint ? readCheckpoint(state.checkpoints, uptoSeq) : null;
  const base = checkpoint === null ? new MemoryRun(newHead(state.row.initial)) : fromCheckpoint(checkpoint);
  const commits: Iterable<Commit> = state.commits.range(checkpoint?.seq ?? 0, uptoSeq);
  const { state: replayed, eventsApplied, patchesApplied } = replay(base, commits);

  const replayedSides: Sides = { run: replayed.run(), blackboard: replayed.blackboard() };
  const storedSides: Sides = {
    run: JSON.parse([...state.texts.run()].join("")) as Run,
    blackboard: JSON.parse([...state.texts.blackboard()].join("")) as Blackboard,
  };
  return {
    run_id: state.head().run.run_id,
    from_checkpoint: checkpoint !== null,
    checkpoint_seq: checkpoint?.seq ?? null,
    upto_seq: uptoSeq,
    events_applied: eventsApplied,
    blackboard_patches_applied: patchesApplied,
    replay: replayedSides.run,
    replay_blackboard: replayedSides.blackboard,
    persisted: storedSides.run,
    persisted_blackboard: storedSides.blackboard,
    drift: uptoSeq === lastSeq ? driftBetween(replayedSides, storedSides) : NOT_COMPARED,
  };
}

function readCheckpoint(checkpoints: CheckpointTable, uptoSeq: number): Checkpoint | null {
  const head = checkpoints.latest(uptoSeq);
  return head === null ? null : (JSON.parse([...checkpoints.text(head)].join("")) as Checkpoint);
}
