import { setTimeout as delay } from "node:timers/promises";

/** Something took so long that it must hang. The message says what. */
export class Hung extends Error {
  override readonly name = "Hung";
}

/** What `work` gives, if it does within that time. @throws Hung when it does not; the work itself cannot be ended */
export async function within<T>(ms: number, what: string, work: Promise<T>): Promise<T> {
  const patience = new AbortController();
  const late = delay(ms, undefined, { signal: patience.signal }).then(
    () => {
      throw new Hung(`${what} took longer than ${ms} ms`);
    },
    // The work was done in time, or has failed.
    () => undefined as never,
  );
  try {
    return await Promise.race([work, late]);
  } finally {
    patience.abort();
    // A work that was given up may still fail; nobody waits for it any more.
    work.catch(() => undefined);
  }
}
