import { setTimeout as delay } from "node:timers/promises";
import { accepted, type Connection, withConnections } from "./connection.ts";
import { Deliveries, numberedNote } from "./deliveries.ts";
import type { Target } from "./measure.ts";
import { median, percentile } from "./stats.ts";
import { withWatchers } from "./watchers.ts";

export const watchers = 200;
/** A machine of two processors is busy with one note for 20 to 30 ms: any faster, and notes would wait for notes. */
export const paceMs = 50;
/** How long the last note may take to reach the last watcher. */
const patienceMs = 10_000;
/** What comes twice comes the second time within this. */
const echoMs = 200;

/** One stream to watch, and how to be heard on it. */
export interface Watched {
  target: Target;
  stream: string;
  /** Where notes are posted, one path after the other, round and round. */
  sources: readonly string[];
}

/** From sending a note to its receipt, over all notes and watchers of a round. */
export interface Latency {
  p50Ms: number;
  p99Ms: number;
}

/**
 * Watches a stream over many connections and posts notes at a bounded pace for a time. A first note to each source
 * warms it up, and is not counted.
 *
 * @throws Error unless every watcher receives every note exactly once.
 */
export async function fanOut({ target, stream, sources }: Watched, durationMs: number): Promise<Latency> {
  const uncounted = sources.length;
  const notes = uncounted + Math.ceil(durationMs / paceMs);
  const deliveries = new Deliveries({ watchers, notes, uncounted });
  const options = { path: stream, watchers, received: deliveries.received.bind(deliveries) };
  await withWatchers(target, options, () =>
    withConnections(target, 1, async ([connection]) => {
      for (let note = 0; note < notes; note += 1) {
        const pause = delay(paceMs);
        const path = sources[note % sources.length] ?? "";
        deliveries.sending(note);
        accepted(path, await (connection as Connection).post(path, numberedNote(note)));
        await pause;
      }
      await Promise.race([deliveries.whole(), delay(patienceMs)]);
      await delay(echoMs);
    }),
  );
  deliveries.check();
  return { p50Ms: median(deliveries.latencies), p99Ms: percentile(deliveries.latencies, 0.99) };
}
