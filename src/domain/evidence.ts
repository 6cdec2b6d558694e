import type { Artifact } from "../protocol/blackboard.ts";
import { type EventRecord, isEngineEventType } from "../protocol/event.ts";
import type { FileVersion } from "../protocol/file-version.ts";
import type { RunHeader } from "../protocol/run.ts";
import { canonicalJson } from "./canonical-json.ts";
import { countOf } from "./counts.ts";
import type { RunHead } from "./head.ts";
import { ledgerRecordOf, toolManifest } from "./ledger.ts";
import { mutationRecordOf } from "./mutations.ts";
import { historyEntryOf } from "./rollback.ts";
import { isTerminal } from "./run.ts";

/**
 * What stands for a free text or a payload: enough to prove what it was, nothing of what it says. A text's hash is of its
 * UTF-8 bytes, any other value's of its canonical JSON; `length` counts the hashed bytes.
 */
export interface Reference {
  sha256: string;
  length: number;
  shape: "string" | "object" | "array" | "number" | "boolean" | "null";
}

/** Lower-case hex of the SHA-256 of a text's UTF-8 bytes. */
export type Hash = (text: string) => string;

const utf8 = new TextEncoder();

export function referenceTo(value: unknown, hash: Hash): Reference {
  const text = typeof value === "string" ? value : canonicalJson(value ?? null);
  return { sha256: hash(text), length: utf8.encode(text).length, shape: shapeOf(value ?? null) };
}

function shapeOf(value: unknown): Reference["shape"] {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  const type = typeof value;
  return type === "string" || type === "number" || type === "boolean" ? type : "object";
}

/** Who is known to have taken part. */
export interface Actors {
  /** Of tool calls and mutations, as they name themselves. */
  sessions: string[];
  /** Those that tasks are or were last assigned to. */
  agents: string[];
}

/** What the evidence rests on, beside the head: counted while the log was read. */
export interface EvidenceBasis {
  actors: Actors;
  /** Of the last commit that the package tells of: ties it to the log that can be verified (docs/log.md). */
  log_hash: string;
  /** Records that clients appended, and the engine did not witness. */
  reported_by_clients: number;
  /** Events that the index names and that cannot be read. */
  unreadable: number;
}

/** The members of the package that do not grow with the history, except for those sets (contract 02 §9.1). */
export function evidenceOf(head: RunHead, basis: EvidenceBasis, hash: Hash) {
  const { run, audit } = head;
  const { tenant_context: tenant } = run;
  return {
    schema_version: 1,
    package_type: "tandem_run_governance_evidence",
    provenance: {
      engine: "baton",
      source: "event_log",
      run_id: run.run_id,
      first_seq: run.last_event_seq === 0 ? null : 1,
      last_seq: run.last_event_seq,
      log_hash: basis.log_hash,
      // What a fork began with has its evidence in that run's log, not in this one.
      forked_from: run.forked_from ?? null,
      // The run's time, not the reader's: an unchanged run gives the same package.
      as_of_ms: run.updated_at_ms,
    },
    run: runEvidence(run, hash),
    actors: {
      tenant: { org_id: tenant.org_id, workspace_id: tenant.workspace_id, actor_id: tenant.actor_id ?? null },
      source_client: run.source_client ?? null,
      ...basis.actors,
    },
    tool_manifest: toolManifest(audit.tools),
    tool_call_summary: audit.ledger,
    audit_completeness: completeness(head, basis),
    memory_promotions: [],
    memory_audit: [],
    final_outcome: {
      status: run.status,
      is_final: isTerminal(run.status),
      ended_at_ms: run.ended_at_ms ?? null,
      last_error: textReference(run.last_error, hash),
    },
    limitations: limitations(head, basis),
    redaction_policy: {
      free_text: "replaced by {sha256, length, shape}",
      payloads: "replaced by {sha256, length, shape}; hashes are of canonical JSON",
      kept: "ids, names of tools and agents, paths, statuses, counts, times",
    },
  };
}

function textReference(text: string | null | undefined, hash: Hash): Reference | null {
  return text == null ? null : referenceTo(text, hash);
}

function runEvidence(run: RunHeader, hash: Hash) {
  return {
    run_id: run.run_id,
    run_type: run.run_type,
    status: run.status,
    revision: run.revision,
    last_event_seq: run.last_event_seq,
    created_at_ms: run.created_at_ms,
    started_at_ms: run.started_at_ms ?? null,
    ended_at_ms: run.ended_at_ms ?? null,
    updated_at_ms: run.updated_at_ms,
    model_provider: run.model_provider ?? null,
    model_id: run.model_id ?? null,
    mcp_servers: run.mcp_servers,
    workspace: run.workspace,
    objective: referenceTo(run.objective, hash),
    why_next_step: textReference(run.why_next_step, hash),
    source_metadata: run.source_metadata === undefined ? null : referenceTo(run.source_metadata, hash),
    steps: run.steps.map(({ step_id, title, status }) => ({
      step_id,
      title: referenceTo(title, hash),
      status,
    })),
  };
}

/**
 * `incomplete`: something is known to be missing. `complete_with_warnings`: nothing is, but the run goes on, began as
 * another run's state, or the package rests on what clients reported.
 */
function completeness(
  { run, audit }: RunHead,
  basis: EvidenceBasis,
): "complete" | "complete_with_warnings" | "incomplete" {
  if (basis.unreadable > 0 || openCalls(audit.ledger.by_phase) > 0) return "incomplete";
  const isWarned = basis.reported_by_clients > 0 || run.forked_from !== undefined || !isTerminal(run.status);
  return isWarned ? "complete_with_warnings" : "complete";
}

function openCalls(byPhase: Record<string, number>): number {
  return Math.max(0, countOf(byPhase, "invocation") - countOf(byPhase, "outcome"));
}

function limitations({ run, audit }: RunHead, basis: EvidenceBasis): string[] {
  const open = openCalls(audit.ledger.by_phase);
  return [
    "tool calls are known only as far as producers recorded them; the engine does not run tools",
    "policy decisions are known only by the ids that tool call records carry",
    "this engine has no memory store: memory promotions and memory audit are always empty",
    "session and agent names are labels that callers choose",
    ...(basis.reported_by_clients > 0
      ? [`${basis.reported_by_clients} records were reported by clients and not witnessed by the engine`]
      : []),
    ...(run.forked_from !== undefined
      ? [
          "the run began as a fork: how its first state came about is in the log of the run that `forked_from` names",
        ]
      : []),
    ...(open > 0 ? [`${open} tool calls have an invocation and no outcome`] : []),
    ...(basis.unreadable > 0 ? [`${basis.unreadable} recorded events could not be read`] : []),
    ...(isTerminal(run.status) ? [] : ["the run is not over: later events will change this package"]),
  ];
}

/** Whose word an event is. Clients' events are marked only where the engine writes such a type too. */
export function reporterOf({ type, origin }: EventRecord): "client" | "engine" {
  return origin === "client" || !isEngineEventType(type) ? "client" : "engine";
}

/** A ledger record; what it was called with, and what came of it, by reference. */
export function toolCallEvidence(event: EventRecord, hash: Hash): Record<string, unknown> | null {
  const record = ledgerRecordOf(event);
  if (record === null) return null;
  const { args_summary, result_summary, error, ...known } = record;
  return {
    ...whereabouts(event),
    ...known,
    args_summary: referenceTo(args_summary, hash),
    ...(result_summary !== undefined && { result_summary: referenceTo(result_summary, hash) }),
    ...(error !== undefined && { error: referenceTo(error, hash) }),
  };
}

/** The policy decision that a tool call names; null when it names none. */
export function policyDecisionEvidence(event: EventRecord): Record<string, unknown> | null {
  const record = ledgerRecordOf(event);
  if (record?.policy_decision_id === undefined) return null;
  const { policy_decision_id, tool, phase, status } = record;
  return { ...whereabouts(event), policy_decision_id, tool, phase, status };
}

export function approvalEvidence(event: EventRecord, hash: Hash): Record<string, unknown> {
  return {
    ...whereabouts(event),
    decision: event.type.trim(),
    run_status: event.run_status,
    payload: event.payload == null ? null : referenceTo(event.payload, hash),
  };
}

export function mutationEvidence(event: EventRecord, hash: Hash): Record<string, unknown> | null {
  const record = mutationRecordOf(event);
  if (record === null) return null;
  const { session_id, message_id, tool, outcome, file_count, changed_file_count, files } = record;
  return {
    ...whereabouts(event),
    ...{ session_id, message_id, tool, outcome, file_count, changed_file_count },
    files: referenceTo(files, hash),
  };
}

export function rollbackEvidence(event: EventRecord, hash: Hash): Record<string, unknown> | null {
  const entry = historyEntryOf(event);
  if (entry === null) return null;
  const { outcome, selected_event_ids, reason } = entry;
  return {
    ...whereabouts(event),
    outcome,
    selected_event_ids,
    reason: textReference(reason, hash),
  };
}

function whereabouts(event: EventRecord) {
  return { seq: event.seq, ts_ms: event.ts_ms, event_id: event.event_id, reported_by: reporterOf(event) };
}

/** An artifact that the blackboard points to. */
export function artifactEvidence({ id, ts_ms, path, artifact_type }: Artifact): Record<string, unknown> {
  return { kind: "artifact", id, ts_ms, path, artifact_type };
}

/** What a path of the artifact space holds. */
export function fileEvidence({ path, sha256, bytes, content_type, version, ts_ms }: FileVersion) {
  return { kind: "file", path, sha256, bytes, content_type, version, ts_ms };
}
