import type { Commit } from "../domain/commit.ts";
import { type Drift, driftBetween, NOT_COMPARED, type Sides } from "../domain/drift.ts";
import { newHead } from "../domain/head.ts";
import { MemoryRun } from "../domain/memory.ts";
import { fromCheckpoint, replay } from "../domain/replay.ts";
import type { Blackboard } from "../protocol/blackboard.ts";
import type { Checkpoint } from "../protocol/checkpoint.ts";
import type { Run } from "../protocol/run.ts";
import type { RunState } from "./run-state.ts";
import { joined } from "./run-texts.ts";
import type { CheckpointTable } from "./storage/checkpoints.ts";

export interface ReplayQuery {
  /** Replay up to this seq; null for the end of the log. */
  uptoSeq: number | null;
  /** Start from the newest checkpoint that is not newer than `uptoSeq`, if there is one. */
  fromCheckpoint: boolean;
  /** Whether the report shows the replayed and the stored state, or only where they differ. */
  withStates: boolean;
}

/** What a replay found (contract 06 §3.4). */
interface ReplayReport {
  run_id: string;
  from_checkpoint: boolean;
  checkpoint_seq: number | null;
  events_applied: number;
  blackboard_patches_applied: number;
  drift: Drift;
}

/**
 * Recomputes a run from its log and compares it with what is stored. Reads the whole log; changes nothing.
 * @returns the members of the report as JSON text without braces, in pieces: the states of a large run do not fit into one message.
 */
export function* replayReport(state: RunState, query: ReplayQuery): Generator<string> {
  const lastSeq = state.commits.lastSeq();
  const uptoSeq = Math.min(query.uptoSeq ?? lastSeq, lastSeq);
  const checkpoint = query.fromCheckpoint ? readCheckpoint(state.checkpoints, uptoSeq) : null;
  const base = checkpoint === null ? new MemoryRun(newHead(state.row.initial)) : fromCheckpoint(checkpoint);
  const commits: Iterable<Commit> = state.commits.range(checkpoint?.seq ?? 0, uptoSeq);
  const { state: replayed, eventsApplied, patchesApplied } = replay(base, commits);

  const replayedSides: Sides = { run: replayed.run(), blackboard: replayed.blackboard() };
  const storedSides: Sides = {
    run: JSON.parse(joined(state.texts.run())) as Run,
    blackboard: JSON.parse(joined(state.texts.blackboard())) as Blackboard,
  };
  const report: ReplayReport = {
    run_id: state.head().run.run_id,
    from_checkpoint: checkpoint !== null,
    checkpoint_seq: checkpoint?.seq ?? null,
    events_applied: eventsApplied,
    blackboard_patches_applied: patchesApplied,
    drift:
      uptoSeq === lastSeq ? driftBetween(replayedSides, storedSides, state.isIndexSound()) : NOT_COMPARED,
  };
  yield JSON.stringify(report).slice(1, -1);
  if (query.withStates) {
    yield `,"replay":${JSON.stringify(replayedSides.run)}`;
    yield `,"replay_blackboard":${JSON.stringify(replayedSides.blackboard)}`;
    yield `,"persisted":${JSON.stringify(storedSides.run)}`;
    yield `,"persisted_blackboard":${JSON.stringify(storedSides.blackboard)}`;
  }
}

function readCheckpoint(checkpoints: CheckpointTable, uptoSeq: number): Checkpoint | null {
  const head = checkpoints.latest(uptoSeq);
  return head === null ? null : (JSON.parse(joined(checkpoints.text(head))) as Checkpoint);
}
