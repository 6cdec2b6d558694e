import { putRun } from "../directory/runs.ts";
import type { RunState } from "./run-state.ts";

/** A change reaches the directory at the latest after this; a status change at once. */
const FLUSH_DELAY_MS = 1_000;
/** After failures the wait doubles up to this. */
const MAX_RETRY_DELAY_MS = 60_000;

/**
 * What a run still owes the directory. Durable without rows of its own: the run row says how far the directory has
 * followed, and the log's end says how far it should.
 *
 * O1 Never on the commit path; a failure is retried by the alarm and never fails a command.
 */
export class Outbox {
  readonly #db: D1Database;
  readonly #tenant: string;
  readonly #state: RunState;
  #dueAtMs: number | null = null;
  #flushing: Promise<void> | null = null;
  #failures = 0;

  constructor(db: D1Database, tenant: string, state: RunState, nowMs: number) {
    this.#db = db;
    this.#tenant = tenant;
    this.#state = state;
    if (this.#isOwed()) this.owe(nowMs);
  }

  /** When a flush is due, epoch ms, or null when the directory is up to date. */
  dueAtMs(): number | null {
    return this.#dueAtMs;
  }

  /** Something was committed (or the lease bound moved): a flush is owed. */
  owe(nowMs: number): void {
    this.#dueAtMs ??= nowMs + FLUSH_DELAY_MS;
  }

  /** Writes the directory row if one is owed. Resolves when done or failed; a failure leaves it owed, for later. */
  async flush(nowMs: number): Promise<void> {
    while (this.#flushing !== null) await this.#flushing;
    if (this.#dueAtMs === null) return;
    this.#flushing = this.#write(nowMs).finally(() => {
      this.#flushing = null;
    });
    await this.#flushing;
  }

  async #write(nowMs: number): Promise<void> {
    const { run } = this.#state.head();
    // What is committed while the row travels is owed again.
    this.#dueAtMs = null;
    try {
      await putRun(this.#db, {
        tenant: this.#tenant,
        run,
        taskCounts: this.#state.taskCounts(),
        leaseDueAtMs: this.#state.leaseDueAtMs(),
      });
      this.#failures = 0;
      this.#state.save(run.last_event_seq);
    } catch (error) {
      this.#dueAtMs = nowMs + Math.min(MAX_RETRY_DELAY_MS, FLUSH_DELAY_MS * 2 ** this.#failures);
      this.#failures += 1;
      console.error(
        JSON.stringify({ event: "directory_flush_failed", run_id: run.run_id, error: String(error) }),
      );
    }
  }

  #isOwed(): boolean {
    return this.#state.directorySeq() < this.#state.head().run.last_event_seq;
  }
}
