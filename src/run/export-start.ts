import { createHash } from "node:crypto";
import type { Refusal } from "../domain/refusals.ts";
import { EXPORT_VERSION, type ExportHeader } from "../protocol/export-format.ts";
import type { RunState } from "./run-state.ts";
import { stateDigest } from "./state-digest.ts";
import type { CheckpointTable, ExtraList } from "./storage/checkpoints.ts";
import type { ArchiveRef } from "./tombstone.ts";

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
    beside_log: besideLog(state.checkpoints),
    is_leased: state.tasks.leased().length > 0,
  };
}

/** A page of what an export tells beside the log. */
export interface ExtrasQuery {
  list: ExtraList;
  after: string | number;
}

export const EXTRAS_PAGE = 500;

/** Digest of what an export tells beside the log. */
function besideLog(checkpoints: CheckpointTable): string {
  const hash = createHash("sha256");
  for (const [list, first] of [
    ["heads", -1],
    ["names", ""],
    ["calls", ""],
    ["moves", ""],
  ] as const) {
    for (let after: string | number | undefined = first; after !== undefined; ) {
      const page = checkpoints.extras(list, after, EXTRAS_PAGE);
      for (const { line } of page) hash.update(`${line}\n`);
      after = page.at(-1)?.key;
    }
  }
  return hash.digest("hex");
}

/** An export that has become an archive. */
export interface ArchivedExport extends ExportStart {
  archive: ArchiveRef;
}

/** Why a run cannot be left to an archive: it is no longer what was exported, or about to be more. Null when it is. */
export function refusalToArchive(
  now: ExportStart,
  exported: ExportStart,
  isCheckpointing: boolean,
): Refusal | null {
  const isSame =
    now.revision === exported.revision &&
    now.state_sha256 === exported.state_sha256 &&
    now.beside_log === exported.beside_log;
  if (isSame && !now.is_leased && !isCheckpointing) return null;
  return { code: "RUN_BUSY", error: "the run cannot be archived now: it has changed meanwhile" };
}
