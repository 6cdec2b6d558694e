import type { Task } from "./task.ts";

/** Patch operations, exact wire strings (contract 01 §3). */
export const PATCH_OPS = [
  "add_fact",
  "add_decision",
  "add_open_question",
  "add_artifact",
  "set_rolling_summary",
  "set_latest_context_pack",
  "add_task",
  "update_task_lease",
  "update_task_state",
] as const;
export type PatchOp = (typeof PATCH_OPS)[number];

/** One immutable record of the blackboard's patch log; `seq` equals that of its event (contract 01 §4.7, I4). */
export interface PatchRecord {
  patch_id: string;
  run_id: string;
  seq: number;
  ts_ms: number;
  source_event_seq: number;
  op: PatchOp;
  payload: unknown;
}

/** A fact, decision or open question (contract 01 §4.8). */
export interface Note {
  id: string;
  ts_ms: number;
  text: string;
  step_id?: string;
  source_event_id?: string;
}

/** A pointer to something an agent produced (contract 01 §4.8). */
export interface Artifact {
  id: string;
  ts_ms: number;
  path: string;
  artifact_type: string;
  step_id?: string;
  source_event_id?: string;
}

export interface Summaries {
  rolling: string;
  latest_context_pack: string;
}

/** Lists of notes on the blackboard. */
export const NOTE_LISTS = ["facts", "decisions", "open_questions"] as const;
export type NoteList = (typeof NOTE_LISTS)[number];

/** The shared notes of a run, with its tasks projected in (contract 01 §4.8, I7). */
export interface Blackboard {
  facts: Note[];
  decisions: Note[];
  open_questions: Note[];
  artifacts: Artifact[];
  tasks: Task[];
  summaries: Summaries;
  /** Seq of the last patch; 0 when none (I6). */
  revision: number;
}
