import { inParts } from "./parts.ts";
import type { Sql } from "./sql.ts";

/** The state a run began with, as lines (domain/state-lines.ts); none for a run that began empty. */
export class GenesisTable {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Adds to the text: whole lines with their line breaks. */
  append(text: string): void {
    for (const part of inParts([text])) this.#sql.run("INSERT INTO genesis_parts (text) VALUES (?)", part);
  }

  /** How many parts the text has. */
  parts(): number {
    return this.#sql.first<{ parts: number }>("SELECT count(*) AS parts FROM genesis_parts")?.parts ?? 0;
  }

  /** A part of the text, from 1; parts may end anywhere. */
  part(part: number): string {
    return (
      this.#sql.first<{ text: string }>("SELECT text FROM genesis_parts WHERE part = ?", part)?.text ?? ""
    );
  }

  /** All parts, one after the other: together they may be more than fits into memory. */
  *texts(): Generator<string> {
    const parts = this.parts();
    for (let part = 1; part <= parts; part += 1) yield this.part(part);
  }

  /** The lines without their line breaks, read part by part. */
  *lines(): Generator<string> {
    let pending = "";
    for (const text of this.texts()) {
      const lines = (pending + text).split("\n");
      pending = lines.pop() ?? "";
      yield* lines;
    }
  }
}
