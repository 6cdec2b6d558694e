import { runNotFound } from "../../domain/refusals.ts";
import { MAX_WAIT_MS } from "../../protocol/limits.ts";
import type { LogPage, LogQuery } from "../../run/reads.ts";
import type { LogColumn } from "../../run/storage/commits.ts";
import { RunSource } from "../../streams/run-source.ts";
import { type Call, unwrap } from "../call.ts";
import { type Mutation, mutate } from "../command.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer, RawJson } from "../json.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";
import { seatFor } from "../seat.ts";
import { refuseEnded } from "../standing.ts";

/** How long a list may wait for news, when it has none: `wait_ms`. @throws RequestRefused `QUERY_INVALID` */
function waitOf(waitMs: number | undefined): number {
  if (waitMs !== undefined && waitMs > MAX_WAIT_MS) {
    const message = `wait_ms must be at most ${MAX_WAIT_MS}`;
    refuseIssues("QUERY_INVALID", [{ field: "wait_ms", rule: "max", limit: MAX_WAIT_MS, message }]);
  }
  return waitMs ?? 0;
}

/**
 * Reads the log; when that gives nothing, again whenever the log has grown, for so long at most. The run's object may
 * sleep meanwhile.
 */
async function readOrWait(call: Call, query: LogQuery, waitMs: number): Promise<LogPage> {
  const untilMs = Date.now() + waitMs;
  const page = unwrap(await call.run().readLog(query));
  if (waitMs === 0 || page.items !== "[]") return page;
  const seat = await seatFor(call);
  let source: RunSource | null = null;
  try {
    source = await RunSource.open(
      () => call.run(),
      false,
      () => undefined,
    );
    if (source === null) throw new RequestRefused(runNotFound);
    for (;;) {
      const { lastSeq } = source.head;
      const latest = unwrap(await call.run().readLog(query));
      await refuseEnded(call);
      const restMs = untilMs - Date.now();
      if (latest.items !== "[]" || restMs <= 0) return latest;
      await source.grownPast(lastSeq, restMs);
    }
  } finally {
    source?.close();
    seat?.release();
  }
}

/** `GET /context/…/events` and `…/blackboard/patches` (contract 02 §3.1, §5.2). */
async function listContext(call: Call, column: LogColumn, member: string): Promise<HttpAnswer> {
  const { since_seq, tail, wait_ms } = call.query({ since_seq: "uint", tail: "uint", wait_ms: "uint" });
  const query = { column, sinceSeq: since_seq ?? 0, tail: tail ?? null, limit: null };
  const page = await readOrWait(call, query, waitOf(wait_ms));
  return jsonAnswer({ [member]: new RawJson(page.items) });
}

/** `GET /v1/…/events` and `…/blackboard/patches`: pages, ascending. */
async function listNative(call: Call, column: LogColumn, member: string): Promise<HttpAnswer> {
  const { since_seq, tail, limit, cursor, wait_ms } = call.query({
    since_seq: "uint",
    tail: "uint",
    limit: "uint",
    cursor: "string",
    wait_ms: "uint",
  });
  const sinceSeq = readCursor(cursor, isWholeNumber) ?? since_seq ?? 0;
  const query =
    tail === undefined
      ? { column, sinceSeq, tail: null, limit: pageLimit(limit) }
      : { column, sinceSeq, tail: Math.min(tail, pageLimit(Number.MAX_SAFE_INTEGER)), limit: null };
  const page = await readOrWait(call, query, waitOf(wait_ms));
  return jsonAnswer({ [member]: new RawJson(page.items), ...pageLinks(call, page.nextSeq) });
}

export const listEventsContext = (call: Call) => listContext(call, "event", "events");
export const listEventsNative = (call: Call) => listNative(call, "event", "events");
export const listPatchesContext = (call: Call) => listContext(call, "patch", "patches");
export const listPatchesNative = (call: Call) => listNative(call, "patch", "patches");

export const append: Mutation<"append_event", "appendEvent"> = {
  body: "appendEvent",
  command: ({ command_id: _commandId, ...event }) => ({ op: "append_event", ...event }),
  context: ({ outcome }) => ({ ok: true, event: outcome.event }),
  native: ({ outcome }) => ({ members: { event: outcome.event }, status: 201 }),
  represents: ["run"],
};

/** `POST …/events` (contract 02 §3.2, 03 §1). */
export const appendEvent = (call: Call) => mutate(append, call);
