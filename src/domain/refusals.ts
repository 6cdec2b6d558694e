import type { EventRecord } from "../protocol/event.ts";
import type { Issue } from "../protocol/issue.ts";
import { MAX_COMMIT_BYTES, OVERLOADED_RETRY_MS } from "../protocol/limits.ts";
import type { LockConflict } from "../protocol/lock.ts";
import type { RunStatus, WorkStatus } from "../protocol/status.ts";

/** `row`: which of the tasks to be created, and `command`: which of a batch's, counted from 0, where the refusal is about one. */
export type Refusal = Reason & { row?: number; command?: number };

/**
 * Why the engine declined a command, with the data a caller needs to act. Knows nothing of HTTP: each door writes it its
 * own way. `error` is the contract's literal text where there is one (contract 02 §1.5, 04 §8).
 */
type Reason =
  | { code: "OVERLOADED"; error: string; retry_after_ms: number }
  | { code: "RUN_NOT_FOUND"; error: string }
  | { code: "TASK_NOT_FOUND"; error: string }
  | { code: "CONTEXT_RUN_EXISTS"; error: string; run_id: string }
  | { code: "RUN_REVISION_MISMATCH"; error: string; revision: number }
  | { code: "SEQ_UNKNOWN"; error: string; seq: number; last_event_seq: number }
  | { code: "CHECKPOINT_NOT_FOUND"; error: string }
  | { code: "CHECKPOINT_NAME_TAKEN"; error: string; name: string; seq: number }
  | { code: "TASK_EVENT_APPEND_DISABLED"; error: string }
  | { code: "TASK_PATCH_OP_DISABLED"; error: string }
  | { code: "PATCH_PAYLOAD_INVALID"; error: string; issues: Issue[] }
  | { code: "TASK_CONTRACT_INVALID"; error: string; task_id: string }
  | { code: "TASK_OUTPUT_TARGET_REQUIRED"; error: string; task_id: string }
  | { code: "TASK_EXISTS"; error: string; task_id: string }
  | { code: "TASK_DEPENDENCY_CYCLE"; error: string; task_id: string; cycle: string[] }
  | { code: "TASK_REV_MISMATCH"; error: string; task_rev: number }
  | {
      code: "TASK_LEASE_REQUIRED" | "TASK_LEASE_INVALID";
      error: string;
      /** Of the lease that is out; null when none is, and the fence when no claim gave it. */
      lease_owner: string | null;
      fence: number | null;
      lease_expires_at_ms: number | null;
    }
  | {
      code: "TASK_TRANSITION_INVALID";
      error: string;
      current_status: WorkStatus;
      requested_status?: WorkStatus;
    }
  | { code: "RUN_TRANSITION_INVALID"; error: string; run_status: RunStatus }
  | {
      code: "WORKSPACE_MISMATCH";
      error: string;
      expected_path: string;
      actual_path: string;
      run_status: RunStatus;
    }
  | {
      code: "ROLLBACK_BLOCKED";
      error: string;
      selected_event_ids: string[];
      missing_event_ids?: string[];
      conflicting_paths?: string[];
      run_status: RunStatus;
      event: EventRecord;
    }
  | { code: "LOCK_HELD"; error: string; conflicts: LockConflict[] }
  /** Of a lock that is no more, nothing is known. */
  | {
      code: "LOCK_LOST";
      error: string;
      lock_id: string;
      agent_id: string | null;
      fence: number | null;
      expires_at_ms: number | null;
    }
  | { code: "COMMAND_ID_CONFLICT"; error: string }
  /** Commits of these seqs cannot be read as they were written. */
  | { code: "LOG_DAMAGED"; error: string; from_seq: number; upto_seq: number }
  | { code: "TOKEN_BOUND"; error: string; bound: Bound; allowed: string[] }
  | { code: "FIELD_INVALID"; error: string; issues: Issue[] }
  | { code: "IMPORT_INVALID"; error: string; issues: Issue[] }
  | { code: "RUN_DELETED" | "RUN_BUSY" | "ARTIFACT_STORE_MISSING"; error: string }
  | { code: "RUN_ARCHIVED"; error: string; archived_at_ms: number }
  | { code: "ARTIFACT_NOT_FOUND"; error: string; path: string }
  | {
      code: "ARTIFACT_PRECONDITION_FAILED";
      error: string;
      path: string;
      /** Null when the path holds nothing. */
      version: number | null;
      sha256: string | null;
    }
  | { code: "LIMIT_EXCEEDED"; error: string; limit_name: string; limit: number; actual: number };

/** What a credential can be bound to, beside its tenant. */
export type Bound = "run_id" | "agent_id" | "task_types";

/** The credential is bound to something else than what was asked for. */
export function tokenBound(bound: Bound, allowed: string[]): Refusal {
  const error = `this credential is bound to ${bound} ${allowed.join(", ")}`;
  return { code: "TOKEN_BOUND", error, bound, allowed };
}

/** A field broke a rule that its type alone does not express. */
export function fieldInvalid(field: string, rule: string, message: string): Refusal {
  return { code: "FIELD_INVALID", error: `${field}: ${message}`, issues: [{ field, rule, message }] };
}

/** The refusal of a command that expected another revision of the run; null when it is the one expected. */
export function runMovedOn(revision: number, expected: number): Refusal | null {
  if (expected === revision) return null;
  const error = `run is at revision ${revision}, not ${expected}`;
  return { code: "RUN_REVISION_MISMATCH", error, revision };
}

/** The dependencies of a task would close a cycle, told as ids with the first repeated at the end (07 D49). */
export function cycleRefusal(taskId: string, cycle: string[]): Refusal {
  return { code: "TASK_DEPENDENCY_CYCLE", error: "task dependencies form a cycle", task_id: taskId, cycle };
}

/** A bound of the engine was crossed. `actual` is in the unit that the name tells. */
export function limitExceeded(limitName: string, limit: number, actual: number): Refusal {
  return {
    code: "LIMIT_EXCEEDED",
    error: `${limitName} is limited to ${limit}, got ${actual}`,
    limit_name: limitName,
    limit,
    actual,
  };
}

/** A commit does not fit into its row. */
export function commitTooLarge(bytes: number): Refusal {
  return limitExceeded("commit_bytes", MAX_COMMIT_BYTES, bytes);
}

/** Nothing is wrong with the request; there is no room for it now. */
export function overloaded(error: string): Refusal {
  return { code: "OVERLOADED", error, retry_after_ms: OVERLOADED_RETRY_MS };
}

/** The run's artifact space has nothing there, or no such version. */
export function artifactNotFound(path: string, version?: number): Refusal {
  const error = version === undefined ? "artifact not found" : `artifact has no version ${version}`;
  return { code: "ARTIFACT_NOT_FOUND", error, path };
}

export const agentBlank: Refusal = fieldInvalid("agent_id", "non_blank", "must not be blank");
export const commandIdConflict: Refusal = {
  code: "COMMAND_ID_CONFLICT",
  error: "the command id was used for another request",
};
export const runNotFound: Refusal = { code: "RUN_NOT_FOUND", error: "run not found" };
export const taskNotFound: Refusal = { code: "TASK_NOT_FOUND", error: "task not found" };
export const checkpointNotFound: Refusal = { code: "CHECKPOINT_NOT_FOUND", error: "checkpoint not found" };

/** A position was asked for that the log does not reach. */
export function seqUnknown(seq: number, lastSeq: number): Refusal {
  return {
    code: "SEQ_UNKNOWN",
    error: `the log ends at seq ${lastSeq}, there is no seq ${seq}`,
    seq,
    last_event_seq: lastSeq,
  };
}
