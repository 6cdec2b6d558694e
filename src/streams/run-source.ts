import type { RunStatus } from "../protocol/status.ts";
import type { RunClient } from "../run/run-client.ts";
import { newerThan, type Stretch, unpackStretches } from "../run/stretch.ts";
import { persistently } from "./retry.ts";
import { type Followed, Subscription } from "./subscription.ts";

/** What is told faster than it is taken is kept up to here, in UTF-16 units; past it, it is read from the log instead. */
const MAX_KEPT_LENGTH = 512 * 1024;

/** What comes next from a source: a stretch, or nothing for a while, or nothing ever again and why. */
export type Next = Stretch | "nothing" | "gone" | "lost";

/**
 * A run's log from one place on, past its present end: what is told live where that connects, what the log has where it
 * does not. So nothing is missed and nothing comes twice, whatever happens to the socket.
 */
export class RunSource {
  readonly #run: () => RunClient;
  readonly #withPatches: boolean;
  readonly #onArrival: (length: number) => void;
  #subscription: Subscription | null = null;
  #kept: Stretch[] = [];
  #keptLength = 0;
  #afterSeq = 0;
  #lastSeq = 0;
  #status: RunStatus = "queued";

  private constructor(run: () => RunClient, withPatches: boolean, onArrival: (length: number) => void) {
    this.#run = run;
    this.#withPatches = withPatches;
    this.#onArrival = onArrival;
  }

  /**
   * Follows a run from now on. Null when there is no such run.
   * @param run gives a way to the run's object, anew for each try.
   * @param onArrival is told the length of everything that is told live, when it is told.
   */
  static async open(
    run: () => RunClient,
    withPatches: boolean,
    onArrival: (length: number) => void,
  ): Promise<RunSource | null> {
    const source = new RunSource(run, withPatches, onArrival);
    const subscription = await Subscription.open(run as unknown as () => Followed, (text) =>
      source.#told(text),
    );
    source.#subscription = subscription;
    return subscription === null ? null : source;
  }

  /** Seq of the log's last commit, and the run's status there, as far as is known. */
  get head(): { lastSeq: number; status: RunStatus } {
    return { lastSeq: this.#lastSeq, status: this.#status };
  }

  /** Says where to begin: with what is newer than this. */
  startAfter(seq: number): void {
    this.#afterSeq = seq;
  }

  /** What comes next; "nothing" after that time without anything. */
  async next(waitMs: number): Promise<Next> {
    const untilMs = Date.now() + waitMs;
    for (;;) {
      const told = this.takeTold();
      if (told !== null) return told;
      if (this.#afterSeq < this.#lastSeq) {
        const read = await this.#read();
        if (read !== null) return read;
        continue;
      }
      const state = this.#subscription?.state ?? "closed";
      if (state !== "open") return state === "gone" ? "gone" : "lost";
      const restMs = untilMs - Date.now();
      if (restMs <= 0 || !(await this.#subscription?.wait(restMs))) return "nothing";
    }
  }

  /** What has been told already and comes next; null when nothing has. */
  takeTold(): Stretch | null {
    const kept = this.#nextKept();
    return kept === null ? null : this.#taken(kept);
  }

  /** Resolves when the log has more than that, or after that time. */
  async grownPast(seq: number, waitMs: number): Promise<void> {
    const untilMs = Date.now() + waitMs;
    while (this.#lastSeq <= seq && this.#subscription?.state === "open") {
      if (!(await this.#subscription.wait(Math.max(0, untilMs - Date.now())))) return;
    }
  }

  close(): void {
    this.#subscription?.close();
    this.#kept = [];
  }

  #told(text: string): void {
    this.#onArrival(text.length);
    for (const stretch of unpackStretches(text)) {
      this.#lastSeq = Math.max(this.#lastSeq, stretch.last_seq);
      this.#status = stretch.status;
      this.#kept.push(stretch);
    }
    this.#keptLength += text.length;
    if (this.#keptLength > MAX_KEPT_LENGTH) this.#forget();
  }

  #forget(): void {
    this.#kept = [];
    this.#keptLength = 0;
  }

  /** What was told and connects to what was taken; null when the log has to be asked, or there is no more. */
  #nextKept(): Stretch | null {
    while (this.#kept.length > 0) {
      const [first] = this.#kept;
      if (first !== undefined && first.upto_seq > this.#afterSeq) {
        if (first.commits === null || first.after_seq > this.#afterSeq) return null;
        return newerThan(first, this.#afterSeq);
      }
      this.#kept.shift();
      if (this.#kept.length === 0) this.#keptLength = 0;
    }
    return null;
  }

  /** A piece of the log; null when it has no more than was taken. */
  async #read(): Promise<Next | null> {
    const query = { afterSeq: this.#afterSeq, uptoSeq: null, withPatches: this.#withPatches };
    const answer = await persistently(
      () => this.#run().readStretch(query),
      () => this.#subscription?.state === "open",
    );
    if (!answer.ok) return answer.refusal.code === "LOG_DAMAGED" ? "lost" : "gone";
    const [piece] = unpackStretches(answer.value);
    if (piece !== undefined && piece.last_seq >= this.#lastSeq) {
      this.#lastSeq = piece.last_seq;
      this.#status = piece.status;
    }
    if (piece === undefined || piece.upto_seq === piece.after_seq) {
      this.#lastSeq = this.#afterSeq;
      return null;
    }
    return this.#taken(piece);
  }

  #taken(stretch: Stretch): Stretch {
    this.#afterSeq = stretch.upto_seq;
    return stretch;
  }
}
