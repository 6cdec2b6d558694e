import { listAt, numberAt, objectAt, stringAt } from "../../drill/fields.ts";

/** What a run's log says at the end. */
export interface RunLog {
  readonly run_id: string;
  readonly events: readonly LogRecord[];
  readonly patches: readonly LogRecord[];
}

/** An event, or a patch, of a run. */
export interface LogRecord {
  readonly seq: number;
  /** The record's JSON, written anew: equal records have equal texts. */
  readonly text: string;
  /** Epoch ms, by the server's clock. */
  readonly ts_ms: number;
  readonly type: string;
  readonly task_id: string | undefined;
  /** Of the run after it; blank on patches. */
  readonly run_status: string;
  /** Of a patch: of the event that it came with. */
  readonly source_event_seq: number | undefined;
}

/** A record as a stream told it. */
export interface Told {
  readonly run_id: string;
  readonly kind: "event" | "patch";
  readonly record: LogRecord;
}

/** Reads a record of a list or a frame. Never throws: what is missing becomes 0 or blank, and then fails a check. */
export function toLogRecord(value: unknown): LogRecord {
  return {
    seq: numberAt(value, "seq") ?? 0,
    text: JSON.stringify(value) ?? "",
    ts_ms: numberAt(value, "ts_ms") ?? 0,
    type: stringAt(value, "type") ?? "",
    task_id: stringAt(value, "task_id"),
    run_status: stringAt(value, "run_status") ?? "",
    source_event_seq: numberAt(value, "source_event_seq"),
  };
}

/** The record that a frame of a stream tells, of one run or of many; null for frames that tell none. */
export function toldIn(frame: unknown): Told | null {
  const type = stringAt(frame, "type");
  if (type === "run.event" || type === "run.patch") {
    const record = objectAt(frame, "properties");
    const kind = type === "run.event" ? "event" : "patch";
    return { run_id: stringAt(record, "run_id") ?? "", kind, record: toLogRecord(record) };
  }
  const many = stringAt(frame, "kind");
  if (many === "context_run_event" || many === "blackboard_patch") {
    const record = toLogRecord(objectAt(frame, "payload"));
    const kind = many === "context_run_event" ? "event" : "patch";
    return { run_id: stringAt(frame, "run_id") ?? "", kind, record };
  }
  return null;
}

/** The members of a list's pages, as log records. */
export function toLogRecords(pages: readonly unknown[], member: string): LogRecord[] {
  return pages.flatMap((page) => listAt(page, member).map(toLogRecord));
}
