import type { RunHead } from "../domain/head.ts";
import { stateLines } from "../domain/state-lines.ts";
import { MAX_ECHO_LENGTH } from "../protocol/limits.ts";
import type { BoardList, BoardTables } from "./storage/board.ts";
import type { FileTables } from "./storage/files.ts";
import type { TaskTable } from "./storage/tasks.ts";

/** Where the texts come from. */
export interface TextSource {
  head(): RunHead;
  readonly tasks: TaskTable;
  readonly board: BoardTables;
  readonly files: FileTables;
}

/** JSON texts kept in memory, with their length in all. */
interface Kept {
  /** Tasks by position, which is list order. */
  tasks: Map<number, string>;
  lists: Record<BoardList, string[]>;
  length: number;
}

/**
 * A run and its blackboard as JSON text, from parts that are serialised once and kept: task by task, note by note.
 * Answers that echo them cost no rows after the first. What is too large to echo is not kept in memory.
 *
 * X1 A text is made from one state: everything it needs is taken in the turn in which it is asked for, because its
 *    pieces may be sent while later commits change the run.
 */
export class RunTexts {
  readonly #source: TextSource;
  /** "too_large" once the parts were found to be; null when not loaded. */
  #kept: Kept | "too_large" | null = null;

  constructor(source: TextSource) {
    this.#source = source;
  }

  /** The full run (contract 01 §4.1), in pieces. */
  run(): Generator<string> {
    const head = JSON.stringify(this.#source.head().run).slice(0, -1);
    return withTasks(`${head},"tasks":[`, [...this.#parts().tasks.values()]);
  }

  /** The full blackboard (contract 01 §4.8), in pieces. */
  blackboard(): Generator<string> {
    const { tasks, lists } = this.#parts();
    return withLists(lists, withTasks(`${this.#boardMembers()},"tasks":[`, [...tasks.values()]));
  }

  /** The blackboard without its tasks, in pieces. */
  notes(): Generator<string> {
    const isKept = this.#kept !== null && this.#kept !== "too_large";
    const lists = isKept ? this.#parts().lists : this.#source.board.docs();
    return withLists(lists, [`${this.#boardMembers()}}`]);
  }

  /** The whole state as lines (domain/state-lines.ts). */
  stateLines(): Generator<string> {
    const { tasks, lists } = this.#parts();
    const { facts, decisions, open_questions, artifacts } = lists;
    return stateLines({
      head: this.#source.head(),
      tasks: [...tasks.values()],
      lists: {
        facts: [...facts],
        decisions: [...decisions],
        open_questions: [...open_questions],
        artifacts: [...artifacts],
      },
      files: this.#source.files.docs(),
    });
  }

  /** The run, or its blackboard, for echoing in a mutation's answer; null when it is over the echo limit. */
  echo(what: "run" | "blackboard"): string | null {
    if (this.#kept === null) this.#parts();
    if (this.#kept === "too_large") return null;
    const text = joined(what === "run" ? this.run() : this.blackboard());
    return text.length > MAX_ECHO_LENGTH ? null : text;
  }

  /** Follows a change to one task. New tasks come last, as in the table. */
  putTask(pos: number, doc: string): void {
    const kept = this.#kept;
    if (kept === null || kept === "too_large") return;
    kept.length += doc.length - (kept.tasks.get(pos)?.length ?? 0);
    kept.tasks.set(pos, doc);
    this.#dropIfTooLarge(kept);
  }

  /** Follows a new entry of a list. */
  addEntry(list: BoardList, doc: string): void {
    const kept = this.#kept;
    if (kept === null || kept === "too_large") return;
    kept.length += doc.length;
    kept.lists[list].push(doc);
    this.#dropIfTooLarge(kept);
  }

  forget(): void {
    this.#kept = null;
  }

  #parts(): Kept {
    if (this.#kept !== null && this.#kept !== "too_large") return this.#kept;
    const rows = this.#source.tasks.docs();
    const lists = this.#source.board.docs();
    const docs = [...rows.map((row) => row.doc), ...Object.values(lists).flat()];
    const kept: Kept = {
      tasks: new Map(rows.map((row) => [row.pos, row.doc])),
      lists,
      length: docs.reduce((sum, doc) => sum + doc.length, 0),
    };
    this.#kept = kept;
    this.#dropIfTooLarge(kept);
    return kept;
  }

  #dropIfTooLarge(kept: Kept): void {
    if (kept.length > MAX_ECHO_LENGTH) this.#kept = "too_large";
  }

  #boardMembers(): string {
    const { summaries, blackboard_revision } = this.#source.head();
    return `"summaries":${JSON.stringify(summaries)},"revision":${blackboard_revision}`;
  }
}

/** All pieces as one text. */
export function joined(pieces: Iterable<string>): string {
  return [...pieces].join("");
}

function* withTasks(start: string, docs: string[]): Generator<string> {
  yield start;
  for (const [index, doc] of docs.entries()) yield index === 0 ? doc : `,${doc}`;
  yield "]}";
}

/** An object that begins with the lists as they are now, and goes on with `rest`. */
function withLists(lists: Record<BoardList, string[]>, rest: Iterable<string>): Generator<string> {
  const now = Object.entries(lists).map(([name, docs]): [string, string[]] => [name, [...docs]]);
  return pieces();

  function* pieces(): Generator<string> {
    yield "{";
    for (const [name, docs] of now) {
      yield `${JSON.stringify(name)}:[`;
      for (const [index, doc] of docs.entries()) yield index === 0 ? doc : `,${doc}`;
      yield "],";
    }
    yield* rest;
  }
}
