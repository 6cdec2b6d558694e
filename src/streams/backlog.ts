import type { Tenant } from "../protocol/run.ts";
import type { BacklogKey } from "../protocol/stream-cursor.ts";
import type { RecordsPage, RecordsQuery } from "../run/reads.ts";
import type { RunClient } from "../run/run-client.ts";
import type { Result } from "../run/run-object.ts";
import type { LogColumn } from "../run/storage/commits.ts";
import { persistently } from "./retry.ts";

/** Records of one kind of one run that a stream begins with. */
export interface BacklogPart {
  run_id: string;
  column: LogColumn;
  afterSeq: number;
  uptoSeq: number;
  /** Of these only the last so many. */
  tail: number | null;
}

/** A record with its place in the order of the backlog. */
export interface BacklogRecord extends BacklogKey {
  /** The record's own time, epoch ms. */
  recorded_ms: number;
  /** The run's path, trimmed. */
  workspace: string;
  tenant_context: Tenant;
  /** Of an event; empty for a patch. */
  type: string;
  /** JSON. */
  text: string;
}

/** What all parts together hold of the log at once, in UTF-16 units. */
const MAX_HELD_LENGTH = 16 * 1024 * 1024;
const MAX_PAGE_LENGTH = 256 * 1024;
const MIN_PAGE_LENGTH = 4 * 1024;
/** For a record that is read alone: there are none so long. */
const ANY_LENGTH = Number.MAX_SAFE_INTEGER;
/** Objects asked at once. */
const AT_ONCE = 25;

/** A record whose text may have to be read yet: long ones are, when it is their turn. */
type PagedRecord = Omit<BacklogRecord, "text"> & { text: string | null };

/** One part as it is read, page by page. */
interface Reader {
  part: BacklogPart;
  page: PagedRecord[];
  index: number;
  /** Where to read on; null at the end. */
  nextAfterSeq: number | null;
  /** For the first page. */
  tail: number | null;
  /** A run's time never goes back in the order, even where a clock did (contract 07 D90). */
  latestMs: number;
}

/**
 * The records of many runs, in the contract's order: by time, then run, then kind, patches first, then seq (02 §7.2). They
 * are merged as they are read: what is held at once does not grow with the logs. The order depends on nothing but the
 * parts, so that a reader who comes back finds its place in it.
 */
export async function* backlog(
  parts: readonly BacklogPart[],
  runOf: (runId: string) => RunClient,
): AsyncGenerator<BacklogRecord[]> {
  const maxLength = Math.min(MAX_PAGE_LENGTH, Math.max(MIN_PAGE_LENGTH, MAX_HELD_LENGTH / parts.length));
  const readers = parts.map(
    (part): Reader => ({
      part,
      page: [],
      index: 0,
      nextAfterSeq: part.afterSeq,
      tail: part.tail,
      latestMs: 0,
    }),
  );
  for (let start = 0; start < readers.length; start += AT_ONCE) {
    await Promise.all(
      readers.slice(start, start + AT_ONCE).map((reader) => readPage(reader, runOf, maxLength)),
    );
  }
  const queue = readers.filter((reader) => headOf(reader) !== null).sort(byHead);
  while (queue.length > 0) {
    const records: BacklogRecord[] = [];
    let length = 0;
    // As far as the pages reach, or a piece for the reader is full.
    for (let first = queue[0]; first !== undefined && length < MAX_PAGE_LENGTH; first = queue[0]) {
      const record = headOf(first);
      if (record === null) break;
      const text = record.text ?? (await readLong(first, record, runOf));
      if (text !== null) records.push({ ...record, text });
      length += text?.length ?? 0;
      queue.shift();
      first.index += 1;
      if (headOf(first) === null && first.nextAfterSeq !== null) await readPage(first, runOf, maxLength);
      if (headOf(first) !== null) queue.splice(placeIn(queue, first), 0, first);
    }
    yield records;
  }
}

/** Whether a record comes after a place in the order of the backlog. */
export function isAfter(record: BacklogKey, key: BacklogKey): boolean {
  return compare(record, key) > 0;
}

function compare(a: BacklogKey, b: BacklogKey): number {
  if (a.ts_ms !== b.ts_ms) return a.ts_ms - b.ts_ms;
  if (a.run_id !== b.run_id) return a.run_id < b.run_id ? -1 : 1;
  if (a.isPatch !== b.isPatch) return a.isPatch ? -1 : 1;
  return a.seq - b.seq;
}

function headOf(reader: Reader): PagedRecord | null {
  return reader.page[reader.index] ?? null;
}

function byHead(a: Reader, b: Reader): number {
  const [first, second] = [headOf(a), headOf(b)];
  return first === null || second === null ? 0 : compare(first, second);
}

/** Where a reader belongs in a queue that is in order. */
function placeIn(queue: readonly Reader[], reader: Reader): number {
  let low = 0;
  let high = queue.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const other = queue[middle];
    if (other !== undefined && byHead(other, reader) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

async function readPage(
  reader: Reader,
  runOf: (runId: string) => RunClient,
  maxLength: number,
): Promise<void> {
  const { run_id, column, uptoSeq } = reader.part;
  const afterSeq = reader.nextAfterSeq ?? uptoSeq;
  const answer = await read(() => runOf(run_id), { column, afterSeq, uptoSeq, tail: reader.tail, maxLength });
  reader.tail = null;
  reader.index = 0;
  reader.page = [];
  reader.nextAfterSeq = answer.ok ? answer.value.nextAfterSeq : null;
  // A run that was deleted has no backlog.
  if (!answer.ok) return;
  const { workspace, tenant_context, records } = answer.value;
  reader.page = records.map((record) => {
    reader.latestMs = Math.max(reader.latestMs, record.ts_ms);
    const place = { ts_ms: reader.latestMs, run_id, isPatch: column === "patch", seq: record.seq };
    return {
      ...place,
      recorded_ms: record.ts_ms,
      workspace,
      tenant_context,
      type: record.type,
      text: record.text,
    };
  });
}

/** Null when the run was deleted meanwhile. */
async function readLong(
  { part: { run_id, column } }: Reader,
  { seq }: PagedRecord,
  runOf: (runId: string) => RunClient,
): Promise<string | null> {
  const query = { column, afterSeq: seq - 1, uptoSeq: seq, tail: null, maxLength: ANY_LENGTH };
  const answer = await read(() => runOf(run_id), query);
  return answer.ok ? (answer.value.records[0]?.text ?? null) : null;
}

/** @throws Error when what was asked for is there, but damaged: a backlog must not pass it over. */
async function read(run: () => RunClient, query: RecordsQuery): Promise<Result<RecordsPage>> {
  const answer = await persistently(
    () => run().readRecords(query),
    () => true,
  );
  if (!answer.ok && answer.refusal.code === "LOG_DAMAGED") throw new Error(answer.refusal.error);
  return answer;
}
