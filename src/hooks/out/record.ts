import type { Sql } from "../../run/storage/sql.ts";
import { MAX_ATTEMPTS_KEPT, MAX_LETTERS } from "./storage.ts";

type Row<T> = T & Record<string, SqlStorageValue>;

/** One attempt to deliver a message, as operators see it. */
export interface AttemptRecord {
  at_ms: number;
  webhook_id: string;
  /** Of the event; `baton.ping` for a test. */
  type: string;
  run_id: string | null;
  seq: number | null;
  /** Which attempt it was of this message, counted from 1. */
  attempt: number;
  /** That the receiver gave; null for none. */
  status: number | null;
  delivered: boolean;
  /** Why it was not: a word. */
  error: string | null;
  duration_ms: number;
}

/** A message that was given up. */
export interface DeadLetter {
  /** The message's `webhook-id`. */
  letter_id: string;
  run_id: string;
  seq: number;
  type: string;
  status: number | null;
  error: string;
  dead_at_ms: number;
}

/** How a subscription fares. */
export interface Health {
  attempts: number;
  delivered: number;
  failures_in_row: number;
  failing_since_ms: number | null;
  last_success_at_ms: number | null;
  last_failure_at_ms: number | null;
  last_failure: string | null;
  paused_until_ms: number;
  letters_dropped: number;
}

/** What has become of a subscription's messages: its health, its last attempts, its dead letters. */
export class DeliveryRecord {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** The name under which the object is known. */
  name(): string | null {
    return this.#sql.first<{ name: string }>("SELECT name FROM subscription")?.name ?? null;
  }

  begin(name: string): void {
    this.#sql.run("INSERT INTO subscription VALUES (1, ?, 0, 0, 0, NULL, NULL, NULL, NULL, 0, 0)", name);
  }

  health(): Health {
    const health = this.#sql.first<Row<Health & { only_row: number; name: string }>>(
      "SELECT * FROM subscription",
    );
    if (health === null) throw new Error("the subscription was not begun");
    const { only_row, name, ...rest } = health;
    return rest;
  }

  /** Takes note of an attempt; a ping says nothing about how long deliveries have failed. */
  attempted(attempt: AttemptRecord, pauseMs: number): void {
    const { at_ms, delivered, error } = attempt;
    const isPing = attempt.run_id === null ? 1 : 0;
    this.#sql.run(
      delivered
        ? `UPDATE subscription SET attempts = attempts + 1, delivered = delivered + 1, failures_in_row = 0,
             failing_since_ms = NULL, last_success_at_ms = ?1`
        : `UPDATE subscription SET attempts = attempts + 1, last_failure_at_ms = ?1, last_failure = ?2,
             failures_in_row = failures_in_row + 1 - ?3, paused_until_ms = max(paused_until_ms, ?4),
             failing_since_ms = iif(?3, failing_since_ms, ifnull(failing_since_ms, ?1))`,
      ...(delivered ? [at_ms] : [at_ms, error, isPing, pauseMs > 0 ? at_ms + pauseMs : 0]),
    );
    const { attempts: number } = this.health();
    this.#sql.run(
      `INSERT INTO attempts VALUES (?, ?, ?)
       ON CONFLICT (slot) DO UPDATE SET number = excluded.number, doc = excluded.doc`,
      number % MAX_ATTEMPTS_KEPT,
      number,
      JSON.stringify(attempt),
    );
  }

  /** Nothing is sent before a moment, by no fault of the receiver. */
  pause(untilMs: number): void {
    this.#sql.run("UPDATE subscription SET paused_until_ms = max(paused_until_ms, ?)", untilMs);
  }

  /** The operator wants it to be tried again: what was before is no longer held against it. */
  forgive(): void {
    this.#sql.run(
      "UPDATE subscription SET failures_in_row = 0, failing_since_ms = NULL, paused_until_ms = 0",
    );
  }

  /** The last attempts, newest first. */
  attempts(): AttemptRecord[] {
    return this.#sql
      .all<{ doc: string }>("SELECT doc FROM attempts ORDER BY number DESC")
      .map(({ doc }) => JSON.parse(doc) as AttemptRecord);
  }

  /** Gives a message up. Over the bound the oldest letters go. */
  giveUp(letter: DeadLetter): void {
    const { letter_id, run_id, seq, type, status, error, dead_at_ms } = letter;
    this.#sql.run("DELETE FROM letters WHERE letter_id = ?", letter_id);
    const pos =
      (this.#sql.first<{ pos: number | null }>("SELECT max(pos) AS pos FROM letters")?.pos ?? 0) + 1;
    this.#sql.run(
      "INSERT INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
      pos,
      letter_id,
      run_id,
      seq,
      type,
      status,
      error,
      dead_at_ms,
    );
    const dropped = this.#sql.all(
      "DELETE FROM letters WHERE pos <= ? RETURNING pos",
      pos - MAX_LETTERS,
    ).length;
    if (dropped > 0) this.#sql.run("UPDATE subscription SET letters_dropped = letters_dropped + ?", dropped);
  }

  /** A message was delivered after all. */
  removeLetter(letterId: string): void {
    this.#sql.run("DELETE FROM letters WHERE letter_id = ?", letterId);
  }

  letter(letterId: string): DeadLetter | null {
    return this.#sql.first<Row<DeadLetter>>(`SELECT ${LETTER} FROM letters WHERE letter_id = ?`, letterId);
  }

  /** Letters before a position, newest first, and where to go on. */
  letters(beforePos: number, limit: number): { letters: DeadLetter[]; nextPos: number | null } {
    const rows = this.#sql.all<Row<DeadLetter & { pos: number }>>(
      `SELECT pos, ${LETTER} FROM letters WHERE pos < ? ORDER BY pos DESC LIMIT ?`,
      beforePos,
      limit + 1,
    );
    const page = rows.slice(0, limit);
    const nextPos = rows.length > limit ? (page.at(-1)?.pos ?? null) : null;
    return { letters: page.map(({ pos, ...letter }) => letter), nextPos };
  }

  letterCount(): number {
    return this.#sql.first<{ n: number }>("SELECT count(*) AS n FROM letters")?.n ?? 0;
  }
}

const LETTER = "letter_id, run_id, seq, type, status, error, dead_at_ms";
