import type { RunStatus, WorkStatus } from "./status.ts";
import type { Task } from "./task.ts";
import type { RunSettings } from "./task-life.ts";

/** Where a run's files live, as the client names it. `lease_epoch` counts adoptions, from 0 (contract 01 §4.2). */
export interface Workspace {
  workspace_id: string;
  canonical_path: string;
  lease_epoch: number;
}

/** A lightweight plan item: no lease, no revision (contract 01 §4.3). */
export interface Step {
  step_id: string;
  title: string;
  status: WorkStatus;
}

/** Who owns a run; set at creation and never changed by a client (contract 01 §4.4, I19). */
export interface Tenant {
  org_id: string;
  workspace_id: string;
  actor_id?: string;
  source: "local_implicit" | "explicit";
}

/** Where a forked run comes from: the state of another run of the tenant, after one of its commits. */
export interface ForkOrigin {
  run_id: string;
  seq: number;
  /** Digest of that state (domain/state-lines.ts): SHA-256, lower-case hex. */
  state_sha256: string;
}

/** A run without its tasks: everything that the size of the board does not change (contract 01 §4.1). */
export interface RunHeader {
  run_id: string;
  run_type: string;
  tenant_context: Tenant;
  source_client?: string;
  model_provider?: string;
  model_id?: string;
  mcp_servers: string[];
  status: RunStatus;
  objective: string;
  workspace: Workspace;
  steps: Step[];
  why_next_step: string | null;
  /** Starts at 1 and rises by one per commit (I2). */
  revision: number;
  /** Seq of the newest event; 0 before the first. */
  last_event_seq: number;
  created_at_ms: number;
  started_at_ms?: number;
  ended_at_ms?: number;
  last_error?: string;
  /** Time of the last commit; never decreases. */
  updated_at_ms: number;
  source_metadata?: unknown;
  /** Set at creation and never changed, like the tenant; absent in runs that began empty. */
  forked_from?: ForkOrigin;
  /** Absent until it is set, on `/v1`. */
  settings?: RunSettings;
}

/** A run as `/context` shows it (contract 01 §4.1). */
export interface Run extends RunHeader {
  tasks: Task[];
}

/** Tasks of a run per status, and in all. */
export type TaskCounts = Record<WorkStatus | "total", number>;

/** A run as lists on `/v1` show it, from the directory. */
export interface RunSummary {
  run_id: string;
  run_type: string;
  status: RunStatus;
  objective: string;
  source_client: string | null;
  workspace: Workspace;
  revision: number;
  last_event_seq: number;
  created_at_ms: number;
  updated_at_ms: number;
  task_counts: TaskCounts;
  /** Epoch ms; null while the run is in its object. */
  archived_at_ms: number | null;
}
