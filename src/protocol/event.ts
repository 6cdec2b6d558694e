import { asciiLowerCase } from "./ascii.ts";
import type { RunStatus } from "./status.ts";

/** One immutable record of the run's log (contract 01 §4.6). */
export interface EventRecord {
  event_id: string;
  run_id: string;
  /** 1, 2, 3, … without gaps (I1). */
  seq: number;
  ts_ms: number;
  /** Exactly as sent. */
  type: string;
  /** The status the writer declared; the run's own may differ (I16). */
  status: RunStatus;
  /** The run's status after this commit. */
  run_status: RunStatus;
  /** The run revision that this commit produced. */
  revision: number;
  step_id?: string;
  task_id?: string;
  command_id?: string;
  /** The lease that the write was made under, when the writer proved one on `/v1`. */
  under?: { task_id?: string; lock_id?: string; agent_id: string; fence: number | null };
  /** Of an event of `/v1` that pauses or ends the run: when what is out is taken back. */
  halt?: { revoke_at_ms: number; reason?: string };
  /** Present on client-appended events of an engine-owned type, which are reports and not the engine's word. */
  origin?: "client";
  payload: unknown;
}

/** Types that the engine writes itself; a client's event of such a type is marked (contract 03 §3.1, 07 D07). */
const ENGINE_EVENT_TYPES: ReadonlySet<string> = new Set([
  "todo_synced",
  "meta_next_step_selected",
  "workspace_validated",
  "workspace_mismatch",
  "rollback_execution_applied",
  "rollback_execution_blocked",
  "rollback_execution_requested",
  "tool_effect_recorded",
  "mutation_checkpoint_recorded",
]);

/** Whether events of this type are written by the engine, so that a client's own must be marked. */
export function isEngineEventType(type: string): boolean {
  const name = asciiLowerCase(type.trim());
  return name.startsWith("context.") || ENGINE_EVENT_TYPES.has(name);
}
