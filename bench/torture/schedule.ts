import { createRng, type Rng } from "../drill/rng.ts";
import type { Victim } from "./server.ts";

/** What is done to the server until it is killed the next time, in this order or, where the moments are near, at once. */
export interface Stretch {
  readonly kill: Kill;
  readonly crons: readonly CronRun[];
  /** In the order of time. */
  readonly jumps: readonly Jump[];
}

export interface Kill {
  readonly victim: Victim;
  /** `serving`: after the server has answered again; `starting`: after it was launched, or its runtime was killed. */
  readonly when: "serving" | "starting";
  readonly afterMs: number;
}

export interface CronRun {
  /** After the server was launched, or its runtime was killed. */
  readonly atMs: number;
  /** What the cron is told, relative to the server's clock: it may be told any time. */
  readonly toldMs: number;
  /** Two at the same moment. */
  readonly twice: boolean;
}

export interface Jump {
  /** After the server has answered again. */
  readonly atMs: number;
  /** Negative: back. */
  readonly byMs: number;
}

/** Everything that is done to the server, drawn from the seed before anything begins. */
export interface Schedule {
  /** One for each kill. */
  readonly stretches: readonly Stretch[];
  /** What is done after the last restart. */
  readonly tail: Omit<Stretch, "kill">;
}

const minuteMs = 60_000;

/** Far from the streams of the drills and their agents. */
const scheduleStream = 2_000_000;
const startingShare = 0.2;
/** Restarts are as hard to survive as work: a start takes two to four seconds. */
const startingAfterMs = { min: 0, max: 3_000 };
const servingAfterMs = { min: 500, max: 3_000 };
const jumpShare = 0.35;
const backShare = 0.35;
const backMs = { min: 50, max: 3_000 };
const forwardMs = { min: 1_000, max: 60 * minuteMs };
/** Longer than a drill's leases. */
const leastLastMs = 10_000;
const mostCrons = 3;

/** @param seed whole number from 0 to 2^32 − 1 */
export function drawSchedule(seed: number, kills: number): Schedule {
  const rng = createRng(seed, scheduleStream);
  const stretches: Stretch[] = [];
  // A runtime that its process starts anew begins with the clock that the process was launched with, so that one whose
  // clock has been moved since is killed with its process.
  let isMoved = false;
  for (let kill = 0; kill < kills; kill += 1) {
    // The first start is left alone: without it there is nothing to lose.
    const when = rng.chance(startingShare) && kill > 0 ? "starting" : "serving";
    const afterMs = drawFrom(rng, when === "starting" ? startingAfterMs : servingAfterMs);
    const jumps = when === "serving" && rng.chance(jumpShare) ? [drawJump(rng, afterMs)] : [];
    isMoved ||= jumps.length > 0;
    const drawn = rng.pick<Victim>(["server", "runtime", "both"]);
    const victim = isMoved && drawn === "runtime" ? "both" : drawn;
    if (victim !== "runtime") isMoved = false;
    stretches.push({ kill: { victim, when, afterMs }, crons: drawCrons(rng, afterMs), jumps });
  }
  const last = drawJump(rng, servingAfterMs.max);
  // Once in each torture leases end while nobody notices, however few kills it has.
  const jumps = [{ ...last, byMs: Math.max(last.byMs, leastLastMs) }];
  return { stretches, tail: { crons: drawCrons(rng, servingAfterMs.max), jumps } };
}

function drawJump(rng: Rng, withinMs: number): Jump {
  const atMs = rng.between(0, withinMs);
  if (rng.chance(backShare)) return { atMs, byMs: -drawFrom(rng, backMs) };
  // Evenly by magnitude: most jumps end some leases, some end all clocks.
  const byMs = Math.round(forwardMs.min * (forwardMs.max / forwardMs.min) ** rng.next());
  return { atMs, byMs };
}

/** At odd times: some as soon as the server starts, some twice at once, most told of another time than it is. */
function drawCrons(rng: Rng, withinMs: number): CronRun[] {
  return Array.from({ length: rng.between(0, mostCrons) }, () => ({
    atMs: rng.chance(0.3) ? 0 : rng.between(0, withinMs * 2),
    toldMs: rng.pick([0, -rng.between(0, 10 * minuteMs), rng.between(0, 10 * minuteMs)]),
    twice: rng.chance(0.3),
  })).sort((a, b) => a.atMs - b.atMs);
}

function drawFrom(rng: Rng, range: { readonly min: number; readonly max: number }): number {
  return rng.between(range.min, range.max);
}
