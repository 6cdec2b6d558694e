import type { CommandAnswer, CommandRecord } from "./records.ts";
import type { Violation } from "./violation.ts";

/** Everything the agents write down while they work: the audit's second source, and the summary's. */
export interface Journal {
  readonly commands: CommandRecord[];
  /** Milliseconds from sending to the last byte, by what was asked. Requests whose connection was cut are not in it. */
  readonly latencies: Map<string, number[]>;
  readonly violations: Violation[];
  readonly counts: Counts;
}

export interface Counts {
  /** Requests that got no answer or one that asks to come again (429, 5xx); each was sent again. */
  unanswered: number;
  /** Claims that found nothing. */
  emptyClaims: number;
  /** Claims that waited for something to do, and were given it. */
  waitedClaims: number;
  facts: number;
  heartbeats: number;
  /** Requests of several commands that were accepted. */
  batches: number;
  /** Attempts that agents ended themselves: as failed, and as given back. */
  failures: number;
  releases: number;
  /** Dead letters put back on the board, tasks cancelled, pauses of the run. */
  redriven: number;
  cancelled: number;
  pauses: number;
  /** What agents sent under a lease that they had no more. */
  leasesLost: number;
  /** Locks that were given, by themselves or with a task; and those that others had. */
  locks: number;
  locksRefused: number;
  crashes: { silent: number; late: number; stalled: number };
  retries: { twice: number; repeated: number; cut: number };
  /** Commands that were given up without an answer, because who had sent them crashed. */
  neverAnswered: number;
}

export function createJournal(): Journal {
  return {
    commands: [],
    latencies: new Map(),
    violations: [],
    counts: {
      unanswered: 0,
      emptyClaims: 0,
      waitedClaims: 0,
      facts: 0,
      heartbeats: 0,
      batches: 0,
      failures: 0,
      releases: 0,
      redriven: 0,
      cancelled: 0,
      pauses: 0,
      leasesLost: 0,
      locks: 0,
      locksRefused: 0,
      crashes: { silent: 0, late: 0, stalled: 0 },
      retries: { twice: 0, repeated: 0, cut: 0 },
      neverAnswered: 0,
    },
  };
}

/** A record that is still being written. */
export type OpenRecord = Omit<CommandRecord, "answers" | "missed"> & {
  readonly answers: CommandAnswer[];
  missed: number;
};

/** Adds one measured request. */
export function noteLatency(journal: Journal, name: string, elapsedMs: number): void {
  const values = journal.latencies.get(name);
  if (values === undefined) journal.latencies.set(name, [elapsedMs]);
  else values.push(elapsedMs);
}
