/** Waits before the tries to reach an object, in milliseconds; then it is given up. Together about a minute. */
export const RETRY_DELAYS_MS = [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 10_000, 15_000, 20_000];

/**
 * Asks until there is an answer: an object that is restarting, or being replaced by a new release, fails what it is asked
 * meanwhile. For reads only, which may be asked twice.
 *
 * @throws what the last try threw, or at once when nobody is interested any more.
 */
export async function persistently<T>(ask: () => Promise<T>, isStillWanted: () => boolean): Promise<T> {
  for (const delayMs of RETRY_DELAYS_MS) {
    try {
      return await ask();
    } catch (error) {
      if (!isStillWanted()) throw error;
      await scheduler.wait(delayMs);
    }
  }
  return ask();
}
