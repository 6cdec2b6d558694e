import { changedRuns, type Followed, setToldUpto, type ToldUpto } from "../../directory/followed-runs.ts";
import type { Env } from "../../env.ts";
import { subscriptionClient } from "./subscription-client.ts";

/** Runs told of at once. */
const PAGE = 500;
/**
 * So much of the order is told of again: a row may still come to its place there. That is more than a row may be behind
 * without having a place of its own (`LATE_AFTER_MS`), by as much as clocks may differ and a statement may take.
 */
const UNSETTLED_MS = 5 * 60_000;
/** The place is kept when it has moved by so much: a row written per subscription and tick would tell nobody anything. */
const KEEP_AFTER_MS = 5 * 60_000;

/**
 * Tells a subscription of runs that it is about and that have changed since it was last told of all: what nudges that were
 * lost would have told it. It does nothing with what it knows already, so that this may be done twice.
 * @param limit of runs; what is left over is next time's.
 * @returns how many runs it was told of.
 */
export async function catchUp(env: Env, followed: Followed, nowMs: number, limit: number): Promise<number> {
  const toldUpto = notAhead(followed.toldUpto, nowMs);
  let place: ToldUpto = toldUpto;
  let told = 0;
  let isAtEnd = false;
  while (told < limit && !isAtEnd) {
    const asked = Math.min(PAGE, limit - told);
    const page = await changedRuns(env.DIRECTORY, followed, place, asked);
    if (page.length > 0) {
      const nudges = page.map(({ run_id, last_event_seq }) => ({ run_id, seq: last_event_seq }));
      await subscriptionClient(env.SUBSCRIPTIONS, followed).nudge(nudges);
    }
    told += page.length;
    isAtEnd = page.length < asked;
    const last = page.at(-1);
    if (last !== undefined) place = { ms: last.ms, run_id: last.run_id };
  }
  const settledMs = Math.max(toldUpto.ms, nowMs - UNSETTLED_MS);
  const next = isAtEnd || place.ms > settledMs ? { ms: settledMs, run_id: "" } : place;
  const isKept = toldUpto === followed.toldUpto && next.ms - toldUpto.ms < KEEP_AFTER_MS;
  if (!isAtEnd || !isKept) await setToldUpto(env.DIRECTORY, followed, next);
  return told;
}

/** A place that a clock which ran ahead has left is given up: until that moment nothing would be told of. */
function notAhead(place: ToldUpto, nowMs: number): ToldUpto {
  return place.ms > nowMs ? { ms: nowMs - UNSETTLED_MS, run_id: "" } : place;
}
