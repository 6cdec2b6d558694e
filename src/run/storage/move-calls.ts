import type { ExportChecks } from "../../protocol/export-format.ts";
import type { RunOverview } from "../reads.ts";
import type { Sql } from "./sql.ts";

/** What a call was answered that brought the run here. */
export interface MoveAnswer {
  run: RunOverview;
  checks: ExportChecks;
}

/** A call that brought the run here (a fork, an import, a restore), for answering its repeats: no commit tells of it. */
export interface MoveCall {
  command_id: string;
  /** Digest of the request. */
  fingerprint: string;
  answer: MoveAnswer;
}

/** Table `move_calls`. */
export class MoveCallTable {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** A run that was brought here twice under one key was away between: the later call counts. */
  put({ command_id, fingerprint, answer }: MoveCall): void {
    this.#sql.run(
      `INSERT INTO move_calls (command_id, fingerprint, answer) VALUES (?, ?, ?)
       ON CONFLICT (command_id) DO UPDATE SET fingerprint = excluded.fingerprint, answer = excluded.answer`,
      command_id,
      fingerprint,
      JSON.stringify(answer),
    );
  }

  find(commandId: string): MoveCall | null {
    const row = this.#sql.first<{ fingerprint: string; answer: string }>(
      "SELECT fingerprint, answer FROM move_calls WHERE command_id = ?",
      commandId,
    );
    if (row === null) return null;
    const { fingerprint, answer } = row;
    return { command_id: commandId, fingerprint, answer: JSON.parse(answer) as MoveAnswer };
  }
}
