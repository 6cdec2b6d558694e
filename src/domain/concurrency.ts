import type { Task } from "../protocol/task.ts";

/** Whether a task takes one of the places of its concurrency key: while somebody works on it, or holds it. */
export function isBusy(task: Task): boolean {
  if (task.concurrency_key === undefined) return false;
  return task.status === "in_progress" || task.lease_owner !== undefined;
}

/** What claims can still take of concurrency keys, at one moment; '' stands for no key, and has no end. */
export class Places {
  readonly #freeOf: (key: string) => number;
  readonly #taken = new Map<string, number>();

  /** @param freeOf places of a key that are free, before any is taken here; less than none where its limit was lowered. */
  constructor(freeOf: (key: string) => number) {
    this.#freeOf = freeOf;
  }

  has(key: string): boolean {
    return key === "" || this.#freeOf(key) > (this.#taken.get(key) ?? 0);
  }

  take(key: string): void {
    this.#taken.set(key, (this.#taken.get(key) ?? 0) + 1);
  }
}
