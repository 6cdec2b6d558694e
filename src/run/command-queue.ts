import { MAX_WAITING_COMMANDS, MAX_WAITING_LENGTH } from "../protocol/limits.ts";

/**
 * Those that wait for their turn, up to a bound in count and in what they hold. Past it, more would only wait longer than
 * their senders do, and fill the object's memory, which it has for its state.
 */
export class CommandQueue<T> {
  #waiting: { item: T; length: number }[] = [];
  #held = 0;

  get length(): number {
    return this.#waiting.length;
  }

  /** Puts one at the end, unless the queue is full. One that comes to an empty queue is always taken. */
  push(item: T, content: unknown): boolean {
    const length = lengthOf(content);
    const isFull =
      this.#waiting.length >= MAX_WAITING_COMMANDS ||
      (this.#waiting.length > 0 && this.#held + length > MAX_WAITING_LENGTH);
    if (isFull) return false;
    this.#waiting.push({ item, length });
    this.#held += length;
    return true;
  }

  /** Takes up to so many from the front. */
  take(count: number): T[] {
    const taken = this.#waiting.splice(0, count);
    for (const { length } of taken) this.#held -= length;
    return taken.map(({ item }) => item);
  }

  /** Puts back in front what was taken and has not had its turn: it is never refused. */
  putBack(items: readonly T[]): void {
    this.#waiting.unshift(...items.map((item) => ({ item, length: 0 })));
  }
}

/** About how much memory a value takes, in UTF-16 units: its texts, and a little for every member. */
function lengthOf(value: unknown): number {
  if (typeof value === "string") return value.length;
  if (typeof value !== "object" || value === null) return 8;
  let length = 8;
  if (Array.isArray(value)) {
    for (const item of value) length += 8 + lengthOf(item);
    return length;
  }
  for (const name in value) length += name.length + lengthOf((value as Record<string, unknown>)[name]);
  return length;
}
