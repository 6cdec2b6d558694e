import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { everyMinute } from "../../scripts/minute-cron.ts";

beforeEach(() => void vi.useFakeTimers({ now: 90_500 }));
afterEach(() => void vi.useRealTimers());

test("runs once at each minute boundary until it is stopped", async () => {
  const run = vi.fn(async (_scheduledAtMs: number) => undefined);
  const stop = everyMinute(run);
  await vi.advanceTimersByTimeAsync(29_499);
  expect(run).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(120_001);
  expect(run.mock.calls).toEqual([[120_000], [180_000], [240_000]]);
  stop();
  await vi.advanceTimersByTimeAsync(120_000);
  expect(run).toHaveBeenCalledTimes(3);
});
