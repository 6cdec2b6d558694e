import type { ClockJump } from "../history/clock.ts";
import type { Disturbances } from "./observers/observer.ts";

const patienceMs = 30_000;

/** The clock of the server, which runs ahead of this machine's or behind it (worker/moved-clock.ts). */
export class ServerClock {
  /** As the drills want to know it. */
  readonly jumps: ClockJump[] = [];
  /** The same, as the observers do. */
  readonly observed: Disturbances["jumps"][number][] = [];
  readonly #url: string;
  #offsetMs = 0;

  /** @param serverUrl without a slash at the end */
  constructor(serverUrl: string) {
    this.#url = `${serverUrl}/torture/clock`;
  }

  /** How far ahead it should be, in milliseconds. */
  get offsetMs(): number {
    return this.#offsetMs;
  }

  /** What it should say, epoch milliseconds. */
  get nowMs(): number {
    return Date.now() + this.#offsetMs;
  }

  /** Moves it at once. @throws Error when the server does not do it */
  async jump(byMs: number): Promise<void> {
    const [askedMs, atMs] = [Date.now(), performance.now()];
    this.#offsetMs += byMs;
    const body = JSON.stringify({ offset_ms: this.#offsetMs });
    const answer = await fetch(this.#url, { method: "PUT", body, signal: AbortSignal.timeout(patienceMs) });
    if (!answer.ok) throw new Error(`the clock could not be moved: ${answer.status}`);
    await answer.arrayBuffer();
    this.jumps.push({ atMs, doneMs: performance.now(), byMs });
    this.observed.push({ askedMs, answeredMs: Date.now(), byMs });
  }

  /** How far ahead the server says it is. @throws Error when it does not say so */
  async read(): Promise<number> {
    const answer = await fetch(this.#url, { signal: AbortSignal.timeout(patienceMs) });
    const { offset_ms } = (await answer.json()) as { offset_ms: number };
    return offset_ms;
  }
}
