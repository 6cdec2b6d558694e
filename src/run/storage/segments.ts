import type { Sql } from "./sql.ts";

/** A part of a segment that is read at once. */
export interface SegmentBlock {
  /** Seq of its first commit; it ends where the next block begins. */
  from_seq: number;
  /** Of its first byte in the segment. */
  offset: number;
  /** Of its bytes, lower-case hex: what is read in part is checked too. */
  sha256: string;
  /** How many of its commits have a patch. */
  patches: number;
}

/** A stretch of the log in R2: one JSON line per commit (segment-text.ts). Never changed once it is here. */
export interface Segment {
  from_seq: number;
  upto_seq: number;
  /** Of the object. */
  key: string;
  bytes: number;
  /** Of all bytes, lower-case hex. */
  sha256: string;
  /** Of its first commit, see chain.ts. */
  prev_hash: string | null;
  /** Of its last commit. */
  log_hash: string;
  blocks: SegmentBlock[];
}

/** Tables `segments`, `sealed_commands` and `sealing`. */
export class SegmentTable {
  readonly #sql: Sql;
  /** Null when it has to be read. */
  #uptoSeq: number | null = null;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Commits up to this seq lie in segments, all others in table `commits`; 0 when there are no segments. */
  uptoSeq(): number {
    this.#uptoSeq ??=
      this.#sql.first<{ seq: number | null }>("SELECT max(upto_seq) AS seq FROM segments")?.seq ?? 0;
    return this.#uptoSeq;
  }

  /** The segment that holds a commit, or null. */
  holding(seq: number): Segment | null {
    const row = this.#sql.first<{ doc: string }>(
      "SELECT doc FROM segments WHERE upto_seq >= ? ORDER BY upto_seq LIMIT 1",
      seq,
    );
    const segment = row === null ? null : (JSON.parse(row.doc) as Segment);
    return segment === null || segment.from_seq > seq ? null : segment;
  }

  /** Hashes of commits with `after < seq <= upto` that segments remember: of their last ones. */
  hashes(after: number, upto: number): { seq: number; hash: string }[] {
    return this.#sql.all<{ seq: number; hash: string }>(
      `SELECT upto_seq AS seq, json_extract(doc, '$.log_hash') AS hash FROM segments
       WHERE upto_seq > ? AND upto_seq <= ?`,
      after,
      upto,
    );
  }

  /** Seq of the first commit of a command whose commits are sealed; null when there is none of that id. */
  seqOfCommand(commandId: string): number | null {
    if (this.uptoSeq() === 0) return null;
    const row = this.#sql.first<{ seq: number }>(
      "SELECT seq FROM sealed_commands WHERE command_id = ?",
      commandId,
    );
    return row?.seq ?? null;
  }

  /** The key of a segment that is on its way to R2, or was when the object stopped; null when there is none. */
  sealing(): string | null {
    return this.#sql.first<{ key: string }>("SELECT key FROM sealing")?.key ?? null;
  }

  setSealing(key: string): void {
    this.#sql.run(
      "INSERT INTO sealing VALUES (1, ?) ON CONFLICT (only_row) DO UPDATE SET key = excluded.key",
      key,
    );
  }

  /**
   * Puts a segment in the place of its commits, in one transaction.
   * @throws Error when it is no longer the one that is on its way: the run may be gone.
   */
  seal(segment: Segment): void {
    const { from_seq, upto_seq } = segment;
    try {
      this.#sql.transaction(() => {
        if (this.sealing() !== segment.key) throw new Error("the commits are no longer there to be sealed");
        this.#sql.run("INSERT INTO segments VALUES (?, ?)", upto_seq, JSON.stringify(segment));
        this.#sql.run(
          `INSERT INTO sealed_commands SELECT command_id, seq FROM commits
           WHERE seq >= ? AND seq <= ? AND command_id IS NOT NULL`,
          from_seq,
          upto_seq,
        );
        this.#sql.run("DELETE FROM commits WHERE seq >= ? AND seq <= ?", from_seq, upto_seq);
        this.#sql.run("DELETE FROM sealing");
      });
    } finally {
      this.#uptoSeq = null;
    }
  }
}
