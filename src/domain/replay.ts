import type { Checkpoint } from "../protocol/checkpoint.ts";
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
