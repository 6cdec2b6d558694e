import type { RunHead } from "../domain/head.ts";
import { MAX_ECHO_BYTES } from "../protocol/limits.ts";
import type { BoardTables } from "./storage/board.ts";
import type { TaskTable } from "./storage/tasks.ts";

/** Where the texts come from. */
export interface TextSource {
  head(): RunHead;
  readonly tasks: TaskTable;
  readonly board: BoardTables;
}

/**
 * A run and its blackboard as JSON text, from parts that are serialised once and kept: task by task, and the notes as a
 * whole. Answers that echo them cost no rows after the first. A board too large to echo is not kept in memory.
 */
export class RunTexts {
  readonly #source: TextSource;
  /** Each task's JSON by position; "too_large" once it was found to be; null when not loaded. */
  #tasks: Map<number, string> | "too_large" | null = null;
  #tasksLength = 0;
  /** The notes' members, `"facts":[…],…`; null when not loaded. */
  #notes: string | null = null;

  constructor(source: TextSource) {
    this.#source = source;
  }

  /** The full run (contract 01 §4.1), in pieces. */
  *run(): Generator<string> {
    yield `${JSON.stringify(this.#source.head().run).slice(0, -1)},"tasks":[`;
    yield* commaSeparated(this.#allTasks());
    yield "]}";
  }

  /** The full blackboard (contract 01 §4.8), in pieces. */
  *blackboard(): Generator<string> {
    yield `{${this.#board()},"tasks":[`;
    yield* commaSeparated(this.#allTasks());
    yield "]}";
  }

  /** The blackboard without its tasks. */
  notes(): string {
    return `{${this.#board()}}`;
  }

  /** The run, or its blackboard, for echoing in a mutation's answer; null when it is over the echo limit. */
  echo(what: "run" | "blackboard"): string | null {
    if (!this.#fits()) return null;
    const text = [...(what === "run" ? this.run() : this.blackboard())].join("");
    return text.length > MAX_ECHO_BYTES ? null : text;
  }

  /** Follows a change to one task. New tasks come last, as in the table. */
  putTask(pos: number, doc: string): void {
    const docs = this.#tasks;
    if (!(docs instanceof Map)) return;
    this.#tasksLength += doc.length - (docs.get(pos)?.length ?? 0);
    if (this.#tasksLength > MAX_ECHO_BYTES) this.#tasks = "too_large";
    else docs.set(pos, doc);
  }

  forgetNotes(): void {
    this.#notes = null;
  }

  forget(): void {
    this.#tasks = null;
    this.#notes = null;
  }

  #fits(): boolean {
    if (this.#tasks === null) this.#allTasks();
    return this.#tasks !== "too_large";
  }

  #allTasks(): Iterable<string> {
    if (this.#tasks instanceof Map) return this.#tasks.values();
    const rows = this.#source.tasks.docs();
    const docs = new Map(rows.map((row) => [row.pos, row.doc]));
    this.#tasksLength = rows.reduce((sum, row) => sum + row.doc.length, 0);
    this.#tasks = this.#tasksLength > MAX_ECHO_BYTES ? "too_large" : docs;
    return docs.values();
  }

  #board(): string {
    const { summaries, blackboard_revision } = this.#source.head();
    this.#notes ??= this.#readNotes();
    return `${this.#notes},"summaries":${JSON.stringify(summaries)},"revision":${blackboard_revision}`;
  }

  #readNotes(): string {
    const lists = { ...this.#source.board.noteDocs(), artifacts: this.#source.board.artifactDocs() };
    return Object.entries(lists)
      .map(([name, docs]) => `${JSON.stringify(name)}:[${docs.join(",")}]`)
      .join(",");
  }
}

function* commaSeparated(texts: Iterable<string>): Generator<string> {
  let isFirst = true;
  for (const text of texts) {
    yield isFirst ? text : `,${text}`;
    isFirst = false;
  }
}
