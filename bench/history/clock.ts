/** The server's clock was set to another time. Times are by the recorder's clock, ms. */
export interface ClockJump {
  /** Before the jump was asked for. */
  readonly atMs: number;
  /** When it was in force at the latest: its request was answered, or the restart that brought it was over. */
  readonly doneMs: number;
  /** To a later time (more than 0), or to an earlier one. */
  readonly byMs: number;
}

/** What was given for a while: the term began between these times. */
export interface Term {
  readonly calledMs: number;
  readonly returnedMs: number;
  readonly termMs: number;
}

/**
 * When terms that a server counts by a clock of its own may be over, by the clock of who records. The server's time never goes
 * back: after a jump to an earlier time it stands still until the clock has caught up.
 */
export interface ServerClock {
  /** The term is not over before this. */
  earliestEndMs(term: Term): number;
  /** It is over after this; Infinity where nobody knows when it began. */
  latestEndMs(term: Term): number;
}

/** @param jumps in order of time */
export function clockOf(jumps: readonly ClockJump[]): ServerClock {
  const forward = jumps.filter(({ byMs }) => byMs > 0);
  const back = jumps.filter(({ byMs }) => byMs < 0);
  return {
    // Each jump forward, as early as it can have come, takes its length off what is left.
    earliestEndMs({ calledMs, termMs }) {
      let atMs = calledMs;
      let leftMs = termMs;
      for (const jump of forward) {
        if (jump.doneMs < calledMs) continue;
        const jumpMs = Math.max(jump.atMs, atMs);
        if (atMs + leftMs <= jumpMs) break;
        leftMs -= jumpMs - atMs + jump.byMs;
        atMs = jumpMs;
        if (leftMs <= 0) return atMs;
      }
      return atMs + leftMs;
    },
    // Each jump back, as late as it can have come, adds its length, unless the clock had caught up before the term began.
    latestEndMs({ returnedMs, termMs }) {
      let lagMs = 0;
      let atMs = Number.NEGATIVE_INFINITY;
      for (const jump of back) {
        if (jump.atMs > returnedMs) break;
        const jumpMs = Math.min(jump.doneMs, returnedMs);
        lagMs = Math.max(0, lagMs - (jumpMs - atMs)) - jump.byMs;
        atMs = jumpMs;
      }
      let endMs = returnedMs + Math.max(0, lagMs - (returnedMs - atMs)) + termMs;
      for (const jump of back) if (jump.atMs > returnedMs && jump.atMs <= endMs) endMs -= jump.byMs;
      return endMs;
    },
  };
}

/** A clock that nobody sets. */
export const STEADY: ServerClock = clockOf([]);
