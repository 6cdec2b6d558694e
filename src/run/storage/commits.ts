import type { CommandOp } from "../../domain/command.ts";
import type { Commit } from "../../domain/commit.ts";
import { bytesOver } from "../../domain/json-size.ts";
import type { ReceiptFacts } from "../../domain/outcome.ts";
import { MAX_COMMIT_BYTES, MAX_PAGE_LENGTH } from "../../protocol/limits.ts";
import { commitHash, type LogRow } from "../chain.ts";
import type { Sql } from "./sql.ts";

/** What is kept with the first commit of a command, so that a repeat can be answered from the log. */
export interface Receipt extends ReceiptFacts {
  op: CommandOp;
  /** Digest of the request; null when the id came with a row of a batch. */
  fingerprint: string | null;
  /** How many commits the command made, this one included. */
  commits: number;
}

/** Which column of a commit a list shows. */
export type LogColumn = "event" | "patch";

interface CommitRow extends Record<string, SqlStorageValue> {
  seq: number;
  receipt: string | null;
  event: string;
  patch: string | null;
}

/** A commit's records as they are stored. */
export interface CommitTextRow extends Record<string, SqlStorageValue> {
  seq: number;
  event: string;
  patch: string | null;
}

const PAGE = 500;

/** Thrown inside a command's transaction, which it undoes; the engine turns it into a refusal. */
export class CommitTooLarge extends Error {
  readonly bytes: number;

  constructor(bytes: number) {
    super(`a commit of ${bytes} bytes does not fit into a row`);
    this.bytes = bytes;
  }
}

/** What a commit's row holds of it. */
export interface CommitTexts {
  event: string;
  patch: string | null;
}

/** @throws CommitTooLarge when the commit does not fit into a row. */
export function textsOf(commit: Commit): CommitTexts {
  const event = JSON.stringify(commit.event);
  const patch = commit.patch === null ? null : JSON.stringify(commit.patch);
  const bytes = bytesOver(event + (patch ?? ""), MAX_COMMIT_BYTES);
  if (bytes !== null) throw new CommitTooLarge(bytes);
  return { event, patch };
}

/** The log table: all commits that are not in a segment (segments.ts). */
export class CommitTable {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /**
   * @param prevHash hash of the commit before.
   * @param texts what `textsOf` makes of the commit, where that was asked for before.
   * @returns the hash of this one.
   * @throws CommitTooLarge when the commit does not fit into a row.
   */
  append(
    commit: Commit,
    commandId: string | null,
    receipt: Receipt | null,
    prevHash: string,
    texts: CommitTexts = textsOf(commit),
  ): string {
    const { event, patch } = texts;
    const receiptText = receipt === null ? null : JSON.stringify(receipt);
    this.#sql.run(
      "INSERT INTO commits (seq, command_id, receipt, event, patch, prev_hash) VALUES (?, ?, ?, ?, ?, ?)",
      commit.event.seq,
      commandId,
      receiptText,
      event,
      patch,
      prevHash,
    );
    return commitHash({ prev_hash: prevHash, command_id: commandId, receipt: receiptText, event, patch });
  }

  /** Whole rows with `after < seq <= upto`, ascending, until they are longer than `maxLength` together, or so many. */
  rows(after: number, upto: number, limit: number, maxLength: number): LogRow[] {
    return this.#sql.upTo<LogRow & Record<string, SqlStorageValue>>(
      maxLength,
      `SELECT seq, prev_hash, command_id, receipt, event, patch FROM commits
       WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?`,
      after,
      upto,
      limit,
    ).rows;
  }

  /** Stores a commit as it was stored elsewhere; that it fits into a row has been checked. */
  appendRow({ seq, prev_hash, command_id, receipt, event, patch }: LogRow): void {
    this.#sql.run(
      "INSERT INTO commits (seq, prev_hash, command_id, receipt, event, patch) VALUES (?, ?, ?, ?, ?, ?)",
      seq,
      prev_hash,
      command_id,
      receipt,
      event,
      patch,
    );
  }

  hasCommand(commandId: string): boolean {
    return this.#sql.first("SELECT seq FROM commits WHERE command_id = ?", commandId) !== null;
  }

  /** The receipt of a command and the commits it made, or null when it was never accepted. */
  byCommand(commandId: string): { receipt: Receipt; commits: Commit[] } | null {
    const first = this.#sql.first<CommitRow>("SELECT * FROM commits WHERE command_id = ?", commandId);
    if (first === null || first.receipt === null) return null;
    const receipt = JSON.parse(first.receipt) as Receipt;
    return { receipt, commits: [...this.range(first.seq - 1, first.seq - 1 + receipt.commits)] };
  }

  /** Seq of the newest commit here; 0 when there is none. */
  lastSeq(): number {
    return this.#sql.first<{ seq: number | null }>("SELECT max(seq) AS seq FROM commits")?.seq ?? 0;
  }

  /** Commits with `after < seq <= upto`, ascending, read page by page. */
  *range(after: number, upto: number): Generator<Commit> {
    for (let cursor = after; cursor < upto; ) {
      const { rows } = this.#sql.upTo<CommitRow>(
        MAX_PAGE_LENGTH,
        "SELECT seq, receipt, event, patch FROM commits WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        cursor,
        upto,
        PAGE,
      );
      for (const row of rows) {
        yield { event: JSON.parse(row.event), patch: row.patch === null ? null : JSON.parse(row.patch) };
      }
      const last = rows.at(-1);
      if (last === undefined) return;
      cursor = last.seq;
    }
  }

  /** The events at these seqs, of those that are here, in this order, until they are longer than `maxLength` together. */
  eventsAt(seqs: number[], maxLength: number): { rows: { seq: number; text: string }[]; isCut: boolean } {
    return this.#sql.upTo<{ seq: number; text: string }>(
      maxLength,
      `SELECT seq, event AS text FROM json_each(?) AS wanted
       JOIN commits ON commits.seq = wanted.value ORDER BY wanted.key`,
      JSON.stringify(seqs),
    );
  }

  /** The records of commits with `after < seq <= upto`, ascending, until they are longer than `maxLength` together. */
  records(after: number, upto: number, withPatches: boolean, maxLength: number): CommitTextRow[] {
    const patch = withPatches ? "patch" : "NULL AS patch";
    return this.#sql.upTo<CommitTextRow>(
      maxLength,
      `SELECT seq, event, ${patch} FROM commits WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?`,
      after,
      upto,
      PAGE,
    ).rows;
  }

  /** One column's texts with `after < seq <= upto`, ascending, until they are longer than `maxLength` together, or so many. */
  someTexts(
    column: LogColumn,
    after: number,
    upto: number,
    limit: number,
    maxLength: number,
  ): { rows: { seq: number; text: string }[]; isCut: boolean } {
    const { rows, isCut } = this.#sql.upTo<{ seq: number; text: string }>(
      maxLength,
      `SELECT seq, ${column} AS text FROM commits
       WHERE seq > ? AND seq <= ? AND ${column} IS NOT NULL ORDER BY seq LIMIT ?`,
      after,
      upto,
      limit,
    );
    return { rows, isCut: isCut || rows.length === limit };
  }

  /** The last `count` patches with `after < seq <= upto`: how many there are, and the seq of the first of them. */
  lastPatches(count: number, after: number, upto: number): { count: number; firstSeq: number | null } {
    const row = this.#sql.first<{ count: number; first: number | null }>(
      `SELECT count(*) AS count, min(seq) AS first FROM (
         SELECT seq FROM commits WHERE patch IS NOT NULL AND seq > ? AND seq <= ? ORDER BY seq DESC LIMIT ?
       )`,
      after,
      upto,
      count,
    );
    return { count: row?.count ?? 0, firstSeq: row?.first ?? null };
  }
}
