import type { Halt } from "../domain/head.ts";
import type { EventRecord } from "../protocol/event.ts";
import { MAX_PAGE_LENGTH } from "../protocol/limits.ts";
import type { RunHeader, TaskCounts, Tenant } from "../protocol/run.ts";
import type { WorkStatus } from "../protocol/status.ts";
import type { Task } from "../protocol/task.ts";
import type { LogRow } from "./chain.ts";
import type { LogReader, LogText } from "./log-reader.ts";
import type { RunState } from "./run-state.ts";
import type { CommitTextRow, LogColumn } from "./storage/commits.ts";
import type { Stretch } from "./stretch.ts";
import { streamedText, type Text, toText } from "./text.ts";

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
  /** While it is paused or over by a request of `/v1`. */
  halt?: Halt;
}

/** Most tasks that one filtered page looks at, so that a rare status does not cost a scan of the board. */
export const MAX_TASKS_SCANNED = 2_000;

/**
 * Events or patches, ascending (contract 02 §3.1, §5.2). A page is read at once; a whole list as it is sent.
 * @throws LogDamaged
 */
export async function readLog(state: RunState, log: LogReader, query: LogQuery): Promise<LogPage> {
  const { column, sinceSeq, tail, limit } = query;
  const { last_event_seq: lastSeq } = state.head().run;
  const after = tail === null ? sinceSeq : await startOfTail(log, query, tail, lastSeq);
  if (limit === null) {
    const pages = log.textPages(column, after, lastSeq, Number.MAX_SAFE_INTEGER);
    return { items: await streamedText(jsonArrayOf(pages)), nextSeq: null };
  }
  const items: string[] = [];
  let length = 0;
  let seq = after;
  for await (const page of log.textPages(column, after, lastSeq, limit + 1)) {
    for (const row of page) {
      if (items.length === limit || length > MAX_PAGE_LENGTH) {
        return { items: toText(jsonArray(items)), nextSeq: seq };
      }
      items.push(row.text);
      length += row.text.length;
      seq = row.seq;
    }
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

/** The beginning of a stretch: as much as fits a piece, and one commit at least. @throws LogDamaged */
export async function readStretch(
  state: RunState,
  log: LogReader,
  { afterSeq, uptoSeq, withPatches }: StretchQuery,
): Promise<Stretch> {
  const { last_event_seq: lastSeq } = state.head().run;
  const end = Math.min(uptoSeq ?? lastSeq, lastSeq);
  return stretchOf(state, afterSeq, await log.records(afterSeq, end, withPatches, MAX_STRETCH_LENGTH));
}

/** These commits, which come right after a seq, as a stretch of a run as it is now. */
export function stretchOf(state: RunState, afterSeq: number, rows: CommitTextRow[]): Stretch {
  const { run, workspace_since_seq } = state.head();
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
  /** For looking into damage, see LogReader. */
  unchecked?: boolean;
}

/** The beginning of the commits that were asked for, as they are stored; empty when there are none. */
export interface CommitsPage {
  rows: LogRow[];
  /** Seq of the log's last commit. */
  lastSeq: number;
}

/** All of a stretch if it fits a piece and is not sealed, else what is known of it, without its commits. */
export function readWhole(state: RunState, afterSeq: number, uptoSeq: number): Stretch {
  const isSealed = afterSeq < state.segments.uptoSeq();
  const rows = isSealed ? [] : state.commits.records(afterSeq, uptoSeq, true, MAX_STRETCH_LENGTH);
  const stretch = stretchOf(state, afterSeq, rows);
  return stretch.upto_seq === uptoSeq ? stretch : { ...stretch, upto_seq: uptoSeq, commits: null };
}

/** Which tasks a list shows. */
export interface TasksQuery {
  status: WorkStatus | null;
  /** Only dead letters, or all others. */
  deadLetters?: boolean | null;
  afterPos: number;
  limit: number;
}

/** Tasks in list order, from after a position: those that a query asks for. */
export function readTasks(state: RunState, query: TasksQuery): TaskPage {
  const { deadLetters = null } = query;
  const isFiltered = query.status !== null || deadLetters === false;
  const scan = isFiltered ? MAX_TASKS_SCANNED : query.limit + 1;
  const { rows, isCut } = state.tasks.page(query.afterPos, scan, deadLetters === true);
  const mayGoOn = isCut || rows.length === scan;
  const items: string[] = [];
  for (const [index, row] of rows.entries()) {
    const matches =
      (query.status === null || row.status === query.status) &&
      (deadLetters === null || (row.dead_letter === 1) === deadLetters);
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
  const task = state.tasks.task(id);
  if (task === null) return null;
  const { claimable, openDependencyIds } = state.tasks.standing(task, nowMs, state.limitOf);
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
    ...(head.halt !== undefined && { halt: head.halt }),
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

/** @throws LogDamaged */
export async function readRecords(
  state: RunState,
  log: LogReader,
  query: RecordsQuery,
): Promise<RecordsPage> {
  const { column, afterSeq, tail, maxLength } = query;
  const upto = Math.min(query.uptoSeq, state.head().run.last_event_seq);
  const after = tail === null ? afterSeq : await startOfTail(log, { column, sinceSeq: afterSeq }, tail, upto);
  let { rows, uptoSeq } = await log.texts(column, after, upto, { maxLength });
  while (rows.length === 0 && uptoSeq < upto) {
    ({ rows, uptoSeq } = await log.texts(column, uptoSeq, upto, { maxLength }));
  }
  const { run } = state.head();
  const records = rows.map(({ seq, text }) => {
    const { ts_ms, type } = JSON.parse(text) as { ts_ms: number; type?: string };
    return { seq, ts_ms, type: type ?? "", text: text.length > maxLength ? null : text };
  });
  return {
    workspace: run.workspace.canonical_path.trim(),
    tenant_context: run.tenant_context,
    records,
    nextAfterSeq: uptoSeq < upto ? uptoSeq : null,
  };
}

async function startOfTail(
  log: LogReader,
  query: Pick<LogQuery, "column" | "sinceSeq">,
  tail: number,
  lastSeq: number,
): Promise<number> {
  // Event seqs have no gaps (I1), so the tail of the events needs no search; patches do (I4).
  if (query.column === "event") return Math.max(query.sinceSeq, lastSeq - tail);
  return log.beforeLastPatches(tail, query.sinceSeq, lastSeq);
}

/** The pieces of a JSON array of these. */
export function* jsonArray(texts: Iterable<string>): Generator<string> {
  let separator = "[";
  for (const text of texts) {
    yield `${separator}${text}`;
    separator = ",";
  }
  yield separator === "[" ? "[]" : "]";
}

async function* jsonArrayOf(pages: AsyncIterable<LogText[]>): AsyncGenerator<string> {
  let separator = "[";
  for await (const page of pages) {
    yield page.map(({ text }, index) => (index === 0 ? separator : ",") + text).join("");
    separator = ",";
  }
  yield separator === "[" ? "[]" : "]";
}
