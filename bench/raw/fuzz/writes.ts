/**
 * What was written on behalf of one lane of the fuzz, each as a few words: where, and what. `run commits context.task.created`,
 * `run tasks`, `directory hooks`, `bucket put`. Those that an object wrote elsewhere begin with `run>` and the like.
 */
export class Writes {
  readonly #entries: { object: object; what: string }[] = [];
  /** Objects that held a run when they were first written to here. */
  readonly #held = new Map<object, boolean>();

  add(object: object, what: string): void {
    this.#entries.push({ object, what });
  }

  /** Whether the object is written to for the first time here. */
  isNew(object: object): boolean {
    return !this.#held.has(object);
  }

  /** Notes whether the object held a run before what is written to it here. */
  found(object: object, holdsRun: boolean): void {
    this.#held.set(object, holdsRun);
  }

  /** An object was emptied. What it was only brought here is gone again; what it held before is lost. */
  wiped(object: object): void {
    const wasHolding = this.#held.get(object) === true;
    for (let i = this.#entries.length - 1; i >= 0; i -= 1) {
      if (this.#entries[i]?.object === object) this.#entries.splice(i, 1);
    }
    if (wasHolding) this.add(object, "run wiped");
  }

  get length(): number {
    return this.#entries.length;
  }

  /** A transaction was undone: what was written since then was not. */
  undoTo(length: number): void {
    this.#entries.length = Math.min(length, this.#entries.length);
  }

  /** How often each was written. */
  counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const { what } of this.#entries) counts[what] = (counts[what] ?? 0) + 1;
    return counts;
  }
}
