import { type Artifact, NOTE_LISTS, type Note, type NoteList } from "../../protocol/blackboard.ts";
import type { Sql } from "./sql.ts";

/** The blackboard's lists. */
export type BoardList = NoteList | "artifacts";

/** The blackboard's lists: notes and artifacts, in the order they were added. */
export class BoardTables {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** @returns the entry's JSON text, as stored. */
  addNote(list: NoteList, note: Note): string {
    const doc = JSON.stringify(note);
    this.#sql.run("INSERT INTO notes (list, doc) VALUES (?, ?)", list, doc);
    return doc;
  }

  /** @returns the entry's JSON text, as stored. */
  addArtifact(artifact: Artifact): string {
    const doc = JSON.stringify(artifact);
    this.#sql.run("INSERT INTO artifacts (doc) VALUES (?)", doc);
    return doc;
  }

  /** The JSON texts of each list. */
  docs(): Record<BoardList, string[]> {
    const docs: Record<BoardList, string[]> = { facts: [], decisions: [], open_questions: [], artifacts: [] };
    for (const row of this.#sql.all<{ list: string; doc: string }>(
      "SELECT list, doc FROM notes ORDER BY pos",
    )) {
      const list = NOTE_LISTS.find((known) => known === row.list);
      if (list !== undefined) docs[list].push(row.doc);
    }
    docs.artifacts = this.artifacts();
    return docs;
  }

  /** The JSON texts of the artifacts. */
  artifacts(): string[] {
    return this.#sql.all<{ doc: string }>("SELECT doc FROM artifacts ORDER BY pos").map(({ doc }) => doc);
  }
}
