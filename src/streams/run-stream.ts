import { isTerminal } from "../domain/run.ts";
import { asciiLowerCase } from "../protocol/ascii.ts";
import { type LogCursor, writeLogCursor } from "../protocol/stream-cursor.ts";
import { type Frame, runReady, runRecord } from "../protocol/stream-frames.ts";
import type { CommitText, Stretch } from "../run/stretch.ts";
import { type Batch, KEEP_ALIVE_MS, MAX_BATCH_LENGTH } from "./pump.ts";
import type { RunSource } from "./run-source.ts";

/** What a reader of one run wants. */
export interface RunStreamQuery {
  runId: string;
  /** What the reader has. */
  from: LogCursor;
  /** Types of the events to show, in lower case; all when null. */
  types: ReadonlySet<string> | null;
  withPatches: boolean;
  /** Whether frames carry the reader's cursor, and say why a stream ends: on `/v1`. */
  isNative: boolean;
  /** Whether to end when the run has. */
  untilTerminal: boolean;
}

/**
 * One run's stream: that it is ready, the log from the reader's place on, and whatever is committed from then on. Each
 * record once, in order (contract 02 §7.1).
 */
export async function* runStream(source: RunSource, query: RunStreamQuery): AsyncGenerator<Batch> {
  const { isNative, untilTerminal } = query;
  const at = (cursor: LogCursor): string | null => (isNative ? writeLogCursor(cursor) : null);
  const resume = () => (isNative ? {} : { resume: { since_seq: seq } });
  const control = (event: NonNullable<Frame["event"]>, members: Record<string, unknown>) =>
    controlFrame(event, { type: event, ...members, ...resume().resume }, id);
  let seq = query.from.isPatchDue ? query.from.seq - 1 : query.from.seq;
  let id = at(query.from);
  source.startAfter(seq);
  yield { frames: [contentFrame(runReady(query.runId, Date.now()), id)], id };
  let sentAtMs = Date.now();
  for (;;) {
    const { lastSeq, status } = source.head;
    if (untilTerminal && seq >= lastSeq && isTerminal(status)) {
      const frame = control("end", { reason: "terminal", status });
      return yield { frames: [frame], id, end: { isComplete: true } };
    }
    const next = await source.next(Math.max(0, sentAtMs + KEEP_ALIVE_MS - Date.now()));
    if (next === "gone") {
      const frame = control("end", { reason: "deleted" });
      return yield { frames: [frame], id, end: { isComplete: true } };
    }
    if (next === "lost") {
      const frame = control("gap", { reason: "unavailable" });
      return yield { frames: [frame], id, end: { isComplete: false } };
    }
    const frames: Frame[] = [];
    let length = 0;
    // A reader that was busy gets all that was told meanwhile at once.
    for (let told = next === "nothing" ? null : next; told !== null; ) {
      for (const commit of told.commits ?? []) frames.push(...recordsOf(commit, query));
      length += lengthOf(told);
      seq = told.upto_seq;
      id = at({ seq, isPatchDue: false });
      told = length < MAX_BATCH_LENGTH ? source.takeTold() : null;
    }
    if (frames.length > 0) yield { frames, id, ...resume() };
    else if (Date.now() - sentAtMs >= KEEP_ALIVE_MS) yield { frames: "keep_alive", id, ...resume() };
    else continue;
    sentAtMs = Date.now();
  }
}

/** How much of a reader's memory a stretch takes, in UTF-16 units. */
export function lengthOf({ commits }: Stretch): number {
  return (commits ?? []).reduce((sum, { event, patch }) => sum + event.length + (patch?.length ?? 0), 0);
}

/** Types are matched trimmed and without case, as everywhere (contract 03 §1.1). */
export function isShownType(types: ReadonlySet<string> | null, type: string): boolean {
  return types === null || types.has(asciiLowerCase(type.trim()));
}

/** The frames of one commit: its event, then its patch. */
function recordsOf(commit: CommitText, { from, types, withPatches, isNative }: RunStreamQuery): Frame[] {
  const { seq, type, event, patch } = commit;
  const hasPatch = withPatches && patch !== null;
  const hasEvent = isShownType(types, type);
  const isSeen = from.isPatchDue && from.seq === seq;
  const frames: Frame[] = [];
  const add = (kind: Parameters<typeof runRecord>[0], record: string, isPatchDue: boolean): void => {
    const id = isNative ? writeLogCursor({ seq, isPatchDue }) : null;
    frames.push({ data: runRecord(kind, record, id), ...(id !== null && { id }) });
  };
  if (hasEvent && !isSeen) add("context_run_event", event, hasPatch);
  if (hasPatch) add("blackboard_patch", patch, false);
  return frames;
}

/** A frame of members that are made here; on `/v1` with the reader's cursor. */
export function contentFrame(members: Record<string, unknown>, id: string | null): Frame {
  return id === null
    ? { data: JSON.stringify(members) }
    : { data: JSON.stringify({ ...members, cursor: id }), id };
}

/** A frame that says why a stream ends. `/context` has none: there it is a comment. */
export function controlFrame(
  event: NonNullable<Frame["event"]>,
  members: Record<string, unknown>,
  id: string | null,
): Frame {
  if (id === null) return { data: "", comment: `${event} ${JSON.stringify(members)}` };
  return { data: JSON.stringify({ ...members, cursor: id }), event, id };
}
