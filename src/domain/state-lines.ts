import type { NoteList } from "../protocol/blackboard.ts";
import { NOTE_LISTS } from "../protocol/blackboard.ts";
import type { RunHead } from "./head.ts";
import { MemoryRun } from "./memory.ts";

/**
 * The whole state of a run as JSON lines: what checkpoints hold, what forks begin with, and what digests are made of.
 *
 * Line 1 is `{"head":RunHead}`; then `{"task":…}` in list order, `{"facts":…}`, `{"decisions":…}`, `{"open_questions":…}` and
 * `{"artifacts":…}` in their order, `{"file":FileVersion}` for what the artifact space holds, by path.
 *
 * L1 Equal states give equal lines: records are written as they are stored, the head with its members in order of name,
 *    because how a head came about decides in which order it has them.
 */
export interface StateParts {
  head: RunHead;
  /** JSON texts. */
  tasks: Iterable<string>;
  lists: Record<NoteList | "artifacts", Iterable<string>>;
  files: Iterable<string>;
}

/** Lines without their line breaks. */
export function* stateLines({ head, tasks, lists, files }: StateParts): Generator<string> {
  yield `{"head":${inOrder(head)}}`;
  for (const task of tasks) yield `{"task":${task}}`;
  for (const list of [...NOTE_LISTS, "artifacts"] as const) {
    for (const entry of lists[list]) yield `{"${list}":${entry}}`;
  }
  for (const file of files) yield `{"file":${file}}`;
}

/** The lines of a run in memory. */
export function memoryStateLines(run: MemoryRun): Generator<string> {
  const { facts, decisions, open_questions, artifacts, tasks } = run.blackboard();
  const lists = { facts, decisions, open_questions, artifacts };
  return stateLines({
    head: run.head(),
    tasks: texts(tasks),
    lists: {
      facts: texts(lists.facts),
      decisions: texts(lists.decisions),
      open_questions: texts(lists.open_questions),
      artifacts: texts(lists.artifacts),
    },
    files: texts(run.files()),
  });
}

/** One line, read: exactly one of these. */
type StateLine = Partial<
  { head: RunHead } & Record<"task" | "file" | NoteList | "artifacts", Record<string, unknown>>
>;

/**
 * The run that such lines tell.
 * @throws Error when they do not begin with a head, or a line is none of these.
 */
export function readStateLines(lines: Iterable<string>): MemoryRun {
  const reader = new StateReader();
  for (const line of lines) reader.take(line);
  return reader.run();
}

/** Reads such lines as they come. */
export class StateReader {
  #run: MemoryRun | null = null;

  /** @throws Error when the line is none of these, or the first and not a head. */
  take(text: string): void {
    const line = JSON.parse(text) as StateLine;
    if (this.#run !== null) this.#run.restore(line);
    else if (line.head !== undefined) this.#run = new MemoryRun(line.head);
    else throw new Error("a state begins with its head");
  }

  /** @throws Error when there was no line. */
  run(): MemoryRun {
    if (this.#run === null) throw new Error("a state has a head");
    return this.#run;
  }
}

function* texts(values: Iterable<unknown>): Generator<string> {
  for (const value of values) yield JSON.stringify(value);
}

/** A value's JSON, with the members of every object in order of their names. */
function inOrder(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) => {
    if (typeof member !== "object" || member === null || Array.isArray(member)) return member;
    return Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}
