/**
 * What is left to do, shared by all agents of a drill. Agents stop when it is empty, and the watcher gives up when it has
 * not moved for too long: a server that loses a task would otherwise keep the drill waiting for ever.
 */
export class Board {
  readonly #open: Set<string>;
  readonly #total: number;
  #startedMs: number;
  #lastDoneMs: number;
  #stopped = false;
  readonly #doubtful = new Set<string>();

  /** @param open ids of the tasks to be worked */
  constructor(open: readonly string[]) {
    this.#open = new Set(open);
    this.#total = open.length;
    this.#startedMs = performance.now();
    this.#lastDoneMs = this.#startedMs;
  }

  /** Starts the clocks: the agents begin now. */
  start(): void {
    this.#startedMs = performance.now();
    this.#lastDoneMs = this.#startedMs;
  }

  /** Notes that a completion of this task was accepted. Doing so twice changes nothing. */
  markDone(taskId: string): void {
    if (!this.#open.delete(taskId)) return;
    this.#lastDoneMs = performance.now();
  }

  /** Notes that this task may be done, because a completion of it was never answered. */
  doubt(taskId: string): void {
    this.#doubtful.add(taskId);
  }

  /** The ids of those in doubt that nobody has completed since. */
  get doubtful(): readonly string[] {
    return [...this.#doubtful].filter((id) => this.#open.has(id));
  }

  /** Makes all agents stop after what they are doing now. */
  stop(): void {
    this.#stopped = true;
  }

  /** True when nothing is left or the drill was stopped. */
  get over(): boolean {
    return this.#stopped || this.#open.size === 0;
  }

  get total(): number {
    return this.#total;
  }

  get done(): number {
    return this.#total - this.#open.size;
  }

  /** The ids that nobody has completed. */
  get left(): readonly string[] {
    return [...this.#open];
  }

  /** Milliseconds since work began. */
  get elapsedMs(): number {
    return performance.now() - this.#startedMs;
  }

  /** Milliseconds from the start to the last completion. */
  get workedMs(): number {
    return this.#lastDoneMs - this.#startedMs;
  }

  /** Milliseconds since the last completion. */
  get idleMs(): number {
    return performance.now() - this.#lastDoneMs;
  }
}
