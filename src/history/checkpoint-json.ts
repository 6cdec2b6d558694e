import type { RunHead } from "../domain/head.ts";
import { NOTE_LISTS } from "../protocol/blackboard.ts";

/** The text of a line's one member: what stands behind its name. */
function textOf(line: string, name: string): string {
  return line.slice(name.length + 4, -1);
}

function nameOf(line: string): string {
  return line.slice(2, line.indexOf('"', 2));
}

/**
 * What a checkpoint holds beside its head, as the contract shows it (01 §4.10), from its lines: the members `run_state` and
 * `blackboard` as JSON text without braces, in pieces. Both have the tasks, so that the lines are read twice; at no time
 * are more than a line's texts held.
 *
 * @param open reads the lines from the beginning.
 */
export async function* contractMembers(open: () => Promise<AsyncIterable<string>>): AsyncGenerator<string> {
  let head: RunHead | null = null;
  let separator = "";
  for await (const line of await open()) {
    const name = nameOf(line);
    if (name === "head") {
      head = JSON.parse(textOf(line, name)) as RunHead;
      yield `"run_state":${JSON.stringify(head.run).slice(0, -1)},"tasks":[`;
    } else if (name === "task") {
      yield `${separator}${textOf(line, name)}`;
      separator = ",";
    } else {
      // Tasks come first.
      break;
    }
  }
  if (head === null) throw new Error("a state has a head");
  yield `]},"blackboard":{"summaries":${JSON.stringify(head.summaries)},"revision":${head.blackboard_revision}`;

  const missing = new Set(["tasks", ...NOTE_LISTS, "artifacts"]);
  let current: string | null = null;
  for await (const line of await open()) {
    const name = nameOf(line);
    // Neither the head, which was told, nor files, which the contract does not know.
    if (name === "head" || name === "file") continue;
    const list = name === "task" ? "tasks" : name;
    missing.delete(list);
    if (list === current) yield `,${textOf(line, name)}`;
    else yield `${current === null ? "" : "]"},"${list}":[${textOf(line, name)}`;
    current = list;
  }
  if (current !== null) yield "]";
  for (const list of missing) yield `,"${list}":[]`;
  yield "}";
}
