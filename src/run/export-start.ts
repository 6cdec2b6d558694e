import { EXPORT_VERSION, type ExportHeader } from "../protocol/export-format.ts";
import type { RunState } from "./run-state.ts";
import { stateDigest } from "./state-digest.ts";

/** What an export says of one moment of the run; everything else it reads later, up to that moment. */
export interface ExportStart {
  header: ExportHeader;
  revision: number;
  log_hash: string;
  state_sha256: string;
  /** Pieces of the state the run began with, as text. */
  genesis_parts: number;
  /** What is in an export and no part of the log: two moments that agree in all of it export the same. */
  beside_log: string;
  /** Whether a task is leased. */
  is_leased: boolean;
}

/** Takes stock for an export: all of it in one turn. Reads the whole board. */
export function exportStart(state: RunState): ExportStart {
  const { initial, createdCommand } = state.row;
  const { run } = state.head();
  return {
    header: {
      baton_export: EXPORT_VERSION,
      run_id: run.run_id,
      initial,
      created_command: createdCommand,
      last_event_seq: run.last_event_seq,
    },
    revision: run.revision,
    log_hash: state.logHash(),
    state_sha256: stateDigest(state.texts.stateLines()),
    genesis_parts: state.genesis.parts(),
    beside_log: "",
    is_leased: state.leaseDueAtMs() !== null,
  };
}
