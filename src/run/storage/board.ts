import { type Artifact, NOTE_LISTS, type Note, type NoteList } from "../../protocol/blackboard.ts";
import type { Sql } from "./sql.ts";

/** The blackboard's lists: notes and artifacts, in the order they were added. */
export class BoardTables {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  addNote(list: NoteList, note: Note): void {
    this.#sql.run("INSERT INTO notes (list, doc) VALUES (?, ?)", list, JSON.stringify(note));
  }

  addArtifact(artifact: Artifact): void {
    this.#sql.run("INSERT INTO artifacts (doc) VALUES (?)", JSON.stringify(artifact));
  }

  /** The JSON texts of each note list. */
  noteDocs(): Record<NoteList, string[]> {
    const docs: Record<NoteList, string[]> = { facts: [], decisions: [], open_questions: [] };
    for (const row of this.#sql.all<{ list: string; doc: string }>(
      "SELECT list, doc FROM notes ORDER BY pos",
    )) {
      const list = NOTE_LISTS.find((known) => known === row.list);
      if (list !== undefined) docs[list].push(row.doc);
    }
    return docs;
  }

  artifactDocs(): string[] {
    return this.#sql.all<{ doc: string }>("SELECT doc FROM artifacts ORDER BY pos").map((row) => row.doc);
  }
}
