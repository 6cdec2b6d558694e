/** A client's own account of what it has seen: the newest seq by run id (contract 02 §7.3). */
export interface SeenCursor {
  events: ReadonlyMap<string, number>;
  patches: ReadonlyMap<string, number>;
}

/** The cursor that `/context` clients build. Whatever cannot be read counts as an empty one (contract 07 D92). */
export function readSeenCursor(text: string): SeenCursor {
  try {
    const base64 = text.trim();
    if (!/^[A-Za-z0-9_-]*={0,2}$/.test(base64)) return NOTHING_SEEN;
    const bytes = Uint8Array.from(atob(base64.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
    const json: unknown = JSON.parse(
      new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes),
    );
    if (!isObject(json)) return NOTHING_SEEN;
    const events = seqsOf(json.events);
    const patches = seqsOf(json.patches);
    return events === null || patches === null ? NOTHING_SEEN : { events, patches };
  } catch {
    return NOTHING_SEEN;
  }
}

const NOTHING_SEEN: SeenCursor = { events: new Map(), patches: new Map() };

function seqsOf(json: unknown): Map<string, number> | null {
  if (json === undefined) return new Map();
  if (!isObject(json)) return null;
  const entries = Object.entries(json);
  const isSeq = (seq: unknown): seq is number => Number.isInteger(seq) && (seq as number) >= 0;
  return entries.every(([, seq]) => isSeq(seq)) ? new Map(entries as [string, number][]) : null;
}

function isObject(json: unknown): json is Record<string, unknown> {
  return typeof json === "object" && json !== null && !Array.isArray(json);
}

/** How far a reader is in a run's log: `12` when commit 12 was the last, `12e` when only its event was. */
export interface LogCursor {
  seq: number;
  isPatchDue: boolean;
}

export function writeLogCursor({ seq, isPatchDue }: LogCursor): string {
  return isPatchDue ? `${seq}e` : String(seq);
}

/** Null when it is none. */
export function readLogCursor(text: string): LogCursor | null {
  const match = /^(\d{1,15})(e?)$/.exec(text);
  if (match === null) return null;
  const seq = Number(match[1]);
  const isPatchDue = match[2] === "e";
  return isPatchDue && seq === 0 ? null : { seq, isPatchDue };
}

/** The place of a record among those that a stream of many runs begins with; see streams/backlog.ts. */
export interface BacklogKey {
  ts_ms: number;
  run_id: string;
  isPatch: boolean;
  seq: number;
}

/**
 * How far a reader is in a stream of many runs, which has one order for everybody. As text it begins with the feed's id and
 * a colon; then:
 *
 * - `17`: everything up to place 17 of the feed;
 * - `17-5`, `17-5e`: everything before place 17, and of what is there as far as commit 5, or as its event;
 * - `17b`: nothing yet of what there was up to place 17;
 * - `17b1700000000000-e5-r1`: of that, in the order of the backlog, as far as event (`p`: patch) 5 of run r1, whose time
 *   is 1700000000000.
 */
export interface FeedCursor {
  /** Which feed it is: the cursor of another one means nothing here. */
  feed_id: string;
  pos: number;
  within: LogCursor | null;
  backlog: BacklogKey | "start" | null;
}

export function writeFeedCursor({ feed_id, pos, within, backlog }: FeedCursor): string {
  const place = `${feed_id}:${pos}`;
  if (within !== null) return `${place}-${writeLogCursor(within)}`;
  if (backlog === null) return place;
  if (backlog === "start") return `${place}b`;
  return `${place}b${backlog.ts_ms}-${backlog.isPatch ? "p" : "e"}${backlog.seq}-${backlog.run_id}`;
}

/** Null when it is none. */
export function readFeedCursor(text: string): FeedCursor | null {
  const match =
    /^([0-9a-f]{8}):(\d{1,15})(?:-(\d{1,15}e?)|(b)(?:(\d{1,15})-([ep])(\d{1,15})-([A-Za-z0-9._:-]{1,200}))?)?$/.exec(
      text,
    );
  if (match === null) return null;
  const [, feed_id = "", place, log, inBacklog, time, kind, seq, runId] = match;
  const pos = Number(place);
  const within = log === undefined ? null : readLogCursor(log);
  if (log !== undefined && (within === null || pos === 0)) return null;
  if (inBacklog === undefined) return { feed_id, pos, within, backlog: null };
  if (runId === undefined) return { feed_id, pos, within, backlog: "start" };
  const key = { ts_ms: Number(time), run_id: runId, isPatch: kind === "p", seq: Number(seq) };
  return { feed_id, pos, within, backlog: key };
}
