import type { Task } from "../../protocol/task.ts";
import type { TaskRow } from "./task-row.ts";

/** A row with its task. Both are values: a change makes new ones. */
export interface KnownTask {
  row: TaskRow;
  task: Task;
}

const MAX_TASKS = 500;
/** UTF-16 units of JSON in all. */
const MAX_LENGTH = 1_000_000;

/**
 * The tasks that were read or written last: most commands are about a task that was claimed a moment ago.
 *
 * N2 What is here equals the table. Whoever changes a row says so, and whoever undoes a transaction calls `forget`.
 */
export class RecentTasks {
  /** By id, the one used longest ago first. */
  readonly #known = new Map<string, KnownTask>();
  #length = 0;

  get(id: string): KnownTask | null {
    const known = this.#known.get(id);
    if (known === undefined) return null;
    this.#known.delete(id);
    this.#known.set(id, known);
    return known;
  }

  set(known: KnownTask): void {
    this.#remove(known.row.id);
    this.#known.set(known.row.id, known);
    this.#length += known.row.doc.length;
    for (const id of this.#known.keys()) {
      if (this.#known.size <= MAX_TASKS && this.#length <= MAX_LENGTH) break;
      this.#remove(id);
    }
  }

  forget(): void {
    this.#known.clear();
    this.#length = 0;
  }

  #remove(id: string): void {
    const known = this.#known.get(id);
    if (known === undefined) return;
    this.#known.delete(id);
    this.#length -= known.row.doc.length;
  }
}
