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
  /** Whether something else than the next row remembers that hash. */
  isVouched: boolean;
  /** Null for what stands before the first row that is taken. */
  row: LogRow | null;
}

/**
 * Walks along the chain, row by row, and names the first commit that is not what was committed.
 *
 * Where the hash of a row is not the one that the next row bears, one of the two was changed, or both. The row after both
 * tells: it bears the hash of the second as that was committed. The first one is good only if the second comes to that hash
 * by bearing the hash of the first; otherwise nothing says so, and it is the first one that is named.
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
    this.#last = { ...start, isChained: false, isVouched: false, row: null };
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
    const resolved = this.#suspect && this.#resolve(this.#suspect, before, row.prev_hash);
    if (resolved) return resolved;
    if (row.seq !== before.seq + 1) return { seq: before.seq + 1, reason: "is missing" };
    const isBorne = row.prev_hash === null ? !before.isChained : row.prev_hash === before.hash;
    const fits = before.hash === null || isBorne;
    const disagreement = disagreementIn(row, this.#runId);
    if (disagreement !== null) {
      // A row that was moved here from elsewhere bears nothing of the one before.
      const isBlamed = fits || before.isVouched || disagreement === MOVED;
      return isBlamed ? { seq: row.seq, reason: disagreement } : notAsBorne(before);
    }
    this.#last = {
      seq: row.seq,
      hash: commitHash(row),
      isChained: row.prev_hash !== null,
      isVouched: vouched !== null,
      row,
    };
    if (row.prev_hash !== null) this.#chainedFromSeq ??= row.seq;
    if (!fits) this.#suspect = before;
    return vouched === null ? null : this.#check(vouched);
  }

  /** All rows were taken: the hash that the run itself remembers of the last one. */
  end(hash: string): BadCommit | null {
    return this.#check({ hash, by: "the run" });
  }

  #check(vouched: { hash: string; by: string }): BadCommit | null {
    if (this.#suspect !== null) return this.#resolve(this.#suspect, this.#last, vouched.hash);
    if (vouched.hash === this.#last.hash) return null;
    return { seq: this.#last.seq, reason: `does not have the hash that ${vouched.by} remembers` };
  }

  /** Which of two that do not fit is the first bad one. @param committed the hash of the second as it was committed. */
  #resolve(first: Known, second: Known, committed: string | null): BadCommit {
    this.#suspect = null;
    const fitting = second.row && commitHash({ ...second.row, prev_hash: first.hash });
    const isFirstGood = first.isVouched || (fitting === committed && second.hash !== committed);
    return isFirstGood
      ? { seq: second.seq, reason: "does not bear the hash of the commit before" }
      : notAsBorne(first);
  }
}

function notAsBorne({ seq }: Known): BadCommit {
  return { seq, reason: "does not have the hash that the next commit bears" };
}

const MOVED = "has the event of another commit";

/** In what a row does not agree with itself; null when it does. */
function disagreementIn(row: LogRow, runId: string): string | null {
  const event = parsed<EventRecord>(row.event);
  if (event === null) return "has an event that is not JSON";
  if (event.seq !== row.seq || event.run_id !== runId) return MOVED;
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
