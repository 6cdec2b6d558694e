import { type ListedRun, runsById, runsInScope } from "../../directory/runs.ts";
import { type Refusal, runNotFound } from "../../domain/refusals.ts";
import { isTerminal } from "../../domain/run.ts";
import { isAbsolutePath, normalisePath } from "../../domain/workspace.ts";
import { feedClient } from "../../feed/feed-client.ts";
import { tenantKey } from "../../identity/tenant.ts";
import { asciiLowerCase } from "../../protocol/ascii.ts";
import type { Issue } from "../../protocol/issue.ts";
import { MAX_STREAM_RUNS, MAX_STREAM_TAIL } from "../../protocol/limits.ts";
import {
  type FeedCursor,
  type LogCursor,
  readFeedCursor,
  readLogCursor,
  readSeenCursor,
  type SeenCursor,
} from "../../protocol/stream-cursor.ts";
import type { BacklogPart } from "../../streams/backlog.ts";
import { FeedSource } from "../../streams/feed-source.ts";
import { feedStream } from "../../streams/feed-stream.ts";
import { persistently } from "../../streams/retry.ts";
import { RunSource } from "../../streams/run-source.ts";
import { runStream } from "../../streams/run-stream.ts";
import type { Call } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";
import { streamAnswer } from "../stream-answer.ts";

/** `GET /context/runs/{run_id}/events/stream` (contract 02 §7.1). */
export async function streamRunContext(call: Call): Promise<HttpAnswer> {
  const runId = call.id("run_id");
  const { since_seq, tail } = call.query({ since_seq: "uint", tail: "uint" });
  return streamAnswer(call, "type", openRun(call, false), async (source) => {
    const from = { seq: startOf(source, since_seq ?? 0, tail), isPatchDue: false };
    const query = { runId, from, types: null, withPatches: false, isNative: false, untilTerminal: false };
    return runStream(source, query);
  });
}

/** `GET /v1/runs/{run_id}/events/stream`: the same with cursors; patches, types and the end when asked for. */
export async function streamRunNative(call: Call): Promise<HttpAnswer> {
  const runId = call.id("run_id");
  const { since_seq, tail, types, patches, until, cursor } = call.query({
    since_seq: "uint",
    tail: "uint",
    types: "string",
    patches: "bool",
    until: "string",
    cursor: "string",
  });
  const issues = [...tailIssues(tail)];
  if (until !== undefined && until !== "terminal") {
    issues.push({ field: "until", rule: "one_of", message: "until must be terminal" });
  }
  if (issues.length > 0) refuseIssues("QUERY_INVALID", issues);
  const resumed = cursorOf(call, cursor, readLogCursor);
  const untilTerminal = until !== undefined;
  return streamAnswer(call, "type", openRun(call, patches ?? false), async (source) => {
    const { lastSeq, status } = source.head;
    if (resumed !== null && resumed.cursor.seq > lastSeq)
      refuseCursor(resumed, `is ahead of the log, which ends at ${lastSeq}`);
    if (since_seq !== undefined && since_seq > lastSeq) {
      const message = `since_seq is ahead of the log, which ends at ${lastSeq}`;
      refuseIssues("QUERY_INVALID", [{ field: "since_seq", rule: "max", limit: lastSeq, message }]);
    }
    const from = resumed?.cursor ?? { seq: startOf(source, since_seq ?? 0, tail), isPatchDue: false };
    const isDone = untilTerminal && isTerminal(status) && from.seq === lastSeq && !from.isPatchDue;
    if (isDone && resumed?.isReconnect) return null;
    const query = { runId, from, types: setOf(types), withPatches: patches ?? false };
    return runStream(source, { ...query, isNative: true, untilTerminal });
  });
}

/** `GET /context/runs/events/stream` (contract 02 §7.2). */
export async function streamFeedContext(call: Call): Promise<HttpAnswer> {
  const query = call.query({ workspace: "string", run_ids: "string", cursor: "string", tail: "uint" });
  const workspace = pathOf(query.workspace);
  const tail = query.tail === undefined ? null : Math.min(MAX_STREAM_TAIL, Math.max(1, query.tail));
  const seen = readSeenCursor(query.cursor ?? "");
  const named = await namedRuns(call, query.run_ids, workspace);
  return streamAnswer(call, "kind", openFeed(call, workspace, named), async (source) => {
    const runs = named ?? (await listedRuns(call, workspace));
    const { feed_id, pos } = source.place;
    const heads = await headsAt(call, workspace, pos);
    const runIds = runs.map(({ run_id }) => run_id).sort();
    const parts = runIds.flatMap((runId) => partsOf(runId, heads.get(runId) ?? 0, tail, seen));
    return feedStream(source, (runId) => call.run(runId), {
      runIds,
      workspace,
      from: { feed_id, pos, within: null, backlog: "start" },
      isExpired: false,
      backlog: parts,
      seen: await newerThanFeed(call, seen, heads, runIds),
      types: null,
      withPatches: true,
      isNative: false,
    });
  });
}

/** `GET /v1/events/stream`: the same with cursors, for one workspace or for all runs. */
export async function streamFeedNative(call: Call): Promise<HttpAnswer> {
  const query = call.query({
    workspace: "string",
    run_ids: "string",
    tail: "uint",
    types: "string",
    patches: "bool",
    cursor: "string",
    since_seq: "string",
    until: "string",
  });
  const issues = [...tailIssues(query.tail), ...runOnlyIssues(query)];
  if (issues.length > 0) refuseIssues("QUERY_INVALID", issues);
  const workspace = query.workspace === undefined ? null : pathOf(query.workspace);
  const resumed = cursorOf(call, query.cursor, readFeedCursor);
  const named = await namedRuns(call, query.run_ids, workspace);
  return streamAnswer(call, "kind", openFeed(call, workspace, named), async (source) => {
    const { feed_id, pos, before_pos } = source.place;
    const had = resumed?.cursor ?? null;
    if (had !== null && had.feed_id !== feed_id) refuseCursor(resumed, "is of another stream");
    if (had !== null && had.pos > pos) refuseCursor(resumed, "is ahead of the stream");
    const isExpired = had !== null && had.pos - (had.within === null ? 0 : 1) < before_pos;
    const fresh: FeedCursor = { feed_id, pos, within: null, backlog: had === null ? "start" : null };
    const from = had === null || isExpired ? fresh : had;
    const runs = named ?? (await listedRuns(call, workspace));
    const withPatches = query.patches ?? true;
    return feedStream(source, (runId) => call.run(runId), {
      runIds: runs.map(({ run_id }) => run_id).sort(),
      workspace,
      from,
      isExpired,
      backlog:
        from.backlog === null
          ? []
          : await backlogAt(call, workspace, named, from.pos, query.tail ?? null, withPatches),
      seen: { events: new Map(), patches: new Map() },
      types: setOf(query.types),
      withPatches,
      isNative: true,
    });
  });
}

/**
 * What a stream begins with: of the runs that the feed knew at a place, and that are in the workspace yet, what they had
 * there. Asked again for the same place it is the same. @throws RequestRefused
 */
async function backlogAt(
  call: Call,
  workspace: string | null,
  named: readonly ListedRun[] | null,
  pos: number,
  tail: number | null,
  withPatches: boolean,
): Promise<BacklogPart[]> {
  if (tail === 0) return [];
  const heads = await headsAt(call, workspace, pos);
  const known = named === null ? [...heads.keys()] : named.map(({ run_id }) => run_id);
  if (known.length > MAX_STREAM_RUNS) refuseBacklog(known.length);
  const runs = named ?? (await runsById(call.env.DIRECTORY, tenantKey(call.tenant), known));
  const parts = runs
    .filter(({ workspace_key }) => workspace === null || workspace_key === workspace)
    .flatMap(({ run_id }) => partsOf(run_id, heads.get(run_id) ?? 0, tail, null));
  return withPatches ? parts : parts.filter(({ column }) => column === "event");
}

function openRun(call: Call, withPatches: boolean) {
  return async (onArrival: (length: number) => void): Promise<RunSource> => {
    const source = await RunSource.open(() => call.run(), withPatches, onArrival);
    if (source === null) throw new RequestRefused(await absenceOf(call));
    return source;
  };
}

function openFeed(call: Call, workspace: string | null, named: readonly ListedRun[] | null) {
  const wanted = named === null ? null : new Set(named.map(({ run_id }) => run_id));
  const feed = () => feedClient(call.env.FEEDS, scopeOf(call, workspace));
  return async (onArrival: (length: number) => void): Promise<FeedSource> => {
    const runIds = named?.map(({ run_id }) => run_id) ?? [];
    if (named !== null) await patiently(() => feed().enroll(runIds));
    return FeedSource.open(feed, {
      runOf: (runId) => call.run(runId),
      isWanted: (runId) => wanted === null || wanted.has(runId),
      onArrival,
    });
  };
}

/** Where the runs of a feed were at a place of it. */
function headsAt(call: Call, workspace: string | null, pos: number): Promise<Map<string, number>> {
  return patiently(() => feedClient(call.env.FEEDS, scopeOf(call, workspace)).headsAt(pos));
}

function patiently<T>(ask: () => Promise<T>): Promise<T> {
  return persistently(ask, () => true);
}

function scopeOf(call: Call, workspace: string | null) {
  return { tenant: tenantKey(call.tenant), workspace };
}

/** Where a run's stream starts: after a seq, of what follows with the last so many only. */
function startOf(source: RunSource, sinceSeq: number, tail: number | undefined): number {
  return tail === undefined ? sinceSeq : Math.max(sinceSeq, source.head.lastSeq - tail);
}

function tailIssues(tail: number | undefined): Issue[] {
  if (tail === undefined || tail <= MAX_STREAM_TAIL) return [];
  const message = `tail must be at most ${MAX_STREAM_TAIL}`;
  return [{ field: "tail", rule: "max", limit: MAX_STREAM_TAIL, message }];
}

/** What only a stream of one run understands. */
function runOnlyIssues(query: { since_seq?: string; until?: string }): Issue[] {
  return (["since_seq", "until"] as const)
    .filter((field) => query[field] !== undefined)
    .map((field) => ({ field, rule: "one_run_only", message: `${field} is for the stream of one run` }));
}

function setOf(list: string | undefined): ReadonlySet<string> | null {
  const words = wordsOf(list).map(asciiLowerCase);
  return words.length === 0 ? null : new Set(words);
}

function wordsOf(list: string | undefined): string[] {
  return (list ?? "").split(",").flatMap((word) => word.trim() || []);
}

/** A workspace's path, normalised (contract 02 §8). @throws RequestRefused */
function pathOf(workspace: string | undefined): string {
  const path = normalisePath(workspace ?? "");
  if (path === "") {
    refuseIssues("QUERY_INVALID", [
      { field: "workspace", rule: "required", message: "workspace must not be blank" },
    ]);
  }
  if (!isAbsolutePath(path)) {
    const message = "workspace must be an absolute path";
    refuseIssues("QUERY_INVALID", [{ field: "workspace", rule: "absolute_path", message }]);
  }
  return path;
}

/** A cursor, and whether `EventSource` or the like has sent it by itself. */
interface Resumed<Cursor> {
  cursor: Cursor;
  isReconnect: boolean;
}

/** The cursor a reader comes with; of two, the one that `EventSource` sends by itself. @throws RequestRefused */
function cursorOf<Cursor extends LogCursor | FeedCursor>(
  call: Call,
  parameter: string | undefined,
  read: (text: string) => Cursor | null,
): Resumed<Cursor> | null {
  const header = call.request.headers.get("last-event-id");
  const text = header || parameter;
  if (text === undefined) return null;
  const isReconnect = Boolean(header);
  const cursor = read(text);
  if (cursor === null) refuseCursor({ isReconnect }, "was not made by this stream");
  return { cursor, isReconnect };
}

function refuseCursor(resumed: Pick<Resumed<unknown>, "isReconnect"> | null, why: string): never {
  const name = resumed?.isReconnect ? "Last-Event-ID" : "cursor";
  throw new RequestRefused({ code: "CURSOR_INVALID", error: `${name} ${why}` });
}

function refuseBacklog(runs: number): never {
  const message = `of ${runs} runs a stream cannot show the past: ask for tail=0, or name at most ${MAX_STREAM_RUNS} runs`;
  refuseIssues("QUERY_INVALID", [{ field: "tail", rule: "max_runs", limit: MAX_STREAM_RUNS, message }]);
}

/** The runs that `run_ids` names, or null when it names none. @throws RequestRefused */
async function namedRuns(
  call: Call,
  list: string | undefined,
  workspace: string | null,
): Promise<ListedRun[] | null> {
  const ids = [...new Set(wordsOf(list))];
  if (ids.length === 0) return null;
  if (ids.length > MAX_STREAM_RUNS) {
    const message = `run_ids must be at most ${MAX_STREAM_RUNS}`;
    refuseIssues("QUERY_INVALID", [{ field: "run_ids", rule: "max", limit: MAX_STREAM_RUNS, message }]);
  }
  const runs = await runsById(call.env.DIRECTORY, tenantKey(call.tenant), ids);
  const unknown = ids.find((id) => !runs.some(({ run_id }) => run_id === id));
  if (unknown !== undefined && call.door === "native") {
    throw new RequestRefused({ ...runNotFound, error: `run ${unknown} not found` });
  }
  const stray = runs.find(({ workspace_key }) => workspace !== null && workspace_key !== workspace)?.run_id;
  const wrong = unknown ?? stray;
  if (wrong !== undefined) {
    const message =
      unknown === undefined ? `run ${wrong} is not in this workspace` : `there is no run ${wrong}`;
    refuseIssues("QUERY_INVALID", [{ field: "run_ids", rule: "run_of_workspace", message }]);
  }
  return runs;
}

function listedRuns(call: Call, workspace: string | null): Promise<ListedRun[]> {
  return runsInScope(call.env.DIRECTORY, scopeOf(call, workspace), 0, null, MAX_STREAM_RUNS);
}

/** What a stream begins with of a run that the feed has up to `head`: what the reader has not seen, or the last so many. */
function partsOf(runId: string, head: number, tail: number | null, seen: SeenCursor | null): BacklogPart[] {
  const part = (column: BacklogPart["column"], seenSeq: number | undefined): BacklogPart[] => {
    const from = seenSeq === undefined ? { afterSeq: 0, tail } : { afterSeq: seenSeq, tail: null };
    if (from.afterSeq >= head || from.tail === 0) return [];
    return [{ run_id: runId, column, uptoSeq: head, ...from }];
  };
  return [...part("event", seen?.events.get(runId)), ...part("patch", seen?.patches.get(runId))];
}

/**
 * Where readers are ahead of the feed: it learns of a commit a moment after the log has it. A seq that the log does not
 * have itself is no place to wait for.
 */
async function newerThanFeed(
  call: Call,
  seen: SeenCursor,
  heads: ReadonlyMap<string, number>,
  runIds: readonly string[],
): Promise<SeenCursor> {
  const events = new Map<string, number>();
  const patches = new Map<string, number>();
  for (const runId of runIds) {
    const seqs = [seen.events.get(runId) ?? 0, seen.patches.get(runId) ?? 0] as const;
    if (Math.max(...seqs) <= (heads.get(runId) ?? 0)) continue;
    const overview = await patiently(() => call.run(runId).readOverview());
    const last = overview.ok ? overview.value.last_event_seq : 0;
    events.set(runId, Math.min(seqs[0], last));
    patches.set(runId, Math.min(seqs[1], last));
  }
  return { events, patches };
}

/** Why there is no run to follow. */
async function absenceOf(call: Call): Promise<Refusal> {
  const overview = await call.run().readOverview();
  return overview.ok ? runNotFound : overview.refusal;
}
