import { REVOCATION_BOUND_MS } from "../protocol/limits.ts";

/** A token that is no longer valid, as it was written down. */
export interface Revocation {
  seq: number;
  token_id: string;
  /** Epoch ms from when it would not be valid anyway, nor any token that comes from it. */
  expires_at_ms: number;
}

/** Reads what was revoked after a seq and has not expired, in order, all of it. */
export type ReadRevocations = (afterSeq: number, nowMs: number) => Promise<Revocation[]>;

/** Known to be so old, what is revoked is read again, beside the request that finds it so. */
const REFRESH_AFTER_MS = 10_000;
/** A read that has not ended by then is taken for dead: with the request that it was beside, or because the database hangs. */
const READ_ENDS_MS = 5_000;

/** What is revoked has not been read for longer than the bound allows, and cannot be read now. */
export class RevocationsUnknown extends Error {}

/**
 * What is revoked, as an isolate knows it.
 *
 * R1 A token is refused no later than the bound after its revocation was written: what is known is never older.
 * R2 Checking waits for nothing while what is known is younger than the bound, and it is read again well before that.
 * R3 Where it cannot be read, tokens are refused past the bound, and not accepted unseen; no request waits for it for ever.
 */
export class RevokedSet {
  readonly #read: ReadRevocations;
  readonly #expiries = new Map<string, number>();
  #lastSeq = 0;
  /** When the last read that succeeded began, epoch ms: what was written after it may be missing. */
  #knownAtMs = Number.NEGATIVE_INFINITY;
  #refreshingSinceMs = Number.NEGATIVE_INFINITY;

  constructor(read: ReadRevocations) {
    this.#read = read;
  }

  /**
   * Makes sure that what is known is young enough.
   * @param inBackground lets a promise live on beside the request.
   * @throws RevocationsUnknown
   */
  async refresh(nowMs: number, inBackground: (reading: Promise<void>) => void): Promise<void> {
    if (this.#knownAtMs - nowMs > REFRESH_AFTER_MS) {
      // The clock has gone back: how old what is known is cannot be told, and what it took for expired may be not.
      this.#knownAtMs = Number.NEGATIVE_INFINITY;
      this.#lastSeq = 0;
    }
    const ageMs = nowMs - this.#knownAtMs;
    if (ageMs < REFRESH_AFTER_MS) return;
    if (ageMs >= REVOCATION_BOUND_MS) {
      // Each request reads for itself: one must not wait for what another began and may take down with it.
      return this.#readInTime(nowMs);
    }
    if (nowMs - this.#refreshingSinceMs < READ_ENDS_MS) return;
    this.#refreshingSinceMs = nowMs;
    inBackground(this.#readOn(nowMs).catch(() => undefined));
  }

  /** Whether one of these is revoked, as far as is known. */
  hasAny(tokenIds: Iterable<string>): boolean {
    if (this.#expiries.size === 0) return false;
    for (const tokenId of tokenIds) if (this.#expiries.has(tokenId)) return true;
    return false;
  }

  /** Notes a revocation that this isolate has just written: here it counts at once. */
  add(tokenId: string, expiresAtMs: number): void {
    this.#expiries.set(tokenId, expiresAtMs);
  }

  async #readInTime(nowMs: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error("the read does not end")), READ_ENDS_MS);
    });
    try {
      await Promise.race([this.#readOn(nowMs), late]);
    } catch (cause) {
      throw new RevocationsUnknown("revocations cannot be read", { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  async #readOn(nowMs: number): Promise<void> {
    const revocations = await this.#read(this.#lastSeq, nowMs);
    for (const { seq, token_id, expires_at_ms } of revocations) {
      this.#lastSeq = Math.max(this.#lastSeq, seq);
      this.#expiries.set(token_id, expires_at_ms);
    }
    for (const [tokenId, expiresAtMs] of this.#expiries) {
      if (expiresAtMs <= nowMs) this.#expiries.delete(tokenId);
    }
    this.#knownAtMs = Math.max(this.#knownAtMs, nowMs);
  }
}
