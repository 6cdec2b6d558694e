import { activeSubscriptions, type Followed } from "../directory/followed-runs.ts";
import { readCursor, writeCursor } from "../directory/maintenance.ts";
import type { Env } from "../env.ts";
import { catchUp } from "../hooks/out/catch-up.ts";

const DUTY = "nudge_subscriptions";
/** Most subscriptions per tick, and runs that one of them is told of: what is left over is next tick's. */
const MAX_SUBSCRIPTIONS_PER_TICK = 500;
const MAX_RUNS_PER_SUBSCRIPTION = 2_000;
/** Objects called at once. */
const AT_ONCE = 10;

/** What a tick did. Runs that were known already are not counted: nobody could tell. */
export interface Nudged {
  failed: number;
}

/**
 * The net below the nudges: tells each active subscription of its runs that have changed lately. The place in the list of
 * subscriptions is kept between ticks, and in that of its runs for each: one that cannot be reached does not hold up the
 * others.
 */
export async function nudgeSubscriptions(env: Env, nowMs: number): Promise<Nudged> {
  const nudged: Nudged = { failed: 0 };
  const after = await readCursor<Followed>(env.DIRECTORY, DUTY);
  const page = await activeSubscriptions(env.DIRECTORY, after, MAX_SUBSCRIPTIONS_PER_TICK);
  for (let start = 0; start < page.length; start += AT_ONCE) {
    await Promise.all(
      page.slice(start, start + AT_ONCE).map((followed) => tell(env, followed, nowMs, nudged)),
    );
  }
  const next = page.length < MAX_SUBSCRIPTIONS_PER_TICK ? null : (page.at(-1) ?? null);
  // Most deployments have fewer: then there is no place to keep, and nothing is written.
  if (after !== null || next !== null) await writeCursor(env.DIRECTORY, DUTY, next, nowMs);
  return nudged;
}

async function tell(env: Env, followed: Followed, nowMs: number, nudged: Nudged): Promise<void> {
  try {
    await catchUp(env, followed, nowMs, MAX_RUNS_PER_SUBSCRIPTION);
  } catch (error) {
    nudged.failed += 1;
    const { subscription_id } = followed;
    console.error(JSON.stringify({ event: "catch_up_failed", subscription_id, error: String(error) }));
  }
}
