import { inParts } from "./parts.ts";
import type { Sql } from "./sql.ts";

/** A checkpoint without its content. */
export interface CheckpointHead {
  checkpoint_id: string;
  run_id: string;
  seq: number;
  ts_ms: number;
  reason: string;
}

/**
 * The `checkpoints` tables. One checkpoint per seq: a second one at the same seq takes its place. The calls that made
 * them are remembered for the life of the run all the same.
 */
export class CheckpointTable {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /**
   * Stores a checkpoint. Its content goes into parts, because one row must stay under the platform's 2 MB.
   * @param content JSON text of `run_state` and of `blackboard`.
   */
  put(
    head: CheckpointHead,
    content: { run_state: Iterable<string>; blackboard: Iterable<string> },
    request: { commandId: string; fingerprint: string } | null,
  ): void {
    const text = JSON.stringify(head);
    this.#sql.run("DELETE FROM checkpoint_parts WHERE seq = ?", head.seq);
    this.#sql.run(
      "INSERT INTO checkpoints (seq, head) VALUES (?, ?) ON CONFLICT (seq) DO UPDATE SET head = excluded.head",
      head.seq,
      text,
    );
    if (request !== null) {
      this.#sql.run(
        "INSERT INTO checkpoint_commands (command_id, fingerprint, head) VALUES (?, ?, ?)",
        request.commandId,
        request.fingerprint,
        text,
      );
    }
    for (const member of ["run_state", "blackboard"] as const) {
      let part = 0;
      for (const text of inParts(content[member])) {
        this.#sql.run(
          "INSERT INTO checkpoint_parts (seq, member, part, text) VALUES (?, ?, ?, ?)",
          head.seq,
          member,
          part,
          text,
        );
        part += 1;
      }
    }
  }

  /** The newest checkpoint at or before a seq. */
  latest(uptoSeq: number): CheckpointHead | null {
    const row = this.#sql.first<{ head: string }>(
      "SELECT head FROM checkpoints WHERE seq <= ? ORDER BY seq DESC LIMIT 1",
      uptoSeq,
    );
    return row === null ? null : (JSON.parse(row.head) as CheckpointHead);
  }

  /** Hashes of commits with `after < seq <= upto` that checkpoints remember: of those they were made at. */
  hashes(after: number, upto: number): { seq: number; hash: string }[] {
    return this.#sql.all<{ seq: number; hash: string }>(
      `SELECT seq, json_extract(head, '$.log_hash') AS hash FROM checkpoints
       WHERE seq > ? AND seq <= ? AND json_extract(head, '$.log_hash') IS NOT NULL`,
      after,
      upto,
    );
  }

  /** The checkpoint that a call made, which another may have replaced since. */
  byCommand(commandId: string): { head: CheckpointHead; fingerprint: string } | null {
    const row = this.#sql.first<{ head: string; fingerprint: string }>(
      "SELECT head, fingerprint FROM checkpoint_commands WHERE command_id = ?",
      commandId,
    );
    if (row === null) return null;
    return { head: JSON.parse(row.head) as CheckpointHead, fingerprint: row.fingerprint };
  }

  /** The whole checkpoint as JSON text, in pieces. */
  *text(head: CheckpointHead): Generator<string> {
    yield `${JSON.stringify(head).slice(0, -1)},`;
    yield* this.content(head.seq);
    yield "}";
  }

  /** The members that a checkpoint has beside its head, as JSON text without braces, in pieces. */
  *content(seq: number): Generator<string> {
    yield '"run_state":';
    yield* this.#parts(seq, "run_state");
    yield ',"blackboard":';
    yield* this.#parts(seq, "blackboard");
  }

  *#parts(seq: number, member: string): Generator<string> {
    for (let part = 0; ; part += 1) {
      const row = this.#sql.first<{ text: string }>(
        "SELECT text FROM checkpoint_parts WHERE seq = ? AND member = ? AND part = ?",
        seq,
        member,
        part,
      );
      if (row === null) return;
      yield row.text;
    }
  }
}
