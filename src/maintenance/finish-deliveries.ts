import { type DeliveryKey, deliveriesOf, dueDeliveries, forgetDeliveries } from "../directory/deliveries.ts";
import { deletedHooks, forgetHook } from "../directory/hooks.ts";
import type { Env } from "../env.ts";
import { processDelivery } from "../hooks/in/process.ts";

/** Most deliveries per tick: what is left over is next tick's first. */
const MAX_PER_TICK = 1_000;
/** Deliveries processed at once: each may hold a long body. */
const AT_ONCE = 5;
/** Hooks that are cleared away per tick, and deliveries of each. */
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
  const finished: Finished = { processed: 0, forgotten: 0, failed: 0 };
  const due = await dueDeliveries(env.DIRECTORY, nowMs, MAX_PER_TICK);
  const isOpen = ({ status }: (typeof due)[number]) => status === "received" || status === "processing";
  const open = due.filter(isOpen);
  for (let start = 0; start < open.length; start += AT_ONCE) {
    await Promise.all(open.slice(start, start + AT_ONCE).map((key) => finish(env, key, nowMs, finished)));
  }
  await forget(
    env,
    due.filter((delivery) => !isOpen(delivery)),
    nowMs,
    finished,
  );
  for (const hook of await deletedHooks(env.DIRECTORY, MAX_HOOKS_PER_TICK)) {
    const left = await deliveriesOf(env.DIRECTORY, hook, MAX_PER_TICK);
    await forget(env, left, nowMs, finished);
    if (left.length < MAX_PER_TICK) await forgetHook(env.DIRECTORY, hook);
  }
  return finished;
}

async function forget(env: Env, keys: DeliveryKey[], nowMs: number, finished: Finished): Promise<void> {
  await forgetDeliveries(env.DIRECTORY, keys, nowMs);
  finished.forgotten += keys.length;
}

async function finish(env: Env, key: DeliveryKey, nowMs: number, finished: Finished): Promise<void> {
  try {
    const processed = await processDelivery(env, key, nowMs);
    // Read after the wait: others of the group add to it meanwhile.
    if (processed !== null) finished.processed += 1;
  } catch (error) {
    finished.failed += 1;
    const { hook_id, delivery_id } = key;
    console.error(JSON.stringify({ event: "delivery_failed", hook_id, delivery_id, error: String(error) }));
  }
}
