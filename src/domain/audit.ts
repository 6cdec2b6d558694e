import { asciiLowerCase } from "../protocol/ascii.ts";
import type { EventRecord } from "../protocol/event.ts";
import type { RunHeader } from "../protocol/run.ts";
import type { Counts } from "./counts.ts";
import {
  type LedgerSummary,
  ledgerRecordOf,
  NO_LEDGER,
  NO_TOOLS,
  type ToolSets,
  withLedgerRecord,
  withRouting,
  withUse,
} from "./ledger.ts";
import { type MutationSummary, mutationRecordOf, NO_MUTATIONS, withMutation } from "./mutations.ts";
import {
  type HistoryEntry,
  type HistorySummary,
  historyEntryOf,
  type LastOutcome,
  lastOutcomeOf,
  NO_HISTORY,
  NO_PREVIEW,
  type PreviewSummary,
  type RollbackPolicy,
  rollbackPolicy,
  withEntry,
  withUndo,
} from "./rollback.ts";
import { undoOf } from "./undo.ts";

/**
 * What the log comes to for an audit, kept in the head and folded commit by commit, so that showing it reads no history
 * (contract 07 D31).
 *
 * U1 It equals what the same fold over the whole log gives; a view over a part of the log folds that part.
 * U2 What it can grow to has a bound, whatever clients append: tools as counts.ts says, open rollback tasks as limits.ts
 *    says, and one newest outcome, which is no larger than an event's payload.
 */
export interface Audit {
  ledger: LedgerSummary;
  tools: ToolSets;
  mutations: MutationSummary;
  preview: PreviewSummary;
  history: HistorySummary;
  last_outcome: LastOutcome | null;
  /** Rollbacks that agents are to carry out, oldest first. */
  requested: RequestedRollback[];
}

/** A rollback whose steps an agent applies where the workspace lives; its task's end is its outcome. */
export interface RequestedRollback {
  task_id: string;
  /** What is recorded when the task completes. */
  applied: AppliedRollback;
}

/** The payload of `rollback_execution_applied` (contract 06 §9). */
export interface AppliedRollback {
  workspace_root: string;
  selected_event_ids: string[];
  applied_step_count: number;
  applied_operation_count: number;
  applied_by_action: Counts;
  /** Newest first. */
  steps: AppliedStep[];
}

export interface AppliedStep {
  seq: number;
  event_id: string;
  tool: string;
  operation_count: number;
  operations: { path: string; action: string; kind: string }[];
}

/** The audit of a run without history. */
export const NO_AUDIT: Audit = {
  ledger: NO_LEDGER,
  tools: NO_TOOLS,
  mutations: NO_MUTATIONS,
  preview: NO_PREVIEW,
  history: NO_HISTORY,
  last_outcome: null,
  requested: [],
};

/**
 * The kinds of events that audits ask for; table `effects` holds where they are.
 *
 * `ledger`, `mutation`: records that parse. `rollback`: attempts. `routing`: which tools were offered. `approval`: what an
 * operator decided.
 */
export type EffectKind = "ledger" | "mutation" | "rollback" | "routing" | "approval";

export interface Effect {
  kind: EffectKind;
  seq: number;
  /** Of a mutation: how rollbacks name it. */
  event_id: string | null;
}

/** What one event adds to an audit. */
export interface Audited {
  audit: Audit;
  effect: Effect | null;
  /** Seqs of the mutations that this event undid. */
  applied: number[];
}

/** Takes one event in. Pure and total, whatever its payload is. */
export function withEvent(audit: Audit, event: EventRecord): Audited {
  const effect = (kind: EffectKind): Effect => ({
    kind,
    seq: event.seq,
    event_id: kind === "mutation" ? event.event_id : null,
  });
  const record = ledgerRecordOf(event);
  if (record !== null) {
    const ledger = withLedgerRecord(audit.ledger, event, record);
    const next = { ...audit, ledger, tools: withUse(audit.tools, record) };
    return { audit: next, effect: effect("ledger"), applied: [] };
  }
  const mutation = mutationRecordOf(event);
  if (mutation !== null) {
    const next = {
      ...audit,
      mutations: withMutation(audit.mutations, event, mutation),
      preview: withUndo(audit.preview, undoOf(mutation)),
    };
    return { audit: next, effect: effect("mutation"), applied: [] };
  }
  const entry = historyEntryOf(event);
  if (entry !== null) return withAttempt(audit, event, entry, effect("rollback"));
  const tools = withRouting(audit.tools, event);
  if (tools !== null) return { audit: { ...audit, tools }, effect: effect("routing"), applied: [] };
  return {
    audit: withRequests(audit, event),
    effect: isApproval(event) ? effect("approval") : null,
    applied: [],
  };
}

/** Only the engine's own word marks steps as applied and ends what agents were asked for (contract 07 D04). */
function withAttempt(audit: Audit, event: EventRecord, entry: HistoryEntry, effect: Effect): Audited {
  const next: Audit = {
    ...audit,
    history: withEntry(audit.history, entry),
    last_outcome: lastOutcomeOf(entry),
  };
  if (event.origin === "client") return { audit: next, effect, applied: [] };
  const payload = event.payload as Partial<AppliedRollback & { task_id: string }> | null;
  return {
    audit: { ...next, requested: audit.requested.filter(({ task_id }) => task_id !== payload?.task_id) },
    effect,
    applied: event.type === "rollback_execution_applied" ? seqsOf(payload?.steps) : [],
  };
}

/** The seqs of an applied rollback's steps; a log from elsewhere may have anything there. */
function seqsOf(steps: unknown): number[] {
  if (!Array.isArray(steps)) return [];
  return steps.flatMap((step: unknown) => {
    const seq = (step as Partial<AppliedStep> | null)?.seq;
    return typeof seq === "number" && Number.isSafeInteger(seq) ? [seq] : [];
  });
}

/**
 * What agents were asked for. A task that takes the place of the engine's own, and a run that is replaced, are a client's
 * doing: the request is then withdrawn, so that no look-alike can answer for it.
 */
function withRequests(audit: Audit, event: EventRecord): Audit {
  if (event.origin === "client") return audit;
  if (event.type === "rollback_execution_requested") {
    const { task_id, applied } = (event.payload ?? {}) as Partial<RequestedRollback>;
    // A log from elsewhere may have anything there.
    if (typeof task_id !== "string" || !Array.isArray(applied?.steps)) return audit;
    return { ...audit, requested: [...audit.requested, { task_id, applied }] };
  }
  if (audit.requested.length === 0) return audit;
  if (event.type === "context.run.replaced" || event.type === "context.run.imported") {
    return { ...audit, requested: [] };
  }
  if (event.type !== "context.task.created") return audit;
  const requested = audit.requested.filter(({ task_id }) => task_id !== event.task_id);
  return requested.length === audit.requested.length ? audit : { ...audit, requested };
}

const APPROVALS: ReadonlySet<string> = new Set([
  "planning_started",
  "plan_approved",
  "revision_requested",
  "run_paused",
  "run_resumed",
  "run_cancelled",
  "task_retry_requested",
]);

/** Whether an event asks for, gives or takes back an operator's consent; read as the transition rules read types. */
function isApproval(event: EventRecord): boolean {
  return APPROVALS.has(asciiLowerCase(event.type.trim()));
}

/** What GET run shows beside the run (contract 02 §2.3). */
export interface AuditMembers {
  ledger_summary: LedgerSummary;
  mutation_checkpoint_summary: MutationSummary;
  rollback_preview_summary: PreviewSummary;
  rollback_history_summary: HistorySummary;
  last_rollback_outcome: LastOutcome | null;
  rollback_policy: RollbackPolicy;
}

export function auditMembers({ run, audit }: { run: RunHeader; audit: Audit }): AuditMembers {
  return {
    ledger_summary: audit.ledger,
    mutation_checkpoint_summary: audit.mutations,
    rollback_preview_summary: audit.preview,
    rollback_history_summary: audit.history,
    last_rollback_outcome: audit.last_outcome,
    rollback_policy: rollbackPolicy(run),
  };
}
