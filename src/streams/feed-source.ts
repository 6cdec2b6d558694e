import type { FeedClient } from "../feed/feed-client.ts";
import type { FeedPlace, FeedRow } from "../feed/journal.ts";
import type { RunClient } from "../run/run-client.ts";
import { newerThan, type Stretch, unpackStretches } from "../run/stretch.ts";
import { persistently } from "./retry.ts";
import { type Followed, Subscription } from "./subscription.ts";

/** What is told faster than it is taken is kept up to here, in UTF-16 units; past it, it is read again instead. */
const MAX_KEPT_LENGTH = 1024 * 1024;
/** Rows of the journal read at once. */
const ROWS_AT_ONCE = 200;

/** A stretch of a run in its place; several may share one place, the last of them says so. */
export interface PlacedStretch {
  pos: number;
  stretch: Stretch;
  /** Whether nothing more is at this place. */
  isLast: boolean;
}

/** What comes next: something, or nothing for a while, or nothing ever again and why: `expired` places are kept no more. */
export type NextPlaced = PlacedStretch | "nothing" | "lost" | "expired";

/** A row of the journal, and its commits if they were told with it. */
interface Row extends FeedRow {
  told: Stretch | null;
}

/**
 * A feed from one place on, past its present end. The places prove that nothing is missed: what was not told is read from
 * the journal, and what a row of it stands for from its run.
 */
export class FeedSource {
  readonly #feed: () => FeedClient;
  readonly #runOf: (runId: string) => RunClient;
  readonly #isWanted: (runId: string) => boolean;
  readonly #onArrival: (length: number) => void;
  #subscription: Subscription | null = null;
  #kept: Row[] = [];
  #keptLength = 0;
  #place: FeedPlace | null = null;
  #lastPos = 0;
  /** Every place up to here is done. */
  #pos = 0;
  /** What is left of the row being read. */
  #current: Row | null = null;
  /** Of the row after `#pos`, what is known already. */
  #withinSeq = 0;

  private constructor(
    feed: () => FeedClient,
    runOf: (runId: string) => RunClient,
    isWanted: (runId: string) => boolean,
    onArrival: (length: number) => void,
  ) {
    this.#feed = feed;
    this.#runOf = runOf;
    this.#isWanted = isWanted;
    this.#onArrival = onArrival;
  }

  /** Follows a feed from now on. @param onArrival is told the length of everything that is told live. */
  static async open(
    feed: () => FeedClient,
    options: {
      runOf: (runId: string) => RunClient;
      isWanted: (runId: string) => boolean;
      onArrival: (length: number) => void;
    },
  ): Promise<FeedSource> {
    const source = new FeedSource(feed, options.runOf, options.isWanted, options.onArrival);
    source.#subscription = await Subscription.open(feed as unknown as () => Followed, (text) =>
      source.#told(text),
    );
    while (source.#place === null) {
      // Rows may be told before the feed knows where it is.
      if (source.#subscription?.state !== "open") throw new Error("the feed cannot be reached");
      await source.#subscription.wait(60_000);
    }
    source.#pos = source.place.pos;
    return source;
  }

  /** Where the feed was when it was opened. */
  get place(): FeedPlace {
    if (this.#place === null) throw new Error("the feed has not said where it is");
    return this.#place;
  }

  /** The last place that is done. */
  get pos(): number {
    return this.#pos;
  }

  /** Says where to begin: after a place; of the next one, after a seq. */
  startAfter(pos: number, withinSeq: number): void {
    this.#pos = pos;
    this.#withinSeq = withinSeq;
  }

  /** What comes next; "nothing" after that time without anything. */
  async next(waitMs: number): Promise<NextPlaced> {
    const untilMs = Date.now() + waitMs;
    for (;;) {
      const told = this.takeTold();
      if (told !== null) return told;
      if (this.#current !== null) return this.#readRest(this.#current);
      if (this.#pos < this.#lastPos) {
        if (!(await this.#readRows())) return "expired";
        continue;
      }
      if (this.#subscription?.state !== "open") return "lost";
      const restMs = untilMs - Date.now();
      if (restMs <= 0 || !(await this.#subscription.wait(restMs))) return "nothing";
    }
  }

  /** What has been told already and comes next; null when nothing has. */
  takeTold(): PlacedStretch | null {
    while (this.#current === null) {
      const row = this.#nextKept();
      if (row === null) return null;
      this.#begin(row);
    }
    const { pos, after_seq, told } = this.#current;
    if (told === null) return null;
    this.#current = null;
    this.#pos = pos;
    return { pos, stretch: newerThan(told, after_seq), isLast: true };
  }

  close(): void {
    this.#subscription?.close();
    this.#kept = [];
  }

  #told(text: string): void {
    if (text.startsWith("{")) {
      const place = JSON.parse(text) as FeedPlace;
      this.#place ??= place;
      this.#lastPos = Math.max(this.#lastPos, place.pos);
      return;
    }
    this.#onArrival(text.length);
    for (const told of unpackStretches(text)) {
      const { pos = 0, run_id, after_seq, upto_seq } = told;
      this.#lastPos = Math.max(this.#lastPos, pos);
      this.#kept.push({ pos, run_id, after_seq, upto_seq, told: told.commits === null ? null : told });
    }
    this.#keptLength += text.length;
    if (this.#keptLength > MAX_KEPT_LENGTH) this.#forget();
  }

  #forget(): void {
    this.#kept = [];
    this.#keptLength = 0;
  }

  /** The row of the next place, if it was told or read; null when the journal has to be asked, or there is none. */
  #nextKept(): Row | null {
    while (this.#kept.length > 0) {
      const [first] = this.#kept;
      if (first !== undefined && first.pos > this.#pos) return first.pos === this.#pos + 1 ? first : null;
      this.#kept.shift();
      if (this.#kept.length === 0) this.#keptLength = 0;
    }
    return null;
  }

  #begin(row: Row): void {
    const after_seq = Math.max(row.after_seq, this.#withinSeq);
    this.#withinSeq = 0;
    if (after_seq < row.upto_seq && this.#isWanted(row.run_id)) this.#current = { ...row, after_seq };
    else this.#pos = row.pos;
  }

  /** What is left of a row, or a piece of it, from its run. */
  async #readRest(row: Row): Promise<NextPlaced> {
    const stretch = await this.#read(row);
    if (stretch === "damaged") return "lost";
    // A run that was deleted has no commits any more.
    const isLast = stretch === null || stretch.upto_seq >= row.upto_seq || stretch.upto_seq === row.after_seq;
    this.#current = isLast ? null : { ...row, after_seq: stretch.upto_seq };
    if (isLast) this.#pos = row.pos;
    return stretch === null ? "nothing" : { pos: row.pos, stretch, isLast };
  }

  async #read({ run_id, after_seq, upto_seq }: Row): Promise<Stretch | "damaged" | null> {
    const query = { afterSeq: after_seq, uptoSeq: upto_seq, withPatches: true };
    const answer = await this.#ask(() => this.#runOf(run_id).readStretch(query));
    if (!answer.ok) return answer.refusal.code === "LOG_DAMAGED" ? "damaged" : null;
    return unpackStretches(answer.value)[0] ?? null;
  }

  /** Reads on in the journal. False when it no longer holds what comes next. */
  async #readRows(): Promise<boolean> {
    const rows = await this.#ask(() => this.#feed().readRows(this.#pos, ROWS_AT_ONCE));
    const last = rows.at(-1)?.pos;
    if (last === undefined || rows[0]?.pos !== this.#pos + 1) return false;
    const known = this.#kept.filter(({ pos }) => pos > last);
    // Told rows have their commits with them: they are better than the same ones read.
    const told = new Map(this.#kept.map((row) => [row.pos, row]));
    this.#kept = [...rows.map((row) => told.get(row.pos) ?? { ...row, told: null }), ...known];
    return true;
  }

  #ask<T>(ask: () => Promise<T>): Promise<T> {
    return persistently(ask, () => this.#subscription?.state === "open");
  }
}
