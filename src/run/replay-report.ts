import { type Drift, driftBetween, NOT_COMPARED, type Sides } from "../domain/drift.ts";
import type { MemoryRun } from "../domain/memory.ts";
import { memoryStateLines, readStateLines } from "../domain/state-lines.ts";
import type { Blackboard } from "../protocol/blackboard.ts";
import type { Run } from "../protocol/run.ts";
import { openContent, readSoundContent } from "./checkpoint-content.ts";
import type { CheckpointKeeper } from "./checkpoint-keeper.ts";
import { beginningLines } from "./history-reads.ts";
import type { LogReader } from "./log-reader.ts";
import type { RunState } from "./run-state.ts";
import { joined } from "./run-texts.ts";
import { stateDigest } from "./state-digest.ts";

export interface ReplayQuery {
  /** Replay up to this seq; null for the end of the log. */
  uptoSeq: number | null;
  /** Start from the newest checkpoint that is not newer than `uptoSeq`, if there is one. */
  fromCheckpoint: boolean;
  /** Whether the report shows the replayed and the stored state, or only where they differ. */
  withStates: boolean;
  /** Whether the report tells the digests of both states; the contract's has no place for them. */
  withDigests: boolean;
}

/** What a replay found (contract 06 §3.4; the digests are Baton's own). */
interface ReplayReport {
  run_id: string;
  from_checkpoint: boolean;
  checkpoint_seq: number | null;
  events_applied: number;
  blackboard_patches_applied: number;
  /** Null after a checkpoint of an older release, which does not hold the whole state. */
  replay_state_sha256?: string | null;
  persisted_state_sha256?: string | null;
  drift: Drift;
}

/** The parts of a run that a replay reads. */
export interface ReplaySource {
  state: RunState;
  log: LogReader;
  checkpoints: CheckpointKeeper;
  bucket: R2Bucket | null;
}

/**
 * Recomputes a run from its log and compares it with what is stored. Reads the whole log; changes nothing.
 * @returns the members of the report as JSON text without braces, in pieces: the states of a large run do not fit into one message.
 * @throws LogDamaged
 */
export async function replayReport(source: ReplaySource, query: ReplayQuery): Promise<Generator<string>> {
  const { state, log } = source;
  const bound = query.uptoSeq ?? Number.MAX_SAFE_INTEGER;
  let lastSeq = state.lastSeq();
  const start = await startOf(source, query.fromCheckpoint ? Math.min(bound, lastSeq) : -1);
  const { run: replayed } = start;
  let eventsApplied = 0;
  let patchesApplied = 0;
  for (let seq = start.checkpointSeq ?? 0, end = Math.min(bound, lastSeq); ; ) {
    for await (const commit of log.commits(seq, end)) {
      replayed.apply(commit);
      eventsApplied += 1;
      if (commit.patch !== null) patchesApplied += 1;
    }
    // What was committed meanwhile belongs to it: the run is compared in the turn in which nothing is left.
    lastSeq = state.lastSeq();
    seq = end;
    end = Math.min(bound, lastSeq);
    if (end <= seq) break;
  }

  const replayedSides: Sides = {
    run: replayed.run(),
    blackboard: replayed.blackboard(),
    state_sha256: start.isWhole ? stateDigest(memoryStateLines(replayed)) : null,
    // A checkpoint has it as the release that made it read the log.
    audit: start.checkpointSeq === null ? replayed.head().audit : null,
  };
  const storedSides: Sides = {
    run: JSON.parse(joined(state.texts.run())) as Run,
    blackboard: JSON.parse(joined(state.texts.blackboard())) as Blackboard,
    state_sha256: stateDigest(state.texts.stateLines()),
    audit: state.head().audit,
  };
  const report: ReplayReport = {
    run_id: state.head().run.run_id,
    from_checkpoint: start.checkpointSeq !== null,
    checkpoint_seq: start.checkpointSeq,
    events_applied: eventsApplied,
    blackboard_patches_applied: patchesApplied,
    ...(query.withDigests && {
      replay_state_sha256: replayedSides.state_sha256,
      persisted_state_sha256: storedSides.state_sha256,
    }),
    drift: bound >= lastSeq ? driftBetween(replayedSides, storedSides, state.isIndexSound()) : NOT_COMPARED,
  };
  return written(report, query.withStates ? { replayedSides, storedSides } : null);
}

function* written(
  report: ReplayReport,
  states: { replayedSides: Sides; storedSides: Sides } | null,
): Generator<string> {
  yield JSON.stringify(report).slice(1, -1);
  if (states === null) return;
  yield `,"replay":${JSON.stringify(states.replayedSides.run)}`;
  yield `,"replay_blackboard":${JSON.stringify(states.replayedSides.blackboard)}`;
  yield `,"persisted":${JSON.stringify(states.storedSides.run)}`;
  yield `,"persisted_blackboard":${JSON.stringify(states.storedSides.blackboard)}`;
}

/** Where a replay starts: the newest checkpoint at or before a seq that can be read, else the run's beginning. */
async function startOf(
  { state, checkpoints, bucket }: ReplaySource,
  uptoSeq: number,
): Promise<{ run: MemoryRun; checkpointSeq: number | null; isWhole: boolean }> {
  for (let upto = uptoSeq; ; ) {
    const found = state.checkpoints.latest(upto);
    if (found === null) break;
    const { head, content } = checkpoints.whole(found);
    const lines = await openContent(content, bucket);
    // What can be read is taken as it is, whatever its digest: damage is drift.
    const run = lines === null ? null : await readSoundContent(lines, null);
    if (run !== null) return { run, checkpointSeq: head.seq, isWhole: head.state_sha256 !== null };
    upto = head.seq - 1;
  }
  return { run: readStateLines(beginningLines(state)), checkpointSeq: null, isWhole: true };
}
