import { fieldInvalid } from "../domain/refusals.ts";
import { MAX_PAGE_LENGTH } from "../protocol/limits.ts";
import { type BadCommit, ChainWalk } from "./chain-walk.ts";
import type { RunClient } from "./run-client.ts";
import type { Result } from "./run-object.ts";

/** What a run remembers of its log beside the log itself. */
export interface Vouchers {
  run_id: string;
  /** What stands before the first commit; null when others were asked about: it may be dear to hash. */
  initial_hash: string | null;
  /** Seq and hash of the newest commit. */
  last_seq: number;
  log_hash: string;
  /** Whether there are commits after the newest one that the run knows of. */
  has_strays: boolean;
  /** Hashes of commits, by the saved head, by segments and by checkpoints; of commits that were asked about. */
  hashes: { seq: number; hash: string; by: string }[];
}

/** What was verified (docs/log.md). */
export interface Verification {
  ok: boolean;
  verified_from_seq: number;
  /** The last commit that was found good. */
  verified_upto_seq: number;
  /** Since which of these commits each bears the hash of the one before; null when none does. */
  chained_from_seq: number | null;
  /** Hash of the last commit that was asked for, and looked at; null when there is a bad one. */
  log_hash: string | null;
  first_bad: BadCommit | null;
  /** Where to go on; null when all was looked at that was asked for. */
  next_seq: number | null;
}

/** How much of a log one request looks at: commits, and about how many UTF-16 units. */
export interface VerifyBounds {
  commits: number;
  length: number;
}

export const VERIFY_BOUNDS: VerifyBounds = { commits: 100_000, length: 128 * 1024 * 1024 };

/** The row that tells which of two is to blame when they do not fit, and the one before it. */
const LOOK_AHEAD = 2;

/**
 * Walks along the chain of a run's log, page by page, from outside of its object.
 * @param uptoSeq the end of the log when null, or when the log ends before.
 */
export async function verifyLog(
  run: RunClient,
  fromSeq: number,
  uptoSeq: number | null,
  bounds: VerifyBounds = VERIFY_BOUNDS,
): Promise<Result<Verification>> {
  const end = Math.min(uptoSeq ?? Number.MAX_SAFE_INTEGER, fromSeq - 1 + bounds.commits);
  const read = await run.readVouchers({ afterSeq: fromSeq - 1, uptoSeq: end + LOOK_AHEAD });
  if (!read.ok) return read;
  const vouchers = read.value;
  if (fromSeq > vouchers.last_seq + 1) {
    return {
      ok: false,
      refusal: fieldInvalid("from_seq", "max", `the log ends at seq ${vouchers.last_seq}`),
    };
  }
  const lastSeq = Math.min(uptoSeq ?? Number.MAX_SAFE_INTEGER, vouchers.last_seq);
  const verification = new LogVerification(run, vouchers, fromSeq, Math.min(end, lastSeq));
  const bad = await verification.walk(bounds.length);
  const { uptoSeq: upto, hash, chainedFromSeq } = verification;
  return {
    ok: true,
    value: {
      ok: bad === null,
      verified_from_seq: fromSeq,
      verified_upto_seq: bad === null ? upto : bad.seq - 1,
      chained_from_seq: chainedFromSeq,
      log_hash: bad === null ? hash : null,
      first_bad: bad,
      next_seq: bad === null && upto < lastSeq ? upto + 1 : null,
    },
  };
}

class LogVerification {
  readonly #run: RunClient;
  readonly #vouchers: Vouchers;
  readonly #walk: ChainWalk;
  readonly #fromSeq: number;
  /** Rows are read to here: a little further than they are verified. */
  #readUpto: number;
  /** Verified up to here. */
  uptoSeq: number;
  /** Of commit `uptoSeq`. */
  hash: string | null;
  /** Bytes in R2 that are not what was written, though the rows they hold were not found bad yet. */
  #damage: BadCommit | null = null;

  constructor(run: RunClient, vouchers: Vouchers, fromSeq: number, uptoSeq: number) {
    this.#run = run;
    this.#vouchers = vouchers;
    this.#fromSeq = fromSeq;
    this.uptoSeq = uptoSeq;
    this.#readUpto = Math.min(uptoSeq + LOOK_AHEAD, vouchers.last_seq);
    const start =
      fromSeq === 1 ? { seq: 0, hash: vouchers.initial_hash } : { seq: fromSeq - LOOK_AHEAD, hash: null };
    this.#walk = new ChainWalk(vouchers.run_id, start);
    this.hash = start.hash;
  }

  /** Of the commits that were asked for, not of those around them. */
  get chainedFromSeq(): number | null {
    const seq = this.#walk.chainedFromSeq;
    return seq === null || seq > this.uptoSeq ? null : Math.max(seq, this.#fromSeq);
  }

  /** The first bad commit, or null. Ends early, with a lower `uptoSeq`, past that many UTF-16 units. */
  async walk(maxLength: number): Promise<BadCommit | null> {
    const { last_seq, log_hash, has_strays } = this.#vouchers;
    let length = 0;
    while (this.#walk.seq < this.#readUpto) {
      const page = await this.#page();
      const bad = "seq" in page ? page : null;
      if (bad !== null) return this.#asked(bad);
      if ("length" in page) length += page.length;
      const isEnough = length > maxLength && this.#walk.seq >= this.#fromSeq;
      if (isEnough && this.#walk.seq < this.uptoSeq) {
        this.uptoSeq = this.#walk.seq;
        this.hash = this.#walk.hash;
        this.#readUpto = Math.min(this.uptoSeq + LOOK_AHEAD, last_seq);
      }
    }
    if (this.#walk.seq < last_seq) return this.#asked(this.#damage);
    const bad = this.#walk.end(log_hash) ?? this.#damage;
    if (bad !== null || !has_strays || this.uptoSeq < last_seq) return this.#asked(bad);
    return { seq: last_seq + 1, reason: "is not known to the run" };
  }

  /** Takes the next page; its length, or the first bad commit. */
  async #page(): Promise<{ length: number } | BadCommit> {
    const query = {
      afterSeq: this.#walk.seq,
      uptoSeq: this.#readUpto,
      maxLength: MAX_PAGE_LENGTH,
    };
    let answer = await this.#run.readCommits(query);
    let damage: BadCommit | null = null;
    if (!answer.ok && answer.refusal.code === "LOG_DAMAGED") {
      damage = { seq: Math.max(answer.refusal.from_seq, query.afterSeq + 1), reason: answer.refusal.error };
      answer = await this.#run.readCommits({ ...query, unchecked: true });
    }
    if (!answer.ok) return damage ?? { seq: query.afterSeq + 1, reason: answer.refusal.error };
    const { rows } = answer.value;
    if (rows.length === 0) return damage ?? { seq: query.afterSeq + 1, reason: "is missing" };
    let length = 0;
    for (const row of rows) {
      const bad = this.#walk.take(row, this.#vouched(row.seq));
      if (bad !== null) return bad;
      if (row.seq === this.uptoSeq) this.hash = this.#walk.hash;
      length += row.event.length + (row.patch?.length ?? 0);
    }
    this.#damage ??= damage;
    return { length };
  }

  #vouched(seq: number): Vouchers["hashes"][number] | null {
    const known = this.#vouchers.hashes.filter((voucher) => voucher.seq === seq);
    return known.find(({ hash }) => hash !== known[0]?.hash) ?? known[0] ?? null;
  }

  /** A commit past those that were asked for is nobody's business. */
  #asked(bad: BadCommit | null): BadCommit | null {
    return bad !== null && bad.seq > this.uptoSeq ? null : bad;
  }
}
