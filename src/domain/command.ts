import type { PatchOp } from "../protocol/blackboard.ts";
import type { LockedResource } from "../protocol/lock.ts";
import type { Run } from "../protocol/run.ts";
import type { RunStatus, WorkStatus } from "../protocol/status.ts";
import type {
  Clocks,
  FailureCause,
  OnDependencyFailure,
  Progress,
  RetryPolicy,
  RunSettings,
} from "../protocol/task-life.ts";
import type { MutationOutcome } from "./mutations.ts";
import type { PayloadArtifact } from "./payload-artifact.ts";
import type { Refusal } from "./refusals.ts";
import type { PlannedStep } from "./rollback-plan.ts";
import type { Todo } from "./todos.ts";

/** One row of a task batch, as sent (contract 04 §2). */
export interface TaskRow {
  task_type: string;
  id?: string | undefined;
  command_id?: string | undefined;
  payload: unknown;
  payload_artifact?: PayloadArtifact | undefined;
  status?: WorkStatus | undefined;
  workflow_id?: string | undefined;
  workflow_node_id?: string | undefined;
  parent_task_id?: string | undefined;
  depends_on_task_ids: string[];
  decision_ids: string[];
  artifact_ids: string[];
  priority?: number | undefined;
  max_attempts?: number | undefined;
  retry?: RetryPolicy | undefined;
  clocks?: Clocks | undefined;
  on_dependency_failure?: OnDependencyFailure | undefined;
  concurrency_key?: string | undefined;
}

/** Which dead letters are meant: those that are all of this. */
export interface LetterFilter {
  task_type?: string | undefined;
  workflow_id?: string | undefined;
  cause?: FailureCause | undefined;
  error_code?: string | undefined;
  /** Types of tasks that the caller is bound to; any when absent. */
  task_types?: readonly string[] | undefined;
}

export interface TaskFilter {
  task_type?: string | undefined;
  workflow_id?: string | undefined;
}

/** What a path of the artifact space must hold for a command to be accepted; all that is given must be so. */
export interface FileCondition {
  /** Whether it holds anything. */
  exists?: boolean;
  /** It holds one of these contents. */
  sha256?: string[];
  /** It holds this version; 0 is nothing. */
  version?: number;
}

/** The lease that a write is made under, as its sender says: that of a task, or a lock (lease-proof.ts). */
export interface LeaseProof {
  /** The task that the writer works on. */
  task_id?: string | undefined;
  lock_id?: string | undefined;
  lease_token?: string | undefined;
}

/** A lock, with its proof. */
interface LockProof {
  lock_id: string;
  lease_token: string;
}

/** A write to one path of the artifact space. */
interface FileWrite extends LeaseProof {
  path: string;
  expected?: FileCondition | undefined;
}

/** How a command is meant, whatever it asks for. */
export interface Manner {
  /** Whether the rules of docs/claims.md hold where they are stricter than the contract's. The sender cannot say it. */
  strict?: true | undefined;
}

/** What a caller may ask of a run. Shapes and defaults as in contract 02; durations in ms. */
export type Command = Asked & Manner;

type Asked =
  | ({
      op: "append_event";
      type: string;
      /** The run keeps its own where there is none: no door leaves it out. */
      status?: RunStatus | undefined;
      step_id?: string | undefined;
      payload: unknown;
      payload_artifact?: PayloadArtifact | undefined;
    } & LeaseProof)
  | ({ op: "patch_blackboard"; patch_op: PatchOp; payload: unknown } & LeaseProof)
  | { op: "replace_run"; run: Run; expected_revision?: number | undefined }
  | ({
      op: "sync_todos";
      todos: Todo[];
      replace: boolean;
      source_session_id: string | null;
      source_run_id: string | null;
    } & LeaseProof)
  | { op: "put_settings"; settings: RunSettings; expected_revision?: number | undefined }
  | { op: "select_next_step"; dry_run: boolean }
  | { op: "validate_workspace"; phase: string; current_path: string; step_id?: string | undefined }
  | ({
      op: "create_tasks";
      tasks: TaskRow[];
      /** Whether an idle task of the same id gives way. */
      replace_existing: boolean;
      /** Types of tasks that the caller is bound to; any when absent. */
      task_types?: readonly string[] | undefined;
    } & LeaseProof)
  | ({
      op: "claim_task";
      agent_id: string;
      lease_ms?: number | undefined;
      /** Of a claim of several tasks: how many at most. */
      max?: number | undefined;
      /** Resources to be locked as long as the task's lease lasts; without them the claim takes nothing. */
      locks?: LockedResource[] | undefined;
    } & TaskFilter)
  | {
      op: "transition_task";
      task_id: string;
      action: string;
      expected_task_rev?: number | undefined;
      lease_token?: string | undefined;
      agent_id?: string | undefined;
      status?: WorkStatus | undefined;
      error?: string | undefined;
      error_code?: string | undefined;
      /** Of a failure: false says that another attempt makes no sense. */
      retryable?: boolean | undefined;
      /** How far the holder has come. */
      progress?: Omit<Progress, "at_ms"> | undefined;
      lease_ms?: number | undefined;
      strict?: true | undefined;
      /** Types of tasks that the caller is bound to; any when absent. */
      task_types?: readonly string[] | undefined;
    }
  /** Puts a dead letter back on the board. */
  | {
      op: "redrive_task";
      task_id: string;
      expected_task_rev?: number | undefined;
      task_types?: readonly string[] | undefined;
    }
  /** The same for the first `limit` of those that a filter finds; a preview only counts them. */
  | ({ op: "redrive_tasks"; limit: number; preview: boolean } & LetterFilter)
  /** Edges of a task that waits. */
  | {
      op: "change_dependencies";
      task_id: string;
      add: string[];
      remove: string[];
      expected_task_rev?: number | undefined;
      /** Types of tasks that the caller is bound to; any when absent. */
      task_types?: readonly string[] | undefined;
      /** What the caller works on. */
      proof?: LeaseProof | undefined;
    }
  | {
      op: "cancel_task";
      task_id: string;
      reason?: string | undefined;
      grace_ms?: number | undefined;
      expected_task_rev?: number | undefined;
      /** Types of tasks that the caller is bound to; any when absent. */
      task_types?: readonly string[] | undefined;
    }
  /** The grace counts for those that are told to stop: not for `resume`. */
  | {
      op: "control_run";
      action: "pause" | "resume" | "cancel";
      reason?: string | undefined;
      grace_ms?: number | undefined;
    }
  /** Contract 06 §9. `plan`: those of the selected steps that exist, in any order. */
  | {
      op: "execute_rollback";
      /** As sent. */
      event_ids: string[];
      policy_ack?: string | undefined;
      executor: "artifacts" | "agent";
      plan: PlannedStep[];
      /** Why the plan could not be brought along, where it could not; it is then empty. */
      too_large?: Refusal;
      /** Whether the deployment can store artifacts. */
      has_store: boolean;
      /** Hashes of contents to be written that the store no longer has. */
      lost: string[];
    }
  /** A mutation of the artifact space; versions are null where a path held nothing. */
  | ({
      op: "record_mutation";
      session_id: string;
      message_id: string;
      tool: string;
      tool_call_id?: string | undefined;
      outcome: MutationOutcome;
      workspace_root?: string | undefined;
      effective_cwd?: string | undefined;
      files: { path: string; before_version: number | null; after_version: number | null }[];
    } & LeaseProof)
  | { op: "requeue_stale" }
  | { op: "acquire_lock"; agent_id: string; resources: LockedResource[]; lease_ms?: number | undefined }
  | ({ op: "heartbeat_lock"; lease_ms?: number | undefined } & LockProof)
  | ({ op: "release_lock" } & LockProof)
  /** What clocks, cancellations, failed dependencies and a halt have come to by now. `task_ids`: these before all others. */
  | { op: "settle_due"; task_ids?: string[] }
  /** Records heartbeats that were answered before; those of tasks that have moved on since then are left out. */
  | { op: "record_heartbeats"; reports: { task_id: string; task_rev: number; expires_at_ms: number }[] }
  | ({
      op: "put_artifact";
      sha256: string;
      bytes: number;
      content_type: string;
      artifact: {
        id?: string | undefined;
        artifact_type: string;
        step_id?: string | undefined;
        source_event_id?: string | undefined;
      };
    } & FileWrite)
  | ({ op: "remove_artifact" } & FileWrite);

/** Commands that are done together, each on what the one before left, or not at all. */
export interface Batch {
  op: "batch";
  commands: Command[];
  /** The run's revision before the first of them. */
  expected_revision?: number | undefined;
  /** Whether it is only asked what would come of them. */
  dry_run: boolean;
}

/** What can be submitted to a run. */
export type AnyCommand = Command | Batch;

export type CommandOp = AnyCommand["op"];
export type CommandOf<Op extends CommandOp> = Extract<AnyCommand, { op: Op }>;
