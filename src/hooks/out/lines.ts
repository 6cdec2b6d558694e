import type { Nudge } from "../../run/nudges.ts";
import type { Sql } from "../../run/storage/sql.ts";

/** Where a live line begins is not known until its run is looked at: then it is where the subscription begins. */
const START_UNKNOWN = -1;

type Row<T> = T & Record<string, SqlStorageValue>;

/** What is to be sent, in order: the wanted events of one run with `after_seq < seq <= upto_seq`. */
export interface Line {
  line_id: string;
  kind: "live" | "replay" | "letter";
  run_id: string;
  after_seq: number;
  upto_seq: number;
  /** That have failed, of the next event. */
  attempts: number;
  /** Epoch ms; null when there is nothing to send. */
  due_at_ms: number | null;
  /** Epoch ms from when a live line that was not looked at yet begins; null where that is when the subscription does. */
  since_ms: number | null;
}

/** What is left to do. */
export interface Backlog {
  /** Lines with something to send. */
  lines: number;
  /** Events that were not looked at yet, wanted or not. */
  events: number;
  /** Epoch ms; null when there is nothing to send. */
  next_due_at_ms: number | null;
}

/**
 * The lines of a subscription. Within a line everything is in order: an event that fails holds up those behind it, and no
 * other line.
 *
 * L1 A live line follows its run without a gap, whatever nudges are lost: it goes on from where it was.
 * L2 A line moves past an event only after that was delivered or became a dead letter: a crash repeats, and never skips.
 */
export class Lines {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** A run's log goes up to a seq at least. Writes nothing when that is no news. */
  heard({ run_id, seq }: Nudge, nowMs: number): void {
    const line_id = `live:${run_id}`;
    const known = this.find(line_id);
    if (known === null) {
      this.add({ line_id, kind: "live", run_id, after_seq: START_UNKNOWN, upto_seq: seq }, nowMs);
    } else if (known.upto_seq < seq) {
      this.#sql.run(
        "UPDATE lines SET upto_seq = ?, due_at_ms = ifnull(due_at_ms, ?) WHERE line_id = ?",
        seq,
        nowMs,
        line_id,
      );
    }
  }

  /** Adds a line, due now; one of the same id that is there already stays as it is. */
  add(line: Omit<Line, "attempts" | "due_at_ms" | "since_ms">, nowMs: number): void {
    this.#sql.run(
      "INSERT INTO lines VALUES (?, ?, ?, ?, ?, 0, ?, NULL) ON CONFLICT (line_id) DO NOTHING",
      line.line_id,
      line.kind,
      line.run_id,
      line.after_seq,
      line.upto_seq,
      nowMs,
    );
  }

  find(lineId: string): Line | null {
    return this.#sql.first<Row<Line>>("SELECT * FROM lines WHERE line_id = ?", lineId);
  }

  /** The line that has waited longest among those that are due, without these; null when there is none. */
  nextDue(nowMs: number, without: ReadonlySet<string>): Line | null {
    const due = this.#earliest(without);
    return due !== null && due.due_at_ms !== null && due.due_at_ms <= nowMs ? due : null;
  }

  /** When the next line is due, without these, epoch ms; null when none will be. */
  nextDueAtMs(without: ReadonlySet<string>): number | null {
    return this.#earliest(without)?.due_at_ms ?? null;
  }

  #earliest(without: ReadonlySet<string>): Line | null {
    const lines = this.#sql.all<Row<Line>>(
      "SELECT * FROM lines WHERE due_at_ms IS NOT NULL ORDER BY due_at_ms, line_id LIMIT ?",
      without.size + 1,
    );
    return lines.find(({ line_id }) => !without.has(line_id)) ?? null;
  }

  /** The subscription will begin elsewhere: lines that were not looked at yet begin where it has begun until now. */
  keepStarts(sinceMs: number): void {
    this.#sql.run(
      "UPDATE lines SET since_ms = ? WHERE due_at_ms IS NOT NULL AND after_seq = ? AND since_ms IS NULL",
      sinceMs,
      START_UNKNOWN,
    );
  }

  /** Where a line begins is now known. From then on what comes of its messages moves it, and no line that takes its place. */
  start(lineId: string, afterSeq: number): void {
    this.#sql.run("UPDATE lines SET after_seq = ? WHERE line_id = ?", afterSeq, lineId);
  }

  /** Everything up to a seq is done; the line stays due. */
  moveTo(lineId: string, seq: number): void {
    this.#sql.run(
      "UPDATE lines SET after_seq = ?, attempts = 0 WHERE line_id = ? AND after_seq >= 0",
      seq,
      lineId,
    );
  }

  /** The event behind a seq has failed so many times, and comes again at a moment. */
  retry(lineId: string, afterSeq: number, attempts: number, dueAtMs: number): void {
    this.#sql.run(
      "UPDATE lines SET after_seq = ?, attempts = ?, due_at_ms = ? WHERE line_id = ? AND after_seq >= 0",
      afterSeq,
      attempts,
      dueAtMs,
      lineId,
    );
  }

  /** The line could not be served, by no fault of the receiver. */
  postpone(lineId: string, dueAtMs: number): void {
    this.#sql.run("UPDATE lines SET due_at_ms = ? WHERE line_id = ?", dueAtMs, lineId);
  }

  /** Whatever waits is tried again now, as if for the first time. */
  hurry(nowMs: number): void {
    this.#sql.run("UPDATE lines SET attempts = 0, due_at_ms = ? WHERE due_at_ms IS NOT NULL", nowMs);
  }

  /** A part was looked at, up to a seq; the run's log ends at `lastSeq`. The rest comes after the lines that wait longer. */
  looked({ line_id, kind, upto_seq: heardSeq }: Line, seq: number, lastSeq: number, nowMs: number): void {
    const line = this.find(line_id);
    if (line === null || line.after_seq < 0) return;
    // A log that is shorter than was heard has nothing more to give, however often it is asked.
    const isShorter = line.upto_seq === heardSeq && lastSeq < heardSeq;
    const endSeq = isShorter ? lastSeq : line.upto_seq;
    const uptoSeq = kind === "live" ? Math.max(endSeq, lastSeq) : endSeq;
    const isDone = seq >= uptoSeq;
    if (isDone && kind !== "live") {
      this.remove(line_id);
      return;
    }
    this.#sql.run(
      `UPDATE lines SET after_seq = ?1, upto_seq = ?2, attempts = iif(after_seq = ?1, attempts, 0), due_at_ms = ?3
       WHERE line_id = ?4`,
      seq,
      uptoSeq,
      isDone ? null : nowMs,
      line_id,
    );
  }

  /** Nothing can be read there any more. A live line goes on where it was when its run is heard of again. */
  stop({ line_id, kind }: Line): void {
    if (kind === "live")
      this.#sql.run(
        "UPDATE lines SET upto_seq = after_seq, attempts = 0, due_at_ms = NULL WHERE line_id = ?",
        line_id,
      );
    else this.remove(line_id);
  }

  remove(lineId: string): void {
    this.#sql.run("DELETE FROM lines WHERE line_id = ?", lineId);
  }

  /** Forgets where the subscription was in all runs. */
  removeLive(): void {
    this.#sql.run("DELETE FROM lines WHERE kind = 'live'");
  }

  /** Replays that are not done. */
  replays(): number {
    // By their ids, which lie together: lines of runs may be many.
    const query = "SELECT count(*) AS n FROM lines WHERE line_id > 'replay:' AND line_id < 'replay;'";
    return this.#sql.first<{ n: number }>(query)?.n ?? 0;
  }

  backlog(): Backlog {
    const backlog = this.#sql.first<Row<Backlog>>(
      `SELECT count(*) AS lines, ifnull(sum(upto_seq - max(after_seq, 0)), 0) AS events, min(due_at_ms) AS next_due_at_ms
       FROM lines WHERE due_at_ms IS NOT NULL`,
    );
    return backlog ?? { lines: 0, events: 0, next_due_at_ms: null };
  }
}
