import { putRun } from "../directory/runs.ts";
import type { RunState } from "./run-state.ts";

/** News reaches the directory at the latest after this; what lists choose by, at once. */
const FLUSH_DELAY_MS = 1_000;
/** After failures the wait doubles up to this. */
const MAX_RETRY_DELAY_MS = 60_000;

/**
 * What a run still owes the directory. Durable without rows of its own: the run row says how far the directory has
 * followed, and the log's end says how far it should.
 *
 * O1 Never on the commit path; a failure is retried by the alarm and never fails a command.
 * O2 The directory's bound on when a lease ends or a clock runs out may be early, never late: what comes before it is news.
 * O3 Heartbeats alone are no news: they wait for the next alarm, so that they never set one.
 */
export class Outbox {
  readonly #db: D1Database;
  readonly #tenant: string;
  readonly #state: RunState;
  /** Up to where the directory has the run; after waking, no further than that. */
  #writtenSeq: number;
  /** When the next flush is due, epoch ms; null when nothing is urgent. */
  #dueAtMs: number | null = null;
  /** That bound, as the directory has it; after waking, no later than this. */
  #toldLeaseDueAtMs: number | null;
  readonly #feedsSeq: () => number;
  readonly #onListed: (subscriptionIds: string[], seq: number) => void;
  #flushing: Promise<void> | null = null;
  #failures = 0;
  #isClosed = false;

  /**
   * @param feedsSeq tells up to where no feed is owed anything.
   * @param onListed called when the directory has the run up to a seq, with the subscriptions that are about it.
   */
  constructor(
    db: D1Database,
    tenant: string,
    state: RunState,
    nowMs: number,
    feedsSeq: () => number,
    onListed: (subscriptionIds: string[], seq: number) => void,
  ) {
    this.#feedsSeq = feedsSeq;
    this.#onListed = onListed;
    this.#db = db;
    this.#tenant = tenant;
    this.#state = state;
    this.#toldLeaseDueAtMs = state.boardDueAtMs();
    this.#writtenSeq = state.directorySeq();
    if (this.#isBehind()) this.owe(nowMs);
  }

  /** The moment the alarm must not miss, epoch ms, or null. */
  dueAtMs(): number | null {
    return this.#dueAtMs;
  }

  /** Whether an alarm that fires now should flush. */
  isDue(nowMs: number): boolean {
    return this.#dueAtMs === null ? this.#isBehind() : this.#dueAtMs <= nowMs;
  }

  /** Something was committed: a flush is owed soon, unless it was heartbeats only. */
  committed(hasNews: boolean, nowMs: number): void {
    const leaseDueAtMs = this.#state.boardDueAtMs();
    const told = this.#toldLeaseDueAtMs ?? Number.POSITIVE_INFINITY;
    if (hasNews || (leaseDueAtMs !== null && leaseDueAtMs < told)) this.owe(nowMs);
  }

  /** A flush is owed soon. */
  owe(nowMs: number): void {
    this.#dueAtMs ??= nowMs + FLUSH_DELAY_MS;
  }

  /**
   * Writes the directory row if one is owed. Resolves when done or failed; a failure leaves it owed, for later, and
   * while the directory is failing only time brings the next try nearer.
   */
  async flush(nowMs: number): Promise<void> {
    while (this.#flushing !== null) await this.#flushing;
    if (this.#isClosed) return;
    if (this.#dueAtMs === null && !this.#isBehind()) return;
    if (this.#failures > 0 && this.#dueAtMs !== null && this.#dueAtMs > nowMs) return;
    this.#flushing = this.#write().finally(() => {
      this.#flushing = null;
    });
    await this.#flushing;
  }

  /** The run is about to go: resolves when nothing is on its way to the directory, and nothing will be. */
  async close(): Promise<void> {
    this.#isClosed = true;
    while (this.#flushing !== null) await this.#flushing;
  }

  async #write(): Promise<void> {
    const { run } = this.#state.head();
    const leaseDueAtMs = this.#state.boardDueAtMs();
    // What is committed while the row travels is owed again.
    this.#dueAtMs = null;
    this.#toldLeaseDueAtMs = leaseDueAtMs;
    try {
      const taskCounts = this.#state.taskCounts();
      const subscriptionIds = await putRun(this.#db, { tenant: this.#tenant, run, taskCounts, leaseDueAtMs });
      if (run.last_event_seq > 0) this.#onListed(subscriptionIds, run.last_event_seq);
      this.#failures = 0;
      this.#writtenSeq = run.last_event_seq;
      // What a feed is owed must not be forgotten with this object: a run that wakes behind pushes again.
      this.#state.save(Math.min(this.#writtenSeq, this.#feedsSeq()));
    } catch (error) {
      // From now, not from the start: a call may hang longer than the wait.
      this.#dueAtMs = Date.now() + Math.min(MAX_RETRY_DELAY_MS, FLUSH_DELAY_MS * 2 ** this.#failures);
      this.#failures += 1;
      console.error(
        JSON.stringify({ event: "directory_flush_failed", run_id: run.run_id, error: String(error) }),
      );
    }
  }

  #isBehind(): boolean {
    return this.#writtenSeq < this.#state.head().run.last_event_seq;
  }
}
