import type { EffectKind } from "../domain/audit.ts";
import type { EventRecord } from "../protocol/event.ts";
import { MAX_PAGE_LENGTH } from "../protocol/limits.ts";
import type { LogReader } from "./log-reader.ts";
import type { RunState } from "./run-state.ts";

/** Effect rows read at once. */
const ROWS = 200;

/** A part of the log. */
export interface LogRange {
  /** Only what is newer than this seq. */
  afterSeq: number;
  uptoSeq: number;
  newestFirst: boolean;
}

/** An event that audits ask for. */
export interface AuditEvent {
  event: EventRecord;
  /** Of a mutation that was undone: seq of the rollback. */
  appliedSeq: number | null;
}

/** Where audits read a run. */
export interface AuditSource {
  state: RunState;
  log: LogReader;
}

/** The events of a kind in a part of the log, some at a time. What lies between them is not read. */
export async function* auditEvents(
  source: AuditSource,
  kind: EffectKind,
  { afterSeq, uptoSeq, newestFirst }: LogRange,
): AsyncGenerator<AuditEvent> {
  let after = afterSeq;
  let upto = uptoSeq;
  for (;;) {
    const rows = source.state.effects.page(kind, after, upto, newestFirst, ROWS);
    const appliedSeqs = new Map(rows.map((row) => [row.seq, row.applied_seq]));
    for await (const event of eventsAt(source, [...appliedSeqs.keys()])) {
      yield { event, appliedSeq: appliedSeqs.get(event.seq) ?? null };
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < ROWS) return;
    if (newestFirst) upto = last.seq - 1;
    else after = last.seq;
  }
}

/**
 * The events at these seqs, in this order. The one place where audits read events: those that are in the table from there,
 * all others by way of the log's reader, wherever they lie.
 * @throws LogDamaged
 */
export async function* eventsAt({ state, log }: AuditSource, seqs: number[]): AsyncGenerator<EventRecord> {
  for (let start = 0; start < seqs.length; ) {
    const wanted = seqs.slice(start);
    const { rows, isCut } = state.commits.eventsAt(wanted, MAX_PAGE_LENGTH);
    const texts = new Map(rows.map(({ seq, text }) => [seq, text]));
    const last = rows.at(-1)?.seq;
    const looked = isCut && last !== undefined ? wanted.indexOf(last) + 1 : wanted.length;
    const missing = wanted.slice(0, looked).filter((seq) => !texts.has(seq));
    if (missing.length > 0) await addFromLog(log, missing, texts);
    for (const seq of wanted.slice(0, looked)) {
      const text = texts.get(seq);
      if (text !== undefined) yield JSON.parse(text) as EventRecord;
    }
    start += looked;
  }
}

/** Reads the log from one missing seq to the next, so that seqs that lie close together share a read. */
async function addFromLog(log: LogReader, missing: number[], texts: Map<number, string>): Promise<void> {
  const left = missing.toSorted((a, b) => a - b);
  for (let [first] = left; first !== undefined; [first] = left) {
    const from = first;
    const upto = left.findLast((seq) => seq < from + ROWS) ?? from;
    const rows = await log.page(from - 1, upto);
    for (const row of rows) if (left.includes(row.seq)) texts.set(row.seq, row.event);
    const read = rows.at(-1)?.seq ?? upto;
    left.splice(0, left.filter((seq) => seq <= read).length);
  }
}
