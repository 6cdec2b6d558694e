import {
  type DeliveryKey,
  deliveriesOf,
  forgetDeliveries,
  oldDeliveries,
  openDeliveries,
} from "../directory/deliveries.ts";
import { deletedHooks, forgetHook } from "../directory/hooks.ts";
import type { Env } from "../env.ts";
import { processDelivery } from "../hooks/in/process.ts";

/** Most deliveries that are processed per tick: what is left over is next tick's first. */
const MAX_PER_TICK = 1_000;
/** Deliveries that are forgotten in one step, and steps per tick. */
const FORGOTTEN_AT_ONCE = 1_000;
const MAX_STEPS = 5;
/** Deliveries processed at once; those with a longer body one by one, because each is in memory as a whole. */
const AT_ONCE = 10;
const LONG_BYTES = 256 * 1024;
/** Deleted hooks that are cleared away per tick. */
const MAX_HOOKS_PER_TICK = 20;

/** What came of it. */
export interface Finished {
  processed: number;
  forgotten: number;
  failed: number;
}

/**
 * The net below the processing that follows an answer: processes deliveries that were cut off or wait for another try,
 * forgets those that were kept long enough, and clears away what deleted hooks have left. Whatever is dealt with leaves its
 * list or moves back in it, so that stopping anywhere and running this twice changes nothing.
 */
export async function finishDeliveries(env: Env, nowMs: number): Promise<Finished> {
  const db = env.DIRECTORY;
  const finished: Finished = { processed: 0, forgotten: 0, failed: 0 };
  const [short, long] = byLength(await openDeliveries(db, nowMs, MAX_PER_TICK));
  for (let start = 0; start < short.length; start += AT_ONCE) {
    await Promise.all(short.slice(start, start + AT_ONCE).map((key) => finish(env, key, nowMs, finished)));
  }
  for (const key of long) await finish(env, key, nowMs, finished);
  for (let step = 0; step < MAX_STEPS; step += 1) {
    const old = await oldDeliveries(db, nowMs, FORGOTTEN_AT_ONCE);
    await forget(env, old, nowMs, finished);
    if (old.length < FORGOTTEN_AT_ONCE) break;
  }
  for (const hook of await deletedHooks(db, MAX_HOOKS_PER_TICK)) {
    const left = await deliveriesOf(db, hook, FORGOTTEN_AT_ONCE);
    await forget(env, left, nowMs, finished);
    if (left.length < FORGOTTEN_AT_ONCE) await forgetHook(db, hook);
  }
  return finished;
}

function byLength<T extends { bytes: number }>(deliveries: T[]): [short: T[], long: T[]] {
  const isLong = ({ bytes }: T) => bytes > LONG_BYTES;
  return [deliveries.filter((delivery) => !isLong(delivery)), deliveries.filter(isLong)];
}

async function forget(env: Env, keys: DeliveryKey[], nowMs: number, finished: Finished): Promise<void> {
  await forgetDeliveries(env.DIRECTORY, keys, nowMs);
  finished.forgotten += keys.length;
}

async function finish(env: Env, key: DeliveryKey, nowMs: number, finished: Finished): Promise<void> {
  try {
    // A long tick must not claim with deadlines that have passed before the work begins.
    const processed = await processDelivery(env, key, Math.max(nowMs, Date.now()));
    // Read after the wait: others of the group add to it meanwhile.
    if (processed !== null) finished.processed += 1;
  } catch (error) {
    finished.failed += 1;
    const { hook_id, delivery_id } = key;
    console.error(JSON.stringify({ event: "delivery_failed", hook_id, delivery_id, error: String(error) }));
  }
}
