import type { EventRecord } from "../protocol/event.ts";
import type { MutatedFile, MutationRecord } from "./mutations.ts";
import type { StoredContent, UndoOperation } from "./undo.ts";
import { undoOf } from "./undo.ts";

/** A step on its way to be applied: its record, read before, with the content to write stored meanwhile. */
export interface PlannedStep {
  seq: number;
  event_id: string;
  tool: string;
  executable: boolean;
  operations: PlannedOperation[];
}

export interface PlannedOperation {
  path: string;
  action: string;
  kind: string;
  /** The prior content, where the record has it inline. */
  text?: string;
  /** The prior content, where it lies in the artifact space. */
  artifact?: StoredContent;
  /** What a write writes, once it is stored; nothing else has it. */
  content?: { sha256: string; bytes: number; content_type: string };
  /** How the record left the path. */
  after: { exists: boolean; hash: string | null };
}

/** The step that a record makes; null when there is nothing in it to undo. */
export function plannedStep(event: EventRecord, record: MutationRecord): PlannedStep | null {
  const { operations, executable } = undoOf(record).rollback_plan;
  if (operations.length === 0) return null;
  const changed = record.files.filter((file) => file.changed);
  return {
    seq: event.seq,
    event_id: event.event_id,
    tool: record.tool,
    executable,
    operations: operations.map((operation, index) => planned(operation, changed[index])),
  };
}

function planned(
  { path, action, operation }: UndoOperation,
  file: MutatedFile | undefined,
): PlannedOperation {
  return {
    path,
    action,
    kind: operation.kind,
    ...(operation.kind === "write_file" && {
      ...(operation.content !== undefined && { text: operation.content }),
      ...(operation.artifact !== undefined && { artifact: operation.artifact }),
    }),
    after: { exists: file?.existed_after ?? false, hash: file?.after_hash ?? null },
  };
}
