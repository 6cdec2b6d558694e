import type { EventRecord } from "../protocol/event.ts";
import { MAX_PAGE_LENGTH } from "../protocol/limits.ts";
import type { RunHeader, TaskCounts, Tenant } from "../protocol/run.ts";
import type { WorkStatus } from "../protocol/status.ts";
import type { Task } from "../protocol/task.ts";
import type { LogRow } from "./chain.ts";
import type { RunState } from "./run-state.ts";
import type { LogColumn } from "./storage/commits.ts";
import type { Stretch } from "./stretch.ts";
import { type Text, toText } from "./text.ts";

/** Which part of the log a list shows. */
export interface LogQuery {
  column: LogColumn;
  /** Only what is newer than this seq. */
  sinceSeq: number;
  /** Of that, only the last so many. */
  tail: number | null;
  /** At most so many, oldest first. */
  limit: number | null;
}

/** A stretch of the log, with where to go on. */
export interface LogPage {
  /** JSON array of records, ascending by seq. */
  items: Text;
  /** Seq of the last record; null when the log ends here. */
  nextSeq: number | null;
}

export interface TaskPage {
  /** JSON array of tasks, in list order. */
  items: Text;
  /** Position to go on after; null when there are no more. */
  nextPos: number | null;
}

/** A run as `/v1` shows it. */
export interface RunOverview extends RunHeader {
  task_counts: TaskCounts;
  blackboard_revision: number;
  /** Hash of the newest commit (chain.ts). */
  log_hash: string;
}

/** Most tasks that one filtered page looks at, so that a rare status does not cost a scan of the board. */
const MAX_TASKS_SCANNED = 2_000;

/** Events or patches, ascending (contract 02 §3.1, §5.2). A page is read at once; a whole list as it is sent. */
export function readLog(state: RunState, query: LogQuery): LogPage {
  const { last_event_seq: lastSeq } = state.head().run;
  const after = query.tail === null ? query.sinceSeq : startOfTail(state, query, query.tail, lastSeq);
  if (query.limit === null) {
    const texts = state.commits.texts(query.column, after, lastSeq, Number.MAX_SAFE_INTEGER);
    return { items: toText(jsonArray(map(texts, (row) => row.text))), nextSeq: null };
  }
  const items: string[] = [];
  let length = 0;
  let seq = after;
  for (const row of state.commits.texts(query.column, after, lastSeq, query.limit + 1)) {
    if (items.length === query.limit || length > MAX_PAGE_LENGTH) {
      return { items: toText(jsonArray(items)), nextSeq: seq };
    }
    items.push(row.text);
    length += row.text.length;
    seq = row.seq;
  }
  return { items: toText(jsonArray(items)), nextSeq: null };
}

/** A stretch of the log to read: what is newer than `afterSeq`, as far as `uptoSeq`, if the log goes so far. */
export interface StretchQuery {
  afterSeq: number;
  /** The log's end when null. */
  uptoSeq: number | null;
  withPatches: boolean;
}

/** Followers are given the log in pieces of about this size, in UTF-16 units: objects and Workers hold many at once. */
const MAX_STRETCH_LENGTH = 256 * 1024;

/** The beginning of a stretch: as much as fits a piece, and one commit at least. */
export function readStretch(state: RunState, { afterSeq, uptoSeq, withPatches }: StretchQuery): Stretch {
  const { run, workspace_since_seq } = state.head();
  const end = Math.min(uptoSeq ?? run.last_event_seq, run.last_event_seq);
  const rows = state.commits.records(afterSeq, end, withPatches, MAX_STRETCH_LENGTH);
  return {
    run_id: run.run_id,
    workspace: run.workspace.canonical_path.trim(),
    tenant_context: run.tenant_context,
    workspace_since_seq,
    after_seq: afterSeq,
    upto_seq: rows.at(-1)?.seq ?? afterSeq,
    last_seq: run.last_event_seq,
    status: run.status,
    commits: rows.map(({ seq, event, patch }) => {
      const { ts_ms, type } = JSON.parse(event) as EventRecord;
      return { seq, ts_ms, type, event, patch };
    }),
  };
}

/** Stored commits to read: those with `afterSeq < seq <= uptoSeq`. */
export interface CommitsQuery {
  afterSeq: number;
  uptoSeq: number;
  /** Of the page, about, in UTF-16 units. */
  maxLength: number;
}

/** The beginning of the commits that were asked for, as they are stored; empty when there are none. */
export interface CommitsPage {
  rows: LogRow[];
  /** Seq of the log's last commit. */
  lastSeq: number;
}

/** All of a stretch if it fits a piece, else what is known of it, without its commits. */
export function readWhole(state: RunState, afterSeq: number, uptoSeq: number): Stretch {
  const stretch = readStretch(state, { afterSeq, uptoSeq, withPatches: true });
  return stretch.upto_seq === uptoSeq ? stretch : { ...stretch, upto_seq: uptoSeq, commits: null };
}

/** Tasks in list order, from after a position; with a status, only those that have it. */
export function readTasks(
  state: RunState,
  query: { status: WorkStatus | null; afterPos: number; limit: number },
): TaskPage {
  const scan = query.status === null ? query.limit + 1 : MAX_TASKS_SCANNED;
  const { rows, isCut } = state.tasks.page(query.afterPos, scan);
  const mayGoOn = isCut || rows.length === scan;
  const items: string[] = [];
  for (const [index, row] of rows.entries()) {
    const matches = query.status === null || row.status === query.status;
    if (matches && items.length === query.limit) {
      return { items: toText(jsonArray(items)), nextPos: rows[index - 1]?.pos ?? query.afterPos };
    }
    if (matches) items.push(row.doc);
  }
  return { items: toText(jsonArray(items)), nextPos: mayGoOn ? (rows.at(-1)?.pos ?? null) : null };
}

/** One task, and why it can or cannot be claimed. */
export interface TaskView {
  task: Task;
  claimable: boolean;
  open_dependency_ids: string[];
  attempts_exhausted: boolean;
}

export function readTask(state: RunState, id: string, nowMs: number): TaskView | null {
  const task = state.task(id);
  if (task === null) return null;
  const { claimable, openDependencyIds } = state.tasks.standing(task, nowMs);
  return {
    task,
    claimable,
    open_dependency_ids: openDependencyIds,
    attempts_exhausted: task.attempt >= task.max_attempts,
  };
}

export function overview(state: RunState): RunOverview {
  const head = state.head();
  return {
    ...head.run,
    task_counts: state.taskCounts(),
    blackboard_revision: head.blackboard_revision,
    log_hash: state.logHash(),
  };
}

/** Records of one kind to read: those with `afterSeq < seq <= uptoSeq`; of these, if `tail` is given, only the last so many. */
export interface RecordsQuery {
  column: LogColumn;
  afterSeq: number;
  uptoSeq: number;
  tail: number | null;
  /** Of the page, about, in UTF-16 units. */
  maxLength: number;
}

/** Records of one kind, with what their readers need to know of them. */
export interface RecordsPage {
  /** The run's path, trimmed. */
  workspace: string;
  tenant_context: Tenant;
  /**
   * Ascending; each as the text that was stored, or null where that alone is longer than the page shall be. `type` is an
   * event's; a patch has none.
   */
  records: { seq: number; ts_ms: number; type: string; text: string | null }[];
  /** Where to read on; null when that was all. */
  nextAfterSeq: number | null;
}

export function readRecords(state: RunState, query: RecordsQuery): RecordsPage {
  const { run } = state.head();
  const upto = Math.min(query.uptoSeq, run.last_event_seq);
  const since = { column: query.column, sinceSeq: query.afterSeq };
  const after = query.tail === null ? query.afterSeq : startOfTail(state, since, query.tail, upto);
  const { rows, isCut } = state.commits.someTexts(query.column, after, upto, query.maxLength);
  const records = rows.map(({ seq, text }) => {
    const { ts_ms, type } = JSON.parse(text) as { ts_ms: number; type?: string };
    return { seq, ts_ms, type: type ?? "", text: text.length > query.maxLength ? null : text };
  });
  return {
    workspace: run.workspace.canonical_path.trim(),
    tenant_context: run.tenant_context,
    records,
    nextAfterSeq: isCut ? (rows.at(-1)?.seq ?? null) : null,
  };
}

function startOfTail(
  state: RunState,
  query: Pick<LogQuery, "column" | "sinceSeq">,
  tail: number,
  lastSeq: number,
): number {
  // Event seqs have no gaps (I1), so the tail of the events needs no search; patches do (I4).
  if (query.column === "event") return Math.max(query.sinceSeq, lastSeq - tail);
  return state.commits.beforeLastPatches(tail, query.sinceSeq, lastSeq);
}

function* jsonArray(texts: Iterable<string>): Generator<string> {
  let separator = "[";
  for (const text of texts) {
    yield `${separator}${text}`;
    separator = ",";
  }
  yield separator === "[" ? "[]" : "]";
}

function* map<A, B>(items: Iterable<A>, change: (item: A) => B): Generator<B> {
  for (const item of items) yield change(item);
}
