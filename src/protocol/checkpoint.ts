import type { Blackboard } from "./blackboard.ts";
import type { Run } from "./run.ts";

/** What a checkpoint says of itself on `/context` (contract 01 §4.10). */
export interface ContractCheckpointHead {
  checkpoint_id: string;
  run_id: string;
  /** Of the newest commit that its state has in it. */
  seq: number;
  ts_ms: number;
  reason: string;
}

/** A checkpoint without its content, as `/v1` shows it. */
export interface CheckpointHead extends ContractCheckpointHead {
  /** As its creator named it; absent when nobody did. */
  name?: string;
  /** Whether the engine made it by itself. */
  automatic: boolean;
  /** Digest of the state (domain/state-lines.ts), SHA-256 in lower-case hex; null in those of releases without one. */
  state_sha256: string | null;
  /** Hash of the newest commit that the state has in it; null where the log is not chained. */
  log_hash: string | null;
}

/** A full copy of a run and its blackboard at one position of the log (contract 01 §4.10). */
export interface Checkpoint extends ContractCheckpointHead {
  run_state: Run;
  blackboard: Blackboard;
}
