import type { PatchRecord } from "../protocol/blackboard.ts";
import type { EventRecord } from "../protocol/event.ts";
import { commitHash, type LogRow } from "./chain.ts";

/** A commit that is not what was committed. */
export interface BadCommit {
  /** 0 for what the run began with. */
  seq: number;
  reason: string;
}

interface Known {
  seq: number;
  /** Null when nothing is known of it. */
  hash: string | null;
  isChained: boolean;
}

/**
 * Walks along the chain, row by row, and names the first commit that is not what was committed.
 *
 * Where the hash of a row is not the one that the next row has, one of the two was changed: the row after both tells
 * which, because a row that was not changed has the hash that its successor bears.
 */
export class ChainWalk {
  readonly #runId: string;
  #last: Known;
  /** The row before the last, when the two do not fit and it is not known yet which is to blame. */
  #suspect: Known | null = null;
  #chainedFromSeq: number | null = null;

  /** @param start what comes before the first row that is taken; a hash of null for a row that is not looked at. */
  constructor(runId: string, start: { seq: number; hash: string | null }) {
    this.#runId = runId;
    this.#last = { ...start, isChained: false };
  }

  /** Of the last row that was taken. */
  get seq(): number {
    return this.#last.seq;
  }

  /** Of the last row that was taken; null when none was. */
  get hash(): string | null {
    return this.#last.hash;
  }

  /** Since which of the rows that were taken the log is chained; null when none of them is. */
  get chainedFromSeq(): number | null {
    return this.#chainedFromSeq;
  }

  /**
   * Goes on with the row that comes next.
   * @param vouched the hash that something else than the next row remembers of this one, if there is such a thing.
   * @returns the first bad commit, once it is known.
   */
  take(row: LogRow, vouched: { hash: string; by: string } | null): BadCommit | null {
    const before = this.#last;
    const resolved = this.#suspect && this.#resolve(this.#suspect, before, row.prev_hash === before.hash);
    if (resolved) return resolved;
    if (row.seq !== before.seq + 1) return { seq: before.seq + 1, reason: "is missing" };
    const disagreement = disagreementIn(row, this.#runId);
    if (disagreement !== null) return { seq: row.seq, reason: disagreement };
    this.#last = { seq: row.seq, hash: commitHash(row), isChained: row.prev_hash !== null };
    if (row.prev_hash !== null) this.#chainedFromSeq ??= row.seq;
    if (row.prev_hash === null && before.isChained) return { seq: row.seq, reason: "is not chained" };
    const fits = row.prev_hash === null || before.hash === null || row.prev_hash === before.hash;
    if (!fits) this.#suspect = before;
    return vouched === null ? null : this.#check(vouched);
  }

  /** All rows were taken: the hash that the run itself remembers of the last one. */
  end(hash: string): BadCommit | null {
    return this.#check({ hash, by: "the run" });
  }

  #check(vouched: { hash: string; by: string }): BadCommit | null {
    const isGood = vouched.hash === this.#last.hash;
    if (this.#suspect !== null) return this.#resolve(this.#suspect, this.#last, isGood);
    if (isGood) return null;
    return { seq: this.#last.seq, reason: `does not have the hash that ${vouched.by} remembers` };
  }

  #resolve(first: Known, second: Known, isSecondGood: boolean): BadCommit {
    this.#suspect = null;
    if (!isSecondGood) return { seq: second.seq, reason: "does not bear the hash of the commit before" };
    return { seq: first.seq, reason: "does not have the hash that the next commit bears" };
  }
}

/** In what a row does not agree with itself; null when it does. */
function disagreementIn(row: LogRow, runId: string): string | null {
  const event = parsed<EventRecord>(row.event);
  if (event === null) return "has an event that is not JSON";
  if (event.seq !== row.seq || event.run_id !== runId) return "has the event of another commit";
  if (row.patch === null) return null;
  const patch = parsed<PatchRecord>(row.patch);
  if (patch === null) return "has a patch that is not JSON";
  const isOwn = patch.seq === row.seq && patch.source_event_seq === row.seq && patch.run_id === runId;
  return isOwn ? null : "has the patch of another commit";
}

function parsed<T extends object>(text: string): T | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" ? (value as T | null) : null;
  } catch {
    return null;
  }
}
