import { NO_AUDIT } from "../../domain/audit.ts";
import type { RunHead } from "../../domain/head.ts";
import type { RunHeader, TaskCounts } from "../../protocol/run.ts";
import { inParts } from "./parts.ts";
import type { Sql } from "./sql.ts";

/** The create call that made a run, for answering its repeats. */
export interface CreatedCommand {
  command_id: string;
  fingerprint: string;
}

/** A head longer than this, in UTF-16 units, is stored in parts. */
const MAX_INLINE_HEAD = 100_000;

/** What the run row holds (schema.ts). */
export interface RunRow {
  head: RunHead;
  headSeq: number;
  /** Hash of commit `headSeq`; null when there is none, or an older release saved the head. */
  logHash: string | null;
  /** False when an older release stored the head: then it has the audit of a run without history. */
  isAudited: boolean;
  taskCounts: TaskCounts;
  initial: RunHeader;
  leaseKey: string;
  createdCommand: CreatedCommand | null;
  directorySeq: number;
}

interface StoredRow extends Record<string, SqlStorageValue> {
  head: string;
  head_seq: number;
  log_hash: string | null;
  task_counts: string;
  initial: string;
  lease_key: string;
  created_command: string | null;
  directory_seq: number;
}

type StoredHead = Omit<RunHead, "workspace_since_seq" | "audit"> & Partial<Pick<RunHead, "audit">>;

/** The single row of table `run`. */
export class RunRowTable {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  read(): RunRow | null {
    const row = this.#sql.first<StoredRow>("SELECT * FROM run");
    if (row === null) return null;
    const stored = JSON.parse([row.head, ...this.#headParts()].join("")) as StoredHead;
    return {
      // Heads of older releases do not say since when the run has had its path, either.
      head: { workspace_since_seq: NOT_KNOWN, audit: NO_AUDIT, ...stored },
      isAudited: stored.audit !== undefined,
      headSeq: row.head_seq,
      logHash: row.log_hash,
      taskCounts: JSON.parse(row.task_counts) as TaskCounts,
      initial: JSON.parse(row.initial) as RunHeader,
      leaseKey: row.lease_key,
      createdCommand:
        row.created_command === null ? null : (JSON.parse(row.created_command) as CreatedCommand),
      directorySeq: row.directory_seq,
    };
  }

  /** The hash that was saved with the head; null when none was. */
  savedHash(): { seq: number; hash: string } | null {
    return this.#sql.first<{ seq: number; hash: string }>(
      "SELECT head_seq AS seq, log_hash AS hash FROM run WHERE log_hash IS NOT NULL",
    );
  }

  /** The row of a new run. */
  insert(row: RunRow): void {
    const [first = "", ...rest] = headTexts(row.head);
    this.#sql.run(
      `INSERT INTO run (only_row, head, head_seq, task_counts, initial, lease_key, created_command, directory_seq)
       VALUES (1, ?, ?, ?, ?, ?, ?, ?)`,
      first,
      row.headSeq,
      JSON.stringify(row.taskCounts),
      JSON.stringify(row.initial),
      row.leaseKey,
      row.createdCommand === null ? null : JSON.stringify(row.createdCommand),
      row.directorySeq,
    );
    this.#addHeadParts(rest);
  }

  /** Saves the head as of its newest commit, with how far the directory has followed. */
  saveHead(head: RunHead, logHash: string, taskCounts: TaskCounts, directorySeq: number): void {
    const [first = "", ...rest] = headTexts(head);
    this.#sql.transaction(() => {
      this.#sql.run(
        "UPDATE run SET head = ?, head_seq = ?, log_hash = ?, task_counts = ?, directory_seq = ?",
        first,
        head.run.last_event_seq,
        logHash,
        JSON.stringify(taskCounts),
        directorySeq,
      );
      this.#sql.run("DELETE FROM head_parts");
      this.#addHeadParts(rest);
    });
  }

  #addHeadParts(texts: string[]): void {
    for (const text of texts) this.#sql.run("INSERT INTO head_parts (text) VALUES (?)", text);
  }

  #headParts(): string[] {
    return this.#sql
      .all<{ text: string }>("SELECT text FROM head_parts ORDER BY part")
      .map((row) => row.text);
  }
}

/** A head's text for its row, and the rest of it for the parts. The row has to hold the start of replays too. */
function headTexts(head: RunHead): string[] {
  const text = JSON.stringify(head);
  return text.length > MAX_INLINE_HEAD ? ["", ...inParts([text])] : [text];
}

/** Stands for what heads of older releases do not say: since when the run has had its path. */
export const NOT_KNOWN = -1;
