/**
 * Waiting for a signal until a deadline, again and again. A timer is set far less often than a wait ends: the one that is
 * out looks at the deadline of its time and goes on for the rest.
 */
export class Waiter {
  #isSignalled = false;
  #wake: ((isSignalled: boolean) => void) | null = null;
  #timer: ReturnType<typeof setTimeout> | null = null;
  /** When the timer goes off, epoch ms. */
  #looksAtMs = 0;
  #deadlineMs = 0;

  /** Ends the wait, or the next one if there is none now. */
  signal(): void {
    this.#isSignalled = true;
    this.#end(true);
  }

  /** Resolves with true on a signal, with false when so much time has passed without one. */
  wait(ms: number): Promise<boolean> {
    if (this.#isSignalled) {
      this.#isSignalled = false;
      return Promise.resolve(true);
    }
    this.#deadlineMs = Date.now() + ms;
    if (this.#timer === null || this.#deadlineMs < this.#looksAtMs) this.#lookIn(ms);
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** Takes the timer back; a wait that is on never ends then. */
  dispose(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #look(): void {
    this.#timer = null;
    if (this.#wake === null) return;
    const restMs = this.#deadlineMs - Date.now();
    if (restMs > 0) this.#lookIn(restMs);
    else this.#end(false);
  }

  #lookIn(ms: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#looksAtMs = Date.now() + ms;
    this.#timer = setTimeout(() => this.#look(), ms);
  }

  #end(isSignalled: boolean): void {
    const wake = this.#wake;
    this.#wake = null;
    if (wake === null) return;
    this.#isSignalled = false;
    wake(isSignalled);
  }
}
