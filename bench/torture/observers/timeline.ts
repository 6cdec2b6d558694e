import type { Disturbances } from "./observer.ts";

/*
 * What time it may have been for the server. Its clock is this machine's plus an offset, which jumps; while it is dead,
 * nothing happens at all.
 */

/** The smallest and the largest offset of the server's clock between two moments of this machine's, in milliseconds. */
export function offsetsBetween(
  { jumps }: Disturbances,
  fromMs: number,
  toMs: number,
): { min: number; max: number } {
  const offsets: number[] = [];
  let offset = 0;
  for (let at = 0; at <= jumps.length; at += 1) {
    // While a jump is under way, both the offset before it and the one after it may hold.
    const sinceMs = jumps[at - 1]?.askedMs ?? Number.NEGATIVE_INFINITY;
    const untilMs = jumps[at]?.answeredMs ?? Number.POSITIVE_INFINITY;
    if (sinceMs <= toMs && untilMs >= fromMs) offsets.push(offset);
    offset += jumps[at]?.byMs ?? 0;
  }
  return { min: Math.min(...offsets), max: Math.max(...offsets) };
}

/**
 * The latest moment, by the server's clock, at which something may happen that was due at a moment of that clock, and that
 * it has known of since a moment of this machine's.
 *
 * An alarm that was set by the clock before a jump still goes off by that clock: so the smallest offset counts. And it needs a
 * server that lives: `slackMs` in one piece.
 */
export function latestMoment(
  disturbances: Disturbances,
  dueMs: number,
  knownSinceMs: number,
  slackMs: number,
): { serverMs: number; machineMs: number } {
  const { min } = offsetsBetween(disturbances, knownSinceMs, Number.POSITIVE_INFINITY);
  const dueHereMs = Math.max(dueMs - min, knownSinceMs);
  let fromMs = dueHereMs;
  for (const { fromMs: downMs, untilMs } of disturbances.outages) {
    if (downMs >= fromMs + slackMs) break;
    if ((untilMs ?? Number.POSITIVE_INFINITY) > fromMs) fromMs = untilMs ?? Number.POSITIVE_INFINITY;
  }
  const machineMs = fromMs + slackMs;
  const { max } = offsetsBetween(disturbances, dueHereMs, machineMs);
  return { serverMs: machineMs + max, machineMs };
}
