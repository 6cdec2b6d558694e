import type { Rng } from "./rng.ts";

/** What can go wrong with an agent that holds a lease, or with its work. */
export type Fate =
  | "none"
  /** It vanishes; nobody ever hears of this lease again. */
  | "silent"
  /** It vanishes right after it sent its completion, comes back and sends it again. */
  | "late"
  /** It hangs until its lease has run out, and then writes and completes as if nothing had happened. */
  | "stalled"
  /** The work fails, and may be tried again. */
  | "fails"
  /** The work fails in a way that makes trying again senseless. */
  | "hopeless"
  /** It gives the task back. */
  | "gives_back";

/**
 * Everything about the work on one claim that is left to chance. It is drawn at once and from a stream of its own: the n-th
 * claim of an agent meets the same fate with the same seed, however often claims found nothing before.
 */
export interface Lot {
  readonly fate: Fate;
  /** Where a silent crash happens: 0 after the claim, 1 after the first half of the work, 2 before the completion. */
  readonly crashPoint: number;
  readonly workMs: number;
  readonly heartbeat: boolean;
  /** Whether everything that ends the work goes into one request. */
  readonly inOne: boolean;
  /** Whether a lock is wanted for the work; it is done without where others have it. */
  readonly locks: boolean;
  readonly restartMs: number;
  readonly oversleepMs: number;
}

/** Half of the claims see a heartbeat: enough to prove it, without measuring little else. */
const heartbeatShare = 0.5;
const inOneShare = 0.4;
const locksShare = 0.15;
/** A restarted agent takes this long to come back, in milliseconds. */
const restartMs = { min: 50, max: 400 };
/** A stalled agent wakes up this long after the term of its lease, in milliseconds. */
const oversleepMs = { min: 100, max: 1_500 };

/** @param shares of claims that an agent crashes on, and of those whose work fails or is given back, 0 to 1 */
export function drawLot(
  lots: Rng,
  shares: { readonly crash: number; readonly fail: number },
  workMs: { readonly min: number; readonly max: number },
): Lot {
  const crash = lots.pick<Fate>(["silent", "silent", "late", "stalled"]);
  const trouble = lots.pick<Fate>(["fails", "fails", "hopeless", "gives_back"]);
  const isCrash = lots.chance(shares.crash);
  const isTrouble = lots.chance(shares.fail);
  return {
    fate: isCrash ? crash : isTrouble ? trouble : "none",
    crashPoint: lots.between(0, 2),
    workMs: lots.between(workMs.min, workMs.max),
    heartbeat: lots.chance(heartbeatShare),
    inOne: lots.chance(inOneShare),
    locks: lots.chance(locksShare),
    restartMs: lots.between(restartMs.min, restartMs.max),
    oversleepMs: lots.between(oversleepMs.min, oversleepMs.max),
  };
}
