/** More commands than this are not waited for: their flush is cheap enough, and answers should flow meanwhile. */
const MAX_AWAITED = 32;

/**
 * How many commands are at work at the same time, as far as one can tell, and the wait for them.
 *
 * Agents that are answered together send their next commands together, but one after the other: the first of them would
 * flush alone, and the rest in a second flush. So once commands have met, the first waits for as many as lately.
 *
 * W1 A command that met no other does not wait.
 * W2 The wait ends when as many are here, or when none came for a moment. The moment is as long as the arrival of so many
 *    may leave unbroken: they pass the Worker together, stage by stage.
 * W3 It ends after two such moments at the latest, whoever still comes. Where commands are independent of each other, ever
 *    fewer are then expected: they wait no more, or a millisecond or two where one comes during nearly every flush.
 */
export class Crowd {
  #expected = 1;
  #end: (() => void) | null = null;

  /** Tells that a command has come; `waiting` counts it and those before it. */
  arrived(waiting: number): void {
    if (waiting >= this.#expected) this.#end?.();
  }

  /** Tells how many commands were at work when a group was done: the group, and what waited behind it. */
  met(count: number): void {
    this.#expected = Math.min(count, MAX_AWAITED);
  }

  /** Resolves, in 10 ms at most, when the first of `waiting()` commands should go ahead; null when it should at once. */
  gather(waiting: () => number): Promise<void> | null {
    const atFirst = waiting();
    if (atFirst >= this.#expected) return null;
    const { promise, resolve } = Promise.withResolvers<void>();
    const momentMs = 1 + this.#expected / 8;
    const end = (): void => {
      clearTimeout(timer);
      this.#end = null;
      resolve();
    };
    let timer = setTimeout(() => {
      if (waiting() === atFirst) end();
      else timer = setTimeout(end, momentMs);
    }, momentMs);
    this.#end = end;
    return promise;
  }
}
