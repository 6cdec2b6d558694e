import { type Drift, driftBetween, NOT_COMPARED, type Sides } from "../domain/drift.ts";
import { newHead } from "../domain/head.ts";
import { MemoryRun } from "../domain/memory.ts";
import { fromCheckpoint } from "../domain/replay.ts";
import type { Blackboard } from "../protocol/blackboard.ts";
import type { Checkpoint } from "../protocol/checkpoint.ts";
import type { Run } from "../protocol/run.ts";
import type { LogReader } from "./log-reader.ts";
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

interface ReplayedRun {
  run: MemoryRun;
  checkpointSeq: number | null;
  eventsApplied: number;
  patchesApplied: number;
  uptoSeq: number;
}

/**
 * Recomputes a run from its log and compares it with what is stored. Reads the whole log, page by page, while the run goes
 * on; changes nothing.
 * @returns the members of the report as JSON text without braces, in pieces: the states of a large run do not fit into one message.
 * @throws LogDamaged
 */
export async function replayReport(
  state: RunState,
  log: LogReader,
  query: ReplayQuery,
): Promise<Generator<string>> {
  const bound = query.uptoSeq ?? Number.MAX_SAFE_INTEGER;
  const checkpoint = query.fromCheckpoint ? readCheckpoint(state.checkpoints, bound) : null;
  const run = checkpoint === null ? new MemoryRun(newHead(state.row.initial)) : fromCheckpoint(checkpoint);
  const checkpointSeq = checkpoint?.seq ?? null;
  let [eventsApplied, patchesApplied] = [0, 0];
  let seq = checkpointSeq ?? 0;
  // What is committed meanwhile belongs to it: what is compared must be of the turn in which nothing is left.
  for (let end = 0; ; seq = end) {
    end = Math.min(bound, state.lastSeq());
    if (end <= seq) break;
    for await (const commit of log.commits(seq, end)) {
      run.apply(commit);
      eventsApplied += 1;
      if (commit.patch !== null) patchesApplied += 1;
    }
  }
  return reportOf(state, query, { run, checkpointSeq, eventsApplied, patchesApplied, uptoSeq: seq });
}

function reportOf(state: RunState, query: ReplayQuery, replayed: ReplayedRun): Generator<string> {
  const { run, checkpointSeq, eventsApplied, patchesApplied, uptoSeq } = replayed;
  const replayedSides: Sides = { run: run.run(), blackboard: run.blackboard() };
  const storedSides: Sides = {
    run: JSON.parse(joined(state.texts.run())) as Run,
    blackboard: JSON.parse(joined(state.texts.blackboard())) as Blackboard,
  };
  const report: ReplayReport = {
    run_id: state.head().run.run_id,
    from_checkpoint: checkpointSeq !== null,
    checkpoint_seq: checkpointSeq,
    events_applied: eventsApplied,
    blackboard_patches_applied: patchesApplied,
    drift:
      uptoSeq >= state.lastSeq()
        ? driftBetween(replayedSides, storedSides, state.isIndexSound())
        : NOT_COMPARED,
  };
  return pieces();

  function* pieces(): Generator<string> {
    yield JSON.stringify(report).slice(1, -1);
    if (!query.withStates) return;
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
