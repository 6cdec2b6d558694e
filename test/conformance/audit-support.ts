import { createHash } from "node:crypto";
import { type Answer, type Body, eventsOf, must, type RunRoutes, routes } from "./support.ts";

/** A ledger record (contract 06 §4) with some members changed. */
export function ledgerRecord(members: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    session_id: "s",
    message_id: "m",
    tool: "read",
    phase: "invocation",
    status: "started",
    args_summary: { type: "object", field_count: 1, keys: ["path"] },
    ...members,
  };
}

/** One file of a mutation record: a text that was edited, with its prior content inline, some members changed. */
export function mutatedFile(members: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    path: "a.txt",
    resolved_path: "/srv/ws/a.txt",
    existed_before: true,
    existed_after: true,
    changed: true,
    rollback_snapshot: { status: "inline_text", content: "before", byte_count: 6 },
    ...members,
  };
}

/** A file that the mutation created. */
export function createdFile(members: Record<string, unknown> = {}): Record<string, unknown> {
  return mutatedFile({ existed_before: false, rollback_snapshot: { status: "not_needed" }, ...members });
}

/** A mutation record (contract 06 §5) of these files. */
export function mutationRecord(
  files: Record<string, unknown>[],
  members: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    session_id: "s",
    message_id: "m",
    tool: "edit",
    outcome: "succeeded",
    file_count: files.length,
    changed_file_count: files.filter(({ changed }) => changed === true).length,
    files,
    ...members,
  };
}

/** Appends an event at `/context`, in whatever status the run is, and answers the event's id. */
export async function append(
  run: RunRoutes,
  type: string,
  payload: unknown,
  status = "paused",
): Promise<string> {
  const body = must(await routes(run.id).post("/events", { type, status, payload }));
  return body.event.event_id;
}

export function appendLedger(run: RunRoutes, members: Record<string, unknown> = {}): Promise<string> {
  return append(run, "tool_effect_recorded", { record: ledgerRecord(members) });
}

export function appendMutation(
  run: RunRoutes,
  files: Record<string, unknown>[],
  members: Record<string, unknown> = {},
): Promise<string> {
  return append(run, "mutation_checkpoint_recorded", { record: mutationRecord(files, members) });
}

/** The members of audit answers; a test reads those that its answer has. */
export interface AuditBody extends Body {
  records: { seq: number; event_id: string; record: Record<string, unknown> }[];
  entries: Record<string, unknown>[];
  steps: Record<string, unknown>[];
  summary: Record<string, unknown>;
  tool_manifest: Record<string, unknown>;
  ledger_summary: Record<string, unknown>;
  mutation_checkpoint_summary: Record<string, unknown>;
  rollback_preview_summary: Record<string, unknown>;
  rollback_history_summary: Record<string, unknown>;
  last_rollback_outcome: Record<string, unknown> | null;
  rollback_policy: Record<string, unknown>;
  rollback_readiness: Record<string, unknown>;
  rollback_plan: Record<string, unknown>;
  audit: Record<string, unknown>;
  applied: boolean;
  reason: string;
  selected_event_ids: string[];
  evidence_package: Record<string, unknown>;
  content_sha256: string;
  filename: string;
}

/** The body of an audit answer that has to have this status. */
export function audited(answer: Answer, status = 200): AuditBody {
  return must(answer, status) as AuditBody;
}

/** A rollback of these steps, confirmed and acknowledged unless the members say otherwise. */
export function rollBack(
  run: RunRoutes,
  event_ids: unknown,
  members: Record<string, unknown> = {},
): Promise<Answer> {
  return run.post("/checkpoints/mutations/rollback-execute", {
    confirm: "rollback",
    policy_ack: "allow_rollback_execution",
    event_ids,
    ...members,
  });
}

/** Types of the run's events, in order. */
export async function typesOf(run: RunRoutes): Promise<string[]> {
  return (await eventsOf(run)).map(({ type }) => type);
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
