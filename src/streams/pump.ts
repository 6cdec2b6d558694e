import type { Frame } from "../protocol/stream-frames.ts";
import type { Sink } from "./sinks.ts";

/** Contract 02 §7: a stream without any other frame for so long sends a keep-alive. */
export const KEEP_ALIVE_MS = 10_000;
/** A batch is full with about so much, in UTF-16 units. */
export const MAX_BATCH_LENGTH = 256 * 1024;
/** A reader that takes nothing for so long is cut off if so much was told meanwhile, in UTF-16 units. */
const MAX_BEHIND_MS = 1_000;
const MAX_BEHIND_LENGTH = 4 * 1024 * 1024;

/** What a stream has for its reader next: frames, or that there was nothing for a while. */
export interface Batch {
  frames: readonly Frame[] | "keep_alive";
  /** The reader's cursor then; null on `/context`, whose frames carry none. */
  id: string | null;
  /** On `/context`: with what the reader goes on from there, if that can be said. */
  resume?: Record<string, unknown>;
  /** Set on the last one: whether the reader has all there will ever be. */
  end?: { isComplete: boolean };
}

/**
 * Brings a stream's batches to its reader, one after the other, at the reader's speed.
 *
 * P1 What is on its way to a reader is one batch at a time: a reader that stops reading costs no more memory than that.
 * P2 One that takes nothing is cut off, by time or by how much it falls behind, with a frame that says where to go on.
 */
export class Pump {
  readonly #sink: Sink;
  /** The frame that cuts off a reader who has this batch and all before. */
  readonly #overrun: (batch: Batch) => Frame;
  /** Ends the wait for the write that is on. */
  #onStalled: (() => void) | null = null;
  #writingSinceMs = 0;
  #behind = 0;
  #timer: ReturnType<typeof setTimeout> | null = null;

  constructor(sink: Sink, overrun: (batch: Batch) => Frame) {
    this.#sink = sink;
    this.#overrun = overrun;
  }

  /** Something of that length was told that the reader shall have. */
  arrived(length: number): void {
    if (this.#onStalled === null) return;
    this.#behind += length;
    if (this.#isStalled()) this.#onStalled();
  }

  /** Resolves when the batches end, or the reader left or was cut off. */
  async run(batches: AsyncIterable<Batch>): Promise<void> {
    try {
      for await (const batch of batches) {
        const { frames, id, end } = batch;
        if (end !== undefined) {
          this.#sink.end(frames === "keep_alive" ? [] : frames, end.isComplete);
          return;
        }
        const writing = frames === "keep_alive" ? this.#sink.keepAlive(id) : this.#sink.write(frames);
        const outcome = await this.#taken(writing);
        writing.catch(() => undefined);
        if (outcome === "left") return;
        if (outcome === "taken") continue;
        this.#sink.end([this.#overrun(batch)], false);
        return;
      }
    } finally {
      if (this.#timer !== null) clearTimeout(this.#timer);
    }
  }

  #taken(writing: Promise<void>): Promise<"taken" | "left" | "stalled"> {
    this.#behind = 0;
    this.#writingSinceMs = Date.now();
    this.#timer ??= setTimeout(() => this.#look(), MAX_BEHIND_MS);
    return new Promise((resolve) => {
      const settle = (outcome: "taken" | "left" | "stalled"): void => {
        this.#onStalled = null;
        resolve(outcome);
      };
      this.#onStalled = () => settle("stalled");
      writing.then(
        () => settle("taken"),
        () => settle("left"),
      );
    });
  }

  /** One timer serves many writes: it looks how long the one that is on has taken. */
  #look(): void {
    this.#timer = null;
    if (this.#onStalled === null) return;
    if (this.#isStalled()) this.#onStalled();
    else this.#timer = setTimeout(() => this.#look(), MAX_BEHIND_MS);
  }

  #isStalled(): boolean {
    const waitedMs = Date.now() - this.#writingSinceMs;
    if (waitedMs >= this.#sink.patienceMs) return true;
    return waitedMs >= MAX_BEHIND_MS && this.#behind > MAX_BEHIND_LENGTH;
  }
}
