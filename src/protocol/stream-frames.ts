/** One message of a stream, as Server-Sent Events and as WebSocket messages alike. */
export interface Frame {
  /** Compact JSON on one line. */
  data: string;
  /** The reader's cursor once it has this frame; for `Last-Event-ID`. Absent on `/context`. */
  id?: string;
  /** Name of a control frame, which is no content; absent on content. */
  event?: "end" | "gap" | "overrun";
  /** Said instead of `data` where the contract knows no such frame: a comment, which readers ignore. */
  comment?: string;
}

/** Contract 02 §7: sent when there was no other frame for a while. */
const KEEP_ALIVE = ":\n\n";

/** A frame's bytes on an event stream: `data: {…}` and an empty line (contract 02 §7), on `/v1` with what EventSource needs. */
export function sseText({ data, id, event, comment }: Frame): string {
  if (comment !== undefined) return `: ${comment}\n\n`;
  return `${event === undefined ? "" : `event: ${event}\n`}${id === undefined ? "" : `id: ${id}\n`}data: ${data}\n\n`;
}

/** A keep-alive; with an id it moves a reader's cursor over what a filter left out. */
export function sseKeepAlive(id: string | null): string {
  return id === null ? KEEP_ALIVE : `:\nid: ${id}\n\n`;
}

/** Which records a stream shows. */
export type RecordKind = "context_run_event" | "blackboard_patch";

/** The first frame of a run's stream (contract 02 §7.1). It shows no location of the server (07 D06). */
export function runReady(runId: string, nowMs: number): Record<string, unknown> {
  return {
    path: `context-runs/${runId}/events`,
    runID: runId,
    status: "ready",
    stream: "context_run_events",
    timestamp_ms: nowMs,
  };
}

/** The first frame of a stream of many runs (contract 02 §7.2); `workspace` is null for all workspaces. */
export function feedReady(
  runIds: readonly string[],
  workspace: string | null,
  nowMs: number,
): Record<string, unknown> {
  return { kind: "ready", subscribed_run_ids: runIds, timestamp_ms: nowMs, workspace };
}

/** A record in a run's stream (contract 02 §7.1). `record` is its JSON. */
export function runRecord(kind: RecordKind, record: string, cursor: string | null): string {
  const type = kind === "context_run_event" ? "run.event" : "run.patch";
  return `{"properties":${record},"type":"${type}"${cursorMember(cursor)}}`;
}

/** What an envelope says of its record; the texts are JSON. */
export interface EnvelopeParts {
  kind: RecordKind;
  run_id: string;
  workspace: string;
  seq: number;
  ts_ms: number;
  record: string;
  tenant_context: string;
}

/** A record in a stream of many runs (contract 01 §4.9, 07 D91). */
export function envelope(parts: EnvelopeParts, cursor: string | null): string {
  const { kind, run_id, workspace, seq, ts_ms, record, tenant_context } = parts;
  return (
    `{"kind":"${kind}","run_id":"${run_id}","workspace":${JSON.stringify(workspace)},"seq":${seq},"ts_ms":${ts_ms},` +
    `"payload":${record},"tenantContext":${tenant_context}${cursorMember(cursor)}}`
  );
}

function cursorMember(cursor: string | null): string {
  return cursor === null ? "" : `,"cursor":"${cursor}"`;
}
