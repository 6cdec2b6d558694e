import { fromCheckpoint } from "../../domain/replay.ts";
import { memoryStateLines } from "../../domain/state-lines.ts";
import type { Checkpoint, CheckpointHead } from "../../protocol/checkpoint.ts";
import { inParts } from "./parts.ts";
import type { Sql } from "./sql.ts";

/** A checkpoint, and where its content lies. */
export interface StoredCheckpoint {
  head: CheckpointHead;
  /** A key of R2; null when the content lies here. */
  objectKey: string | null;
  /** Lines of the content; 0 in those of older releases, which did not count. */
  lines: number;
}

/** The call that makes a checkpoint, for answering its repeats. */
export interface CheckpointCommand {
  commandId: string;
  fingerprint: string;
}

/**
 * What an export tells beside the log: the checkpoints that there are, their names, the calls that made them, and the calls that brought
 * the run here.
 */
export type ExtraList = "heads" | "names" | "calls" | "moves";

const EXTRAS: Record<ExtraList, string> = {
  heads: `SELECT seq AS key, '{"checkpoint":' || head || '}' AS line FROM checkpoints
          WHERE seq > ? ORDER BY seq LIMIT ?`,
  names: `SELECT name AS key, json_object('checkpoint_name', json_object('name', name, 'seq', seq)) AS line
          FROM checkpoint_names WHERE name > ? ORDER BY name LIMIT ?`,
  calls: `SELECT command_id AS key, '{"checkpoint_command":{"command_id":' || json_quote(command_id) ||
            ',"fingerprint":' || json_quote(fingerprint) || ',"head":' || head || '}}' AS line
          FROM checkpoint_commands WHERE command_id > ? ORDER BY command_id LIMIT ?`,
  moves: `SELECT command_id AS key, '{"move_call":{"command_id":' || json_quote(command_id) ||
            ',"fingerprint":' || json_quote(fingerprint) || ',"answer":' || answer || '}}' AS line
          FROM move_calls WHERE command_id > ? ORDER BY command_id LIMIT ?`,
};

interface Row extends Record<string, SqlStorageValue> {
  head: string;
  object_key: string | null;
  lines: number | null;
}

/**
 * The `checkpoints` tables. One checkpoint per seq: a second one at the same seq takes its place. The calls that made
 * them are remembered for the life of the run all the same, and names go on pointing at their seq.
 */
export class CheckpointTable {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Stores what is known of a checkpoint; its content is stored before. */
  put({ head, objectKey, lines }: StoredCheckpoint, command: CheckpointCommand | null): void {
    const text = JSON.stringify(head);
    this.#sql.run(
      `INSERT INTO checkpoints (seq, head, object_key, lines) VALUES (?, ?, ?, ?)
       ON CONFLICT (seq) DO UPDATE SET head = excluded.head, object_key = excluded.object_key, lines = excluded.lines`,
      head.seq,
      text,
      objectKey,
      lines,
    );
    if (head.name !== undefined) {
      this.#sql.run(
        "INSERT INTO checkpoint_names (name, seq) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
        head.name,
        head.seq,
      );
    }
    if (command !== null) {
      this.#sql.run(
        "INSERT INTO checkpoint_commands (command_id, fingerprint, head) VALUES (?, ?, ?)",
        command.commandId,
        command.fingerprint,
        text,
      );
    }
  }

  /** Lets a name point at a seq, unless it points somewhere already. */
  putName(name: string, seq: number): void {
    this.#sql.run(
      "INSERT INTO checkpoint_names (name, seq) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
      name,
      seq,
    );
  }

  /** Remembers a call, with what it was answered. */
  putCall({ commandId, fingerprint }: CheckpointCommand, head: CheckpointHead): void {
    this.#sql.run(
      "INSERT INTO checkpoint_commands (command_id, fingerprint, head) VALUES (?, ?, ?)",
      commandId,
      fingerprint,
      JSON.stringify(head),
    );
  }

  /** Everything that is known beside the log and is no content, as lines of an export; a page of one list. */
  extras(list: ExtraList, after: string | number, limit: number): { key: string | number; line: string }[] {
    return this.#sql.all<{ key: string | number; line: string }>(EXTRAS[list], after, limit);
  }

  /** Stores one part of a content, from part 0 on: one row must stay under the platform's 2 MB. */
  putPart(seq: number, part: number, text: string): void {
    this.#sql.run(
      "INSERT INTO checkpoint_parts (seq, member, part, text) VALUES (?, 'state', ?, ?)",
      seq,
      part,
      text,
    );
  }

  /** Drops what lies here of a content: its lines, or what older releases stored instead. */
  dropParts(seq: number, format: "lines" | "old"): void {
    const members = format === "lines" ? ["state"] : ["run_state", "blackboard"];
    for (const member of members) {
      this.#sql.run("DELETE FROM checkpoint_parts WHERE seq = ? AND member = ?", seq, member);
    }
  }

  /** The newest checkpoint at or before a seq. */
  latest(uptoSeq: number): StoredCheckpoint | null {
    return this.#first("WHERE seq <= ? ORDER BY seq DESC LIMIT 1", uptoSeq);
  }

  /** The same, after another seq, among those that hold the whole state: not those of older releases. */
  latestWhole(uptoSeq: number, afterSeq: number): StoredCheckpoint | null {
    const where = "WHERE seq <= ? AND seq > ? AND lines IS NOT NULL ORDER BY seq DESC LIMIT 1";
    return this.#first(where, uptoSeq, afterSeq);
  }

  at(seq: number): StoredCheckpoint | null {
    return this.#first("WHERE seq = ?", seq);
  }

  byId(id: string): StoredCheckpoint | null {
    return this.#first("WHERE json_extract(head, '$.checkpoint_id') = ?", id);
  }

  byName(name: string): StoredCheckpoint | null {
    const seq = this.seqOfName(name);
    return seq === null ? null : this.at(seq);
  }

  /** Where a name points; null when it is free. */
  seqOfName(name: string): number | null {
    return (
      this.#sql.first<{ seq: number }>("SELECT seq FROM checkpoint_names WHERE name = ?", name)?.seq ?? null
    );
  }

  /** Up to `limit` checkpoints before a seq, newest first. */
  page(beforeSeq: number, limit: number): CheckpointHead[] {
    return this.#sql
      .all<Row>(
        "SELECT head, object_key, lines FROM checkpoints WHERE seq < ? ORDER BY seq DESC LIMIT ?",
        beforeSeq,
        limit,
      )
      .map((row) => read(row).head);
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
    return { head: readHead(row.head), fingerprint: row.fingerprint };
  }

  /** The content that lies here, as lines with their line breaks, in pieces that are read as they are taken. */
  *content(head: CheckpointHead): Generator<string> {
    if (head.state_sha256 !== null) {
      yield* this.#parts(head.seq, "state");
      return;
    }
    const member = (name: string): unknown => JSON.parse([...this.#parts(head.seq, name)].join(""));
    const whole = { ...head, run_state: member("run_state"), blackboard: member("blackboard") } as Checkpoint;
    for (const line of memoryStateLines(fromCheckpoint(whole))) yield `${line}\n`;
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

  #first(where: string, ...bindings: (string | number)[]): StoredCheckpoint | null {
    const row = this.#sql.first<Row>(`SELECT head, object_key, lines FROM checkpoints ${where}`, ...bindings);
    return row === null ? null : read(row);
  }
}

/** The parts of lines, as they are stored. */
export function* linesInParts(lines: Iterable<string>): Generator<string> {
  yield* inParts(withBreaks(lines));
}

function* withBreaks(lines: Iterable<string>): Generator<string> {
  for (const line of lines) yield `${line}\n`;
}

function read(row: Row): StoredCheckpoint {
  return { head: readHead(row.head), objectKey: row.object_key, lines: row.lines ?? 0 };
}

/** A stored head; those of older releases have no more than the contract's members. */
function readHead(text: string): CheckpointHead {
  const head = JSON.parse(text) as Partial<CheckpointHead>;
  const { automatic = false, state_sha256 = null, log_hash = null } = head;
  // In the order they were written in: a repeat is answered with the same text.
  return { ...head, automatic, state_sha256, log_hash } as CheckpointHead;
}
