import type { EventRecord } from "../protocol/event.ts";
import type { RunHeader } from "../protocol/run.ts";
import type { RunStatus } from "../protocol/status.ts";
import { added, type Counts, counted, countOf } from "./counts.ts";
import { payloadMember, stringsOf } from "./ledger.ts";
import type { MutationRecord } from "./mutations.ts";
import { type Undo, type UndoOperation, undoOf } from "./undo.ts";

/** One record of the preview, with what undoing it would take (contract 06 §7). */
export interface RollbackStep {
  seq: number;
  event_id: string;
  tool: string;
  executable: boolean;
  operation_count: number;
  operations: UndoOperation[];
  /** Both only on a step that was applied; it stays listed (07 D74). */
  applied?: true;
  applied_seq?: number;
}

/** The step that a record makes; null when there is nothing in it to undo. */
export function stepOf(
  event: EventRecord,
  record: MutationRecord,
  appliedSeq: number | null,
): RollbackStep | null {
  const { executable, operations } = undoOf(record).rollback_plan;
  if (operations.length === 0) return null;
  return {
    seq: event.seq,
    event_id: event.event_id,
    tool: record.tool,
    executable,
    operation_count: operations.length,
    operations,
    ...(appliedSeq !== null && { applied: true as const, applied_seq: appliedSeq }),
  };
}

/** The preview without its steps (contract 06 §7). */
export interface PreviewSummary {
  executable: boolean;
  step_count: number;
  executable_step_count: number;
  advisory_step_count: number;
  executable_operation_count: number;
  advisory_operation_count: number;
  by_action: Counts;
}

export const NO_PREVIEW: PreviewSummary = {
  executable: false,
  step_count: 0,
  executable_step_count: 0,
  advisory_step_count: 0,
  executable_operation_count: 0,
  advisory_operation_count: 0,
  by_action: {},
};

export function withUndo(
  summary: PreviewSummary,
  { rollback_plan, rollback_readiness }: Undo,
): PreviewSummary {
  const { executable, operations } = rollback_plan;
  if (operations.length === 0) return summary;
  const advisorySteps = summary.advisory_step_count + (executable ? 0 : 1);
  return {
    executable: advisorySteps === 0,
    step_count: summary.step_count + 1,
    executable_step_count: summary.executable_step_count + (executable ? 1 : 0),
    advisory_step_count: advisorySteps,
    executable_operation_count: summary.executable_operation_count + rollback_plan.executable_operation_count,
    advisory_operation_count: summary.advisory_operation_count + rollback_plan.advisory_operation_count,
    by_action: added(summary.by_action, rollback_readiness.by_action),
  };
}

/** The totals of the mutation view, which follow from those of the preview (contract 06 §5). */
export function mutationTotals(recordCount: number, preview: PreviewSummary) {
  const { executable_operation_count, advisory_operation_count, by_action } = preview;
  return {
    rollback_readiness: {
      record_count: recordCount,
      candidate_file_count: executable_operation_count + advisory_operation_count,
      directly_revertible_file_count: executable_operation_count,
      // What is advice needs a snapshot, unless it needs nothing.
      requires_snapshot_file_count: advisory_operation_count - countOf(by_action, "no_action"),
      by_action,
    },
    rollback_plan: {
      record_count: recordCount,
      executable_record_count: preview.executable_step_count,
      advisory_record_count: preview.advisory_step_count,
      executable_operation_count,
      advisory_operation_count,
      by_action,
    },
  };
}

/** One attempt at a rollback (contract 06 §8). */
export interface HistoryEntry {
  seq: number;
  ts_ms: number;
  event_id: string;
  outcome: "applied" | "blocked";
  selected_event_ids: string[];
  reason?: string;
  missing_event_ids?: string[];
  applied_step_count?: number;
  applied_operation_count?: number;
  applied_by_action?: Counts;
}

/** The history entry of an event, a client's own included; null when it is none. Types are matched exactly (06 §8). */
export function historyEntryOf(event: EventRecord): HistoryEntry | null {
  const { seq, ts_ms, event_id } = event;
  const selected_event_ids = stringsOf(payloadMember(event, "selected_event_ids"));
  if (event.type === "rollback_execution_applied") {
    const steps = countMember(event, "applied_step_count");
    const operations = countMember(event, "applied_operation_count");
    const byAction = countsMember(event, "applied_by_action");
    return {
      ...{ seq, ts_ms, event_id, outcome: "applied", selected_event_ids },
      ...(steps !== null && { applied_step_count: steps }),
      ...(operations !== null && { applied_operation_count: operations }),
      ...(byAction !== null && { applied_by_action: byAction }),
    };
  }
  if (event.type === "rollback_execution_blocked") {
    const reason = payloadMember(event, "reason");
    const missing = stringsOf(payloadMember(event, "missing_event_ids"));
    return {
      ...{ seq, ts_ms, event_id, outcome: "blocked", selected_event_ids },
      ...(typeof reason === "string" && { reason }),
      ...(missing.length > 0 && { missing_event_ids: missing }),
    };
  }
  return null;
}

function countMember(event: EventRecord, name: string): number | null {
  const value = payloadMember(event, name);
  return isCount(value) ? value : null;
}

function countsMember(event: EventRecord, name: string): Counts | null {
  const value = payloadMember(event, name);
  if (typeof value !== "object" || value === null || Array.isArray(value)) return null;
  return Object.values(value).every(isCount) ? (value as Counts) : null;
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

export interface HistorySummary {
  entry_count: number;
  by_outcome: Counts;
  last_seq: number | null;
  last_ts_ms: number | null;
}

export const NO_HISTORY: HistorySummary = {
  entry_count: 0,
  by_outcome: {},
  last_seq: null,
  last_ts_ms: null,
};

export function withEntry(summary: HistorySummary, entry: HistoryEntry): HistorySummary {
  return {
    entry_count: summary.entry_count + 1,
    by_outcome: counted(summary.by_outcome, entry.outcome),
    last_seq: entry.seq,
    last_ts_ms: entry.ts_ms,
  };
}

/** The newest attempt, as GET run shows it (contract 06 §8). */
export interface LastOutcome {
  seq: number;
  ts_ms: number;
  event_id: string;
  outcome: "applied" | "blocked";
  reason: string | null;
  selected_event_ids: string[];
}

export function lastOutcomeOf(entry: HistoryEntry): LastOutcome {
  const { seq, ts_ms, event_id, outcome, reason, selected_event_ids } = entry;
  return { seq, ts_ms, event_id, outcome, reason: reason ?? null, selected_event_ids };
}

export const REQUIRED_CONFIRM = "rollback";
export const REQUIRED_POLICY_ACK = "allow_rollback_execution";

const ELIGIBLE: ReadonlySet<RunStatus> = new Set([
  "awaiting_approval",
  "paused",
  "blocked",
  "failed",
  "completed",
  "cancelled",
]);

/** Whether a run in this status may be rolled back (contract 06 §9). */
export function isEligible(status: RunStatus): boolean {
  return ELIGIBLE.has(status);
}

/** Contract 06 §9. */
export interface RollbackPolicy {
  eligible: boolean;
  run_status: RunStatus;
  required_confirm: string;
  required_policy_ack: string;
}

export function rollbackPolicy({ status }: Pick<RunHeader, "status">): RollbackPolicy {
  return {
    eligible: isEligible(status),
    run_status: status,
    required_confirm: REQUIRED_CONFIRM,
    required_policy_ack: REQUIRED_POLICY_ACK,
  };
}

/** Why a rollback was blocked. The first four are the contract's words (06 §9), the fifth its example (§9.1). */
export const BLOCKED = {
  notAcknowledged: "rollback execution requires explicit policy acknowledgement",
  notEligible: "rollback execution is not allowed for the current run status",
  notFound: "selected rollback step was not found in current preview",
  advisory: "selected rollback step is advisory_only",
  noStore: "no workspace file store is configured",
  alreadyApplied: "selected rollback step was already applied",
  alreadyRequested: "selected rollback step is being applied by an agent",
  snapshotLost: "stored prior contents of the selected rollback step are no longer available",
  differs: "current content differs from the recorded state after the selected rollback step",
  notComparable:
    "current content cannot be compared with the recorded state after the selected rollback step",
} as const;
