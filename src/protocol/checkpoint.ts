import type { Blackboard } from "./blackboard.ts";
import type { Run } from "./run.ts";

/** A full copy of a run and its blackboard at one position of the log (contract 01 §4.10). */
export interface Checkpoint {
  checkpoint_id: string;
  run_id: string;
  seq: number;
  ts_ms: number;
  reason: string;
  run_state: Run;
  blackboard: Blackboard;
}
