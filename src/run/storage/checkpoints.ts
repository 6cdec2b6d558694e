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

interface CheckpointRow extends Record<string, SqlStorageValue> {
  seq: number;
  head: string;
  request: string | null;
}

/** The `checkpoints` and `checkpoint_parts` tables. One checkpoint per seq: a second one at the same seq takes its place. */
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
    this.#sql.run("DELETE FROM checkpoint_parts WHERE seq = ?", head.seq);
    this.#sql.run(
      `INSERT INTO checkpoints (seq, command_id, request, head) VALUES (?, ?, ?, ?)
       ON CONFLICT (seq) DO UPDATE SET command_id = excluded.command_id, request = excluded.request, head = excluded.head`,
      head.seq,
      request?.commandId ?? null,
      request?.fingerprint ?? null,
      JSON.stringify(head),
    );
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
    const row = this.#sql.first<CheckpointRow>(
      "SELECT seq, head, request FROM checkpoints WHERE seq <= ? ORDER BY seq DESC LIMIT 1",
      uptoSeq,
    );
    return row === null ? null : (JSON.parse(row.head) as CheckpointHead);
  }

  byCommand(commandId: string): { head: CheckpointHead; fingerprint: string | null } | null {
    const row = this.#sql.first<CheckpointRow>(
      "SELECT seq, head, request FROM checkpoints WHERE command_id = ?",
      commandId,
    );
    return row === null ? null : { head: JSON.parse(row.head) as CheckpointHead, fingerprint: row.request };
  }

  /** The whole checkpoint as JSON text, in pieces. */
  *text(head: CheckpointHead): Generator<string> {
    yield `${JSON.stringify(head).slice(0, -1)},"run_state":`;
    yield* this.#parts(head.seq, "run_state");
    yield `,"blackboard":`;
    yield* this.#parts(head.seq, "blackboard");
    yield "}";
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
