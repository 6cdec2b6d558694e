import { type Migrations, migrate } from "../run/storage/migrate.ts";
import type { Sql } from "../run/storage/sql.ts";

/** A feed's tables. Append-only, as a run's are (run/storage/schema.ts). */
const MIGRATIONS: Migrations = [
  [
    // The order in which the feed has learnt of its runs' commits: the order in which everybody sees them.
    `CREATE TABLE rows (
      pos INTEGER PRIMARY KEY,    -- 1, 2, 3, …
      run_id TEXT NOT NULL,
      head_seq INTEGER NOT NULL,  -- up to where the feed had this run before
      after_seq INTEGER NOT NULL, -- the same, unless the run committed in other workspaces since
      upto_seq INTEGER NOT NULL
    ) STRICT`,
    `CREATE TABLE heads (
      run_id TEXT PRIMARY KEY,
      seq INTEGER NOT NULL,       -- up to where the feed knows this run
      since_pos INTEGER NOT NULL  -- what came before the run's first row is no part of the feed before this place
    ) STRICT, WITHOUT ROWID`,
    `CREATE TABLE feed (
      only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
      feed_id TEXT NOT NULL,          -- part of its cursors: those of other feeds are told apart
      complete_at_ms INTEGER NOT NULL -- when all its runs were last asked where they are, epoch ms; 0 for never
    ) STRICT`,
  ],
];

/** Rows kept: a reader that was away for longer is told so and starts anew. A row takes about 80 bytes. */
export const MAX_ROWS = 1_000_000;
/** Old rows are deleted so many at a time. */
const TRIM_STEP = 1_000;

/** A stretch of one run's log in the order of the feed. */
export interface FeedRow {
  pos: number;
  run_id: string;
  after_seq: number;
  upto_seq: number;
}

/** Which feed it is, and the range of places that it can still be read from: all after `before_pos`, up to `pos`. */
export interface FeedPlace {
  feed_id: string;
  pos: number;
  before_pos: number;
}

interface FeedFacts extends Record<string, SqlStorageValue> {
  feed_id: string;
  complete_at_ms: number;
}

/**
 * The one order in which the commits of a feed's runs are seen. It holds where they are, not what they are: the records
 * stay in the runs.
 *
 * J1 A run's rows follow each other without overlap; between them is nothing but what the run committed in other workspaces.
 * J2 A place, once given, stands for the same commits for ever: so one number is a reader's whole cursor.
 */
export class Journal {
  readonly #sql: Sql;
  readonly #feedId: string;

  /** @param newId makes the id of a feed that is followed for the first time. */
  constructor(sql: Sql, newId: () => string) {
    this.#sql = sql;
    migrate(sql, MIGRATIONS);
    const stored = sql.first<FeedFacts>("SELECT * FROM feed");
    this.#feedId = stored?.feed_id ?? newId();
    if (stored === null) sql.run("INSERT INTO feed VALUES (1, ?, 0)", this.#feedId);
  }

  place(): FeedPlace {
    const last = this.#sql.first<{ pos: number | null }>("SELECT max(pos) AS pos FROM rows")?.pos ?? 0;
    const first = this.#sql.first<{ pos: number | null }>("SELECT min(pos) AS pos FROM rows")?.pos ?? 1;
    return { feed_id: this.#feedId, pos: last, before_pos: first - 1 };
  }

  /** When all the feed's runs were last asked where they are, epoch ms; 0 for never. */
  completeAtMs(): number {
    return this.#sql.first<{ at: number }>("SELECT complete_at_ms AS at FROM feed")?.at ?? 0;
  }

  setCompleteAt(ms: number): void {
    this.#sql.run("UPDATE feed SET complete_at_ms = ?", ms);
  }

  /** Up to where the feed has a run; null when it does not know it. */
  headOf(runId: string): number | null {
    return this.#sql.first<{ seq: number }>("SELECT seq FROM heads WHERE run_id = ?", runId)?.seq ?? null;
  }

  /** Adds what a run has after `afterSeq`, which is not before where the feed has it, up to `uptoSeq`. Returns its place. */
  append(runId: string, afterSeq: number, uptoSeq: number): number {
    const pos = this.place().pos + 1;
    const headSeq = this.headOf(runId) ?? 0;
    this.#sql.run("INSERT INTO rows VALUES (?, ?, ?, ?, ?)", pos, runId, headSeq, afterSeq, uptoSeq);
    this.#setHead(runId, uptoSeq, pos - 1);
    if (pos % TRIM_STEP === 0) this.#sql.run("DELETE FROM rows WHERE pos <= ?", pos - MAX_ROWS);
    return pos;
  }

  /** Takes note of a run that has been there already; what it has up to `seq` is no news. */
  know(runId: string, seq: number): void {
    if (this.headOf(runId) === null) this.#setHead(runId, seq, this.place().pos);
  }

  /** Rows after a place, in order. */
  rows(afterPos: number, limit: number): FeedRow[] {
    return this.#sql.all<FeedRow & Record<string, SqlStorageValue>>(
      "SELECT pos, run_id, after_seq, upto_seq FROM rows WHERE pos > ? ORDER BY pos LIMIT ?",
      afterPos,
      limit,
    );
  }

  /** Where each known run was at a place that can still be read from: by run id. */
  headsAt(pos: number): Map<string, number> {
    const heads = this.#sql.all<{ run_id: string; seq: number }>(
      "SELECT run_id, seq FROM heads WHERE since_pos <= ?",
      pos,
    );
    const seqs = new Map(heads.map(({ run_id, seq }) => [run_id, seq]));
    const later = this.#sql.all<{ run_id: string; seq: number }>(
      "SELECT run_id, min(head_seq) AS seq FROM rows WHERE pos > ? GROUP BY run_id",
      pos,
    );
    for (const { run_id, seq } of later) if (seqs.has(run_id)) seqs.set(run_id, seq);
    return seqs;
  }

  #setHead(runId: string, seq: number, sincePos: number): void {
    this.#sql.run(
      "INSERT INTO heads VALUES (?, ?, ?) ON CONFLICT (run_id) DO UPDATE SET seq = excluded.seq",
      runId,
      seq,
      sincePos,
    );
  }
}
