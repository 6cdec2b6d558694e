import type { FeedCursor } from "../protocol/stream-cursor.ts";
import { writeFeedCursor } from "../protocol/stream-cursor.ts";
import { envelope, type Frame, feedReady, type RecordKind } from "../protocol/stream-frames.ts";
import type { RunClient } from "../run/run-client.ts";
import { type BacklogPart, type BacklogRecord, backlog, isAfter } from "./backlog.ts";
import type { FeedSource, PlacedStretch } from "./feed-source.ts";
import { type Batch, KEEP_ALIVE_MS, MAX_BATCH_LENGTH } from "./pump.ts";
import { contentFrame, controlFrame, isShownType, lengthOf } from "./run-stream.ts";

/** What a reader of many runs wants. */
export interface FeedStreamQuery {
  /** Said first; sorted. */
  runIds: readonly string[];
  /** A normalised path; null for all of the tenant's runs. */
  workspace: string | null;
  /** What the reader has. */
  from: FeedCursor;
  /** Whether what the reader has is so old that what came next is no longer known: it begins anew at `from`. */
  isExpired: boolean;
  /** Records from before `from.pos` that the reader shall have. */
  backlog: readonly BacklogPart[];
  /** Seqs by run that the reader has already, though the feed has not: of events, of patches. */
  seen: { events: ReadonlyMap<string, number>; patches: ReadonlyMap<string, number> };
  /** Types of the events to show, in lower case; all when null. */
  types: ReadonlySet<string> | null;
  withPatches: boolean;
  /** Whether frames carry the reader's cursor: on `/v1`. */
  isNative: boolean;
}

/**
 * A stream of many runs: that it is ready, what there was, and whatever is committed from then on, in the order of the
 * feed; of each commit the event first, then the patch (contract 02 §7.2).
 */
export async function* feedStream(
  source: FeedSource,
  runOf: (runId: string) => RunClient,
  query: FeedStreamQuery,
): AsyncGenerator<Batch> {
  const at = (cursor: FeedCursor): string | null => (query.isNative ? writeFeedCursor(cursor) : null);
  const { from } = query;
  let id = at(from);
  yield { frames: [contentFrame(feedReady(query.runIds, query.workspace, Date.now()), id)], id };
  if (query.isExpired) yield { frames: [controlFrame("gap", { kind: "gap", reason: "expired" }, id)], id };
  let sentAtMs = Date.now();
  for await (const records of backlog(query.backlog, runOf)) {
    const frames = records.flatMap((record) => backlogFrame(record, query));
    id = frames.at(-1)?.id ?? id;
    if (frames.length > 0) yield { frames, id };
    else if (Date.now() - sentAtMs >= KEEP_ALIVE_MS) yield { frames: "keep_alive", id };
    else continue;
    sentAtMs = Date.now();
  }
  if (from.backlog !== null) id = at({ ...from, backlog: null });
  source.startAfter(
    from.within === null ? from.pos : from.pos - 1,
    from.within === null ? 0 : from.within.seq - (from.within.isPatchDue ? 1 : 0),
  );
  for (;;) {
    const next = await source.next(Math.max(0, sentAtMs + KEEP_ALIVE_MS - Date.now()));
    if (next === "lost" || next === "expired") {
      const reason = next === "lost" ? "unavailable" : "expired";
      const frame = controlFrame("gap", { kind: "gap", reason }, id);
      return yield { frames: [frame], id, end: { isComplete: false } };
    }
    const frames: Frame[] = [];
    let length = 0;
    let last: PlacedStretch | "nothing" = "nothing";
    // A reader that was busy gets all that was told meanwhile at once.
    for (let told = next === "nothing" ? null : next; told !== null; ) {
      frames.push(...placedFrames(told, query));
      length += lengthOf(told.stretch);
      last = told;
      told = length < MAX_BATCH_LENGTH ? source.takeTold() : null;
    }
    if (last !== "nothing" || source.pos > from.pos) id = at({ ...from, ...placeAfter(last, source) });
    if (frames.length > 0) yield { frames, id };
    else if (Date.now() - sentAtMs >= KEEP_ALIVE_MS) yield { frames: "keep_alive", id };
    else continue;
    sentAtMs = Date.now();
  }
}

/** Where a reader is who has what came last. */
function placeAfter(next: PlacedStretch | "nothing", source: FeedSource): Omit<FeedCursor, "feed_id"> {
  if (next === "nothing" || next.isLast) return { pos: source.pos, within: null, backlog: null };
  return { pos: next.pos, within: { seq: next.stretch.upto_seq, isPatchDue: false }, backlog: null };
}

function backlogFrame(record: BacklogRecord, query: FeedStreamQuery): Frame[] {
  const { from, isNative, types, withPatches } = query;
  if (from.backlog !== null && from.backlog !== "start" && !isAfter(record, from.backlog)) return [];
  const isShown = record.isPatch ? withPatches : isShownType(types, record.type);
  if (!isShown) return [];
  const { ts_ms, run_id, isPatch, seq, text } = record;
  const cursor: FeedCursor = { ...from, backlog: { ts_ms, run_id, isPatch, seq } };
  const id = isNative ? writeFeedCursor(cursor) : null;
  const parts = {
    kind: isPatch ? ("blackboard_patch" as const) : ("context_run_event" as const),
    run_id,
    // The contract's backlog names the workspace as it was asked for (02 §7.2).
    workspace: isNative ? record.workspace : (query.workspace ?? ""),
    seq,
    ts_ms: record.recorded_ms,
    record: text,
    tenant_context: JSON.stringify(record.tenant_context),
  };
  return [{ data: envelope(parts, id), ...(id !== null && { id }) }];
}

function placedFrames({ pos, stretch, isLast }: PlacedStretch, query: FeedStreamQuery): Frame[] {
  const { from, isNative, types, withPatches, seen } = query;
  const { run_id, workspace } = stretch;
  const tenant_context = JSON.stringify(stretch.tenant_context);
  const frames: Frame[] = [];
  const add = (kind: RecordKind, seq: number, ts_ms: number, record: string, cursor: FeedCursor): void => {
    const id = isNative ? writeFeedCursor(cursor) : null;
    const data = envelope({ kind, run_id, workspace, seq, ts_ms, record, tenant_context }, id);
    frames.push({ data, ...(id !== null && { id }) });
  };
  for (const { seq, ts_ms, type, event, patch } of stretch.commits ?? []) {
    const hasPatch = withPatches && patch !== null && seq > (seen.patches.get(run_id) ?? 0);
    const isEventHad = from.within?.isPatchDue && from.pos === pos && from.within.seq === seq;
    const hasEvent = isShownType(types, type) && seq > (seen.events.get(run_id) ?? 0) && !isEventHad;
    const isEnd = isLast && seq === stretch.upto_seq;
    const within = isEnd ? null : { seq, isPatchDue: false };
    const done: FeedCursor = { feed_id: from.feed_id, pos, within, backlog: null };
    if (hasEvent) {
      const cursor = hasPatch ? { ...done, within: { seq, isPatchDue: true } } : done;
      add("context_run_event", seq, ts_ms, event, cursor);
    }
    if (hasPatch) add("blackboard_patch", seq, ts_ms, patch, done);
  }
  return frames;
}
