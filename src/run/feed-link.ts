import { readWhole } from "./reads.ts";
import type { RunState } from "./run-state.ts";
import { packStretches, type Stretch } from "./stretch.ts";

/** What a run needs of a feed's object. */
export interface FeedInbox {
  /**
   * Takes a stretch of a run's log, as `packStretches` writes it. Taking it twice changes nothing.
   * @returns whether anyone follows the feed; if not, the stretch was not kept.
   */
  push(packed: string): Promise<boolean>;
}

/** After an answer that nobody follows, a run does not ask again for so long. */
const QUIET_MS = 60_000;
/** A push that got no answer is repeated after this; after failures the wait doubles, up to the maximum. */
const RETRY_DELAY_MS = 1_000;
const MAX_RETRY_DELAY_MS = 60_000;

/**
 * A run's line to one feed: brings it the log, in order, one stretch at a time; what is committed meanwhile goes together
 * with the next.
 *
 * L1 While anyone follows the feed, what is committed is pushed until the feed has taken it, across failures and crashes.
 *    (Not across a crash once the run has left the feed's workspace: nothing stored names it then.)
 * L2 While nobody does, a run that stays awake pushes once a minute at most. A feed that is followed again asks for its
 *    runs (`resume`).
 * L3 Never on the commit path; a failure never fails a command.
 */
export class FeedLink {
  readonly #inbox: () => FeedInbox;
  readonly #state: RunState;
  /** Up to where the feed is known to have the log. */
  #takenSeq: number;
  /** Up to where the log is durable, and the feed's affair. */
  #durableSeq: number;
  /** Since after which seq the run has been the feed's affair. */
  readonly #sinceSeq: number;
  #isFollowed = false;
  #quietUntilMs = 0;
  /** Counts the calls of `resume`: an answer to a push that began before one is out of date. */
  #resumed = 0;
  #isPushing = false;
  #isClosed = false;
  #failures = 0;
  #dueAtMs: number | null = null;
  /** After a failure: no push before this, epoch ms. */
  #retryAtMs = 0;
  readonly #onOwed: () => void;

  /**
   * @param inbox gives a way to the feed's object, anew for each push: after a failure an old one may lead nowhere.
   * @param onOwed called when a failure has left a push owed, so that the alarm can be armed.
   */
  constructor(
    inbox: () => FeedInbox,
    state: RunState,
    from: { takenSeq: number; durableSeq: number; sinceSeq: number },
    onOwed: () => void,
  ) {
    this.#inbox = inbox;
    this.#state = state;
    this.#onOwed = onOwed;
    this.#takenSeq = from.takenSeq;
    this.#durableSeq = from.durableSeq;
    this.#sinceSeq = from.sinceSeq;
  }

  /** The moment the alarm must not miss, epoch ms, or null: a crash must not leave followers waiting. */
  dueAtMs(): number | null {
    return this.#dueAtMs;
  }

  /** Up to where the feed has the log, or does not care. */
  settledSeq(): number {
    const isOwed = this.#isFollowed || this.#isPushing || this.#failures > 0;
    return isOwed ? this.#takenSeq : this.#durableSeq;
  }

  /** A push is owed at a moment, if not sooner. */
  owe(atMs: number): void {
    this.#dueAtMs ??= atMs;
  }

  /** Something was committed, and is about to become durable. */
  committed(nowMs: number): void {
    if (this.#isFollowed) this.owe(nowMs + RETRY_DELAY_MS);
  }

  /** The run is about to go: nothing more is pushed. */
  close(): void {
    this.#isClosed = true;
  }

  /** The feed is followed again, or about to be. */
  resume(): void {
    this.#resumed += 1;
    this.#quietUntilMs = 0;
  }

  /** The log has become durable up to `uptoSeq`: pushes that unless nobody would care. `fresh` reads what is new. */
  published(uptoSeq: number, fresh: () => Stretch, nowMs: number): void {
    this.#durableSeq = uptoSeq;
    this.#push(fresh, nowMs);
  }

  /** For the alarm: pushes what is owed by now. */
  pushDue(nowMs: number): void {
    if (this.#dueAtMs === null || this.#dueAtMs > nowMs) return;
    // The push may end with the object: then this is when it is tried again.
    this.#dueAtMs = nowMs + (this.#isPushing ? MAX_RETRY_DELAY_MS : RETRY_DELAY_MS);
    this.#retryAtMs = 0;
    this.#push(null, nowMs);
  }

  #push(fresh: (() => Stretch) | null, nowMs: number): void {
    if (this.#isPushing || nowMs < this.#retryAtMs || nowMs < this.#quietUntilMs) return;
    void this.#pushAll(fresh?.() ?? null);
  }

  async #pushAll(fresh: Stretch | null): Promise<void> {
    this.#isPushing = true;
    try {
      for (let next = fresh; this.#takenSeq < this.#durableSeq && !this.#isClosed; next = null) {
        const isNext = next?.after_seq === this.#takenSeq && next.upto_seq === this.#durableSeq;
        const known = isNext ? next : null;
        const read = known ?? readWhole(this.#state, this.#takenSeq, this.#durableSeq);
        const stretch = { ...read, workspace_since_seq: this.#sinceSeq };
        const resumedBefore = this.#resumed;
        this.#isFollowed = await this.#inbox().push(packStretches([stretch]));
        this.#failures = 0;
        this.#takenSeq = stretch.upto_seq;
        if (this.#isFollowed || resumedBefore !== this.#resumed) continue;
        this.#quietUntilMs = Date.now() + QUIET_MS;
        break;
      }
      this.#dueAtMs = null;
    } catch (error) {
      this.#retryAtMs = Date.now() + Math.min(MAX_RETRY_DELAY_MS, RETRY_DELAY_MS * 2 ** this.#failures);
      this.#dueAtMs = this.#retryAtMs;
      this.#failures += 1;
      this.#onOwed();
      const { run_id } = this.#state.head().run;
      console.error(JSON.stringify({ event: "feed_push_failed", run_id, error: String(error) }));
    } finally {
      this.#isPushing = false;
    }
  }
}
