export interface Step {
  step_id: string;
  title: string;
  status: string;
}

export interface Task {
  id: string;
  task_type: string;
  payload: unknown;
  status: string;
  depends_on_task_ids: string[];
  assigned_agent?: string;
  attempt: number;
  last_error?: string;
  next_retry_at_ms?: number;
  lease_owner?: string;
  lease_token?: string;
  lease_expires_at_ms?: number;
  task_rev: number;
  created_ts: number;
  updated_ts: number;
}

export interface Run {
  run_id: string;
  status: string;
  objective: string;
  workspace: { workspace_id: string; canonical_path: string; lease_epoch: number };
  steps: Step[];
  tasks: Task[];
  tenant_context: Record<string, unknown>;
  why_next_step: string | null;
  revision: number;
  last_event_seq: number;
  created_at_ms: number;
  started_at_ms?: number;
  ended_at_ms?: number;
  last_error?: string;
  updated_at_ms: number;
}

export interface EventRecord {
  event_id: string;
  seq: number;
  ts_ms: number;
  type: string;
  status: string;
  run_status: string;
  origin?: string;
  revision: number;
  step_id?: string;
  task_id?: string;
  command_id?: string;
  payload: Record<string, unknown> | null;
}

export interface Patch {
  patch_id: string;
  seq: number;
  ts_ms: number;
  source_event_seq: number;
  op: string;
  payload: Record<string, unknown>;
}

export interface Blackboard {
  facts: unknown[];
  decisions: unknown[];
  open_questions: unknown[];
  artifacts: unknown[];
  tasks: Task[];
  summaries: { rolling: string; latest_context_pack: string };
  revision: number;
}

/** Every member an answer may have. A test reads only what the answer at hand has. */
export interface Body {
  ok: boolean;
  code: string;
  error: string;
  run: Run;
  runs: Run[];
  event: EventRecord;
  events: EventRecord[];
  patch: Patch;
  patches: Patch[];
  blackboard: Blackboard;
  task: Task;
  tasks: Task[];
  deduped: boolean | string[];
  dry_run: boolean;
  deduped_task: Task;
  lease: { token: string; fence: number; expires_at_ms: number; expires_in_ms: number };
  checkpoint: { checkpoint_id: string; seq: number; ts_ms: number; run_state: Run; blackboard: Blackboard };
  replay: Run;
  replay_blackboard: Blackboard;
  persisted: Run;
  persisted_blackboard: Blackboard;
  drift: Record<string, boolean>;
  issues: { field: string; rule: string; message: string }[];
  next_cursor: string | null;
  next: string | null;
}
