import { type Counts, counted } from "./counts.ts";
import type { MutatedFile, MutationRecord, RollbackSnapshot } from "./mutations.ts";

export type UndoAction =
  | "delete_created_file"
  | "recreate_deleted_file"
  | "restore_previous_contents"
  | "no_action";

/** What an undo would do to one path (contract 06 §6). */
export type UndoEffect =
  | { kind: "delete_file"; path: string }
  /** `artifact` instead of `content` where the prior content lies in the run's artifact space. */
  | { kind: "write_file"; path: string; content?: string; artifact?: StoredContent }
  | { kind: "advisory_only"; path: string; snapshot_status: string }
  | { kind: "noop"; path: string };

export interface StoredContent {
  sha256: string;
  bytes: number;
  content_type: string;
  /** The version of the path that held it. */
  version: number;
}

export interface UndoOperation {
  path: string;
  action: UndoAction;
  executable: boolean;
  operation: UndoEffect;
  advisory_reason?: string;
}

export interface FileReadiness {
  path: string;
  action: UndoAction;
  directly_revertible: boolean;
  requires_snapshot: boolean;
}

/** Of one record. */
export interface RollbackReadiness {
  candidate_file_count: number;
  directly_revertible_file_count: number;
  requires_snapshot_file_count: number;
  by_action: Counts;
  files: FileReadiness[];
}

/** Of one record: executable when it has an operation, and none that is only advice. */
export interface RollbackPlan {
  executable: boolean;
  executable_operation_count: number;
  advisory_operation_count: number;
  operations: UndoOperation[];
}

export interface Undo {
  rollback_readiness: RollbackReadiness;
  rollback_plan: RollbackPlan;
}

/** Derives from a record how what it tells could be undone; unchanged files need nothing (contract 06 §6). */
export function undoOf(record: MutationRecord): Undo {
  const operations = record.files.filter((file) => file.changed).map(undoOfFile);
  const executable = operations.filter((operation) => operation.executable).length;
  const files = operations.map(readinessOf);
  return {
    rollback_readiness: {
      candidate_file_count: files.length,
      directly_revertible_file_count: executable,
      requires_snapshot_file_count: files.filter((file) => file.requires_snapshot).length,
      by_action: operations.reduce<Counts>((counts, { action }) => counted(counts, action), {}),
      files,
    },
    rollback_plan: {
      executable: executable > 0 && executable === operations.length,
      executable_operation_count: executable,
      advisory_operation_count: operations.length - executable,
      operations,
    },
  };
}

function undoOfFile({ path, existed_before, existed_after, rollback_snapshot }: MutatedFile): UndoOperation {
  if (!existed_before && !existed_after) {
    return {
      path,
      action: "no_action",
      executable: false,
      operation: { kind: "noop", path },
      advisory_reason: "no rollback action required",
    };
  }
  if (!existed_before) {
    return {
      path,
      action: "delete_created_file",
      executable: true,
      operation: { kind: "delete_file", path },
    };
  }
  const action = existed_after ? "restore_previous_contents" : "recreate_deleted_file";
  const { status } = rollback_snapshot;
  if (status === "inline_text" || status === "stored") {
    return { path, action, executable: true, operation: writeOf(path, rollback_snapshot) };
  }
  return {
    path,
    action,
    executable: false,
    operation: { kind: "advisory_only", path, snapshot_status: status },
    advisory_reason: ADVICE[status],
  };
}

function writeOf(path: string, snapshot: RollbackSnapshot): UndoEffect {
  if (snapshot.status === "stored") {
    const { sha256, byte_count: bytes, content_type, version } = snapshot;
    return { kind: "write_file", path, artifact: { sha256, bytes, content_type, version } };
  }
  const { content } = snapshot;
  return { kind: "write_file", path, ...(content !== undefined && { content }) };
}

const ADVICE = {
  too_large: "prior contents were too large to inline",
  binary: "prior contents were binary and not inlined",
  not_needed: "prior contents were not captured",
} as const;

function readinessOf({ path, action, executable }: UndoOperation): FileReadiness {
  const needsContent = action === "recreate_deleted_file" || action === "restore_previous_contents";
  return {
    path,
    action,
    directly_revertible: executable,
    requires_snapshot: needsContent && !executable,
  };
}
