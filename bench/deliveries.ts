import { noteEvent } from "./appends.ts";

/** What comes before a note's number. No stream adds it: it is part of the note's text. */
const marker = "accepts form ";
const digits = 5;
const zero = "0".charCodeAt(0);

/** The note with its number in place of a word, as long as without: whoever receives it can tell which one it is. */
export function numberedNote(number: number): string {
  return noteEvent.replace("accepts both forms", marker + String(number).padStart(digits, "0"));
}

/** Which watcher received which numbered note, and how long after it was sent. */
export class Deliveries {
  /** From sending a note to its receipt by a watcher, in milliseconds. */
  readonly latencies: number[] = [];
  readonly #notes: number;
  readonly #uncounted: number;
  readonly #sentMs: Float64Array;
  /** How often a watcher received a note, watcher by watcher. */
  readonly #times: Uint8Array;
  #missing: number;
  readonly #whole = Promise.withResolvers<void>();

  /** @param options.uncounted how many notes come first that only warm up: they must arrive, but have no latency. */
  constructor(options: { watchers: number; notes: number; uncounted: number }) {
    this.#notes = options.notes;
    this.#uncounted = options.uncounted;
    this.#sentMs = new Float64Array(options.notes);
    this.#times = new Uint8Array(options.watchers * options.notes);
    this.#missing = this.#times.length;
  }

  sending(note: number): void {
    this.#sentMs[note] = performance.now();
  }

  /** Finds the notes in what a watcher received. Nothing is parsed: the load shares the machine with the server. */
  received(watcher: number, lines: Buffer): void {
    const nowMs = performance.now();
    for (let at = lines.indexOf(marker); at !== -1; at = lines.indexOf(marker, at + 1)) {
      const note = numberAt(lines, at + marker.length);
      const index = watcher * this.#notes + note;
      const times = (this.#times[index] ?? 0) + 1;
      this.#times[index] = times;
      if (times > 1) continue;
      if (note >= this.#uncounted) this.latencies.push(nowMs - (this.#sentMs[note] ?? Number.NaN));
      this.#missing -= 1;
      if (this.#missing === 0) this.#whole.resolve();
    }
  }

  /** Resolves when every watcher has received every note. */
  whole(): Promise<void> {
    return this.#whole.promise;
  }

  /** @throws Error unless every watcher has received every note exactly once. */
  check(): void {
    const repeated = this.#times.filter((times) => times > 1).length;
    if (this.#missing === 0 && repeated === 0) return;
    throw new Error(
      `of ${this.#times.length} deliveries ${this.#missing} were lost and ${repeated} came more than once`,
    );
  }
}

function numberAt(bytes: Buffer, start: number): number {
  let number = 0;
  for (let at = start; at < start + digits; at += 1) number = number * 10 + (bytes[at] ?? 0) - zero;
  return number;
}
