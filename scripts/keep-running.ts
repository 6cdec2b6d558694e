import { setTimeout as delay } from "node:timers/promises";

const lookEveryMs = 250;
/** Pauses before each attempt to start a runtime again, in milliseconds; after the last one it is given up. */
const attemptAfterMs = [0, 500, 1_000, 2_000, 4_000];

/**
 * Starts a runtime again that ended and was not brought back. Miniflare starts workerd anew when it ends, but only once:
 * if the new one ends before it listens, as when memory is short, Miniflare writes a line to its log and is left without one.
 *
 * @param isReady rejects when the runtime has ended for good; while it is being started it may take its time.
 * @param start starts it again; rejects when that fails.
 * @returns `lost` resolves with the last attempt's error when all of them have failed, and never otherwise; `stop` ends
 * the watch.
 */
export function keepRunning(
  isReady: () => Promise<unknown>,
  start: () => Promise<unknown>,
): { lost: Promise<unknown>; stop(): void } {
  const stopping = new AbortController();
  const { signal } = stopping;
  const pause = (ms: number) => delay(ms, undefined, { ref: false, signal });
  const watch = async (): Promise<unknown> => {
    for (;;) {
      await pause(lookEveryMs);
      const isGone = await isReady().then(
        () => false,
        () => true,
      );
      signal.throwIfAborted();
      if (!isGone) continue;
      const failure = await restart();
      if (failure !== undefined) return failure.error;
    }
  };
  /** Undefined when it runs again. */
  const restart = async (): Promise<{ error: unknown } | undefined> => {
    let failure: { error: unknown } | undefined;
    for (const ms of attemptAfterMs) {
      await pause(ms);
      failure = await start().then(
        () => undefined,
        (error: unknown) => ({ error }),
      );
      if (failure === undefined) break;
    }
    return failure;
  };
  const lost = new Promise<unknown>((resolve) => {
    // The only rejection is that of a watch that was stopped.
    watch().then(resolve, () => undefined);
  });
  return { lost, stop: () => stopping.abort() };
}
