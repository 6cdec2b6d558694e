import type { Checkpoint } from "../protocol/checkpoint.ts";
import type { Commit } from "./commit.ts";
import { newHead, type RunHead } from "./head.ts";
import { MemoryRun } from "./memory.ts";

/**
 * The state that a checkpoint holds, as a start for replay. The last workspace mismatch is not part of it: that only
 * matters for commands to come, and a replay decides none.
 */
export function fromCheckpoint(checkpoint: Checkpoint): MemoryRun {
  const { tasks, ...run } = checkpoint.run_state;
  const { blackboard } = checkpoint;
  const head: RunHead = {
    ...newHead(run),
    blackboard_revision: blackboard.revision,
    summaries: blackboard.summaries,
  };
  return new MemoryRun(head, tasks, blackboard);
}

/** How far a replay got. */
export interface Replayed {
  state: MemoryRun;
  eventsApplied: number;
  patchesApplied: number;
}

/** Applies commits, ascending by seq, by the rules of the live engine (contract 06 §3.5, resolution). */
export function replay(base: MemoryRun, commits: Iterable<Commit>): Replayed {
  let eventsApplied = 0;
  let patchesApplied = 0;
  for (const commit of commits) {
    base.apply(commit);
    eventsApplied += 1;
    if (commit.patch !== null) patchesApplied += 1;
  }
  return { state: base, eventsApplied, patchesApplied };
}
