import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Crowd } from "../../src/run/crowd.ts";

/** A crowd and the commands that wait, with whether the first of them was let go ahead. */
function setup(): {
  crowd: Crowd;
  arrive(count?: number): void;
  gather(): { wentAheadWith: number | null };
} {
  const crowd = new Crowd();
  let waiting = 0;
  return {
    crowd,
    arrive: (count = 1) => {
      for (let index = 0; index < count; index += 1) {
        waiting += 1;
        crowd.arrived(waiting);
      }
    },
    gather: () => {
      const seen: { wentAheadWith: number | null } = { wentAheadWith: null };
      const gathering = crowd.gather(() => waiting);
      if (gathering === null) seen.wentAheadWith = waiting;
      else void gathering.then(() => (seen.wentAheadWith = waiting));
      return seen;
    },
  };
}

describe("design: the wait for commands that come together", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("W1: a command that met no other does not wait", () => {
    const { crowd, arrive, gather } = setup();
    arrive();
    expect(gather().wentAheadWith).toBe(1);
    crowd.met(1);
    expect(gather().wentAheadWith).toBe(1);
  });

  it("W2: the first waits until as many are here as lately, and no longer", async () => {
    const { crowd, arrive, gather } = setup();
    crowd.met(4);
    arrive();
    const seen = gather();
    arrive(2);
    await vi.advanceTimersByTimeAsync(0);
    expect(seen.wentAheadWith).toBeNull();
    arrive();
    await vi.advanceTimersByTimeAsync(0);
    expect(seen.wentAheadWith).toBe(4);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("W2: it goes ahead when none came for a moment", async () => {
    const { crowd, arrive, gather } = setup();
    crowd.met(8);
    arrive();
    const seen = gather();
    await vi.advanceTimersByTimeAsync(1);
    arrive();
    await vi.advanceTimersByTimeAsync(2);
    expect(seen.wentAheadWith).toBeNull();
    await vi.advanceTimersByTimeAsync(1);
    expect(seen.wentAheadWith).toBe(2);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("W3: it goes ahead after two moments, whoever still comes", async () => {
    const { crowd, arrive, gather } = setup();
    crowd.met(8);
    arrive();
    const seen = gather();
    for (let count = 2; count <= 4; count += 1) {
      await vi.advanceTimersByTimeAsync(1);
      arrive();
    }
    await vi.advanceTimersByTimeAsync(1);
    expect(seen.wentAheadWith).toBe(4);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("W3: who is alone again waits once, at most 5 ms, and then no more", async () => {
    const { crowd, arrive, gather } = setup();
    crowd.met(1_000);
    arrive();
    const seen = gather();
    await vi.advanceTimersByTimeAsync(5);
    expect(seen.wentAheadWith).toBe(1);
    crowd.met(1);
    expect(gather().wentAheadWith).toBe(1);
  });

  it("W2: a crowd larger than the bound is not waited for whole", () => {
    const { crowd, arrive, gather } = setup();
    crowd.met(1_000);
    arrive(32);
    expect(gather().wentAheadWith).toBe(32);
  });

  it.each([
    // One comes during every flush: they go on meeting, two at a time.
    { everyMs: 2, longestMs: 2.5 },
    { everyMs: 3, longestMs: 0 },
    { everyMs: 4, longestMs: 0 },
    { everyMs: 20, longestMs: 0 },
  ])(
    "W3: after a burst, commands that come one every $everyMs ms soon wait $longestMs ms at most",
    async ({ everyMs, longestMs }) => {
      const waits = await waitsAfterBurst({ everyMs, flushMs: 1, commands: 100 });
      expect(Math.max(...waits)).toBeLessThanOrEqual(10);
      expect(Math.max(...waits.slice(20))).toBeLessThanOrEqual(longestMs);
    },
  );
});

/**
 * How long commands that come one by one after a burst of 40 wait to be taken up, in milliseconds, by a loop like the
 * engine's whose flush takes `flushMs`. Time is simulated.
 */
async function waitsAfterBurst(options: {
  everyMs: number;
  flushMs: number;
  commands: number;
}): Promise<number[]> {
  const crowd = new Crowd();
  const queue: null[] = [];
  const waits: number[] = [];
  let isLeading = false;
  const lead = async (): Promise<void> => {
    isLeading = true;
    while (queue.length > 0) {
      const firstSeenMs = Date.now();
      await crowd.gather(() => queue.length);
      const group = queue.splice(0);
      for (let index = 0; index < group.length; index += 1) waits.push(Date.now() - firstSeenMs);
      await new Promise((resolve) => setTimeout(resolve, options.flushMs));
      crowd.met(group.length + queue.length);
    }
    isLeading = false;
  };
  const submit = (): void => {
    queue.push(null);
    crowd.arrived(queue.length);
    if (!isLeading) void lead();
  };
  for (let index = 0; index < 40; index += 1) submit();
  await vi.advanceTimersByTimeAsync(50);
  waits.length = 0;
  for (let index = 0; index < options.commands; index += 1) {
    submit();
    await vi.advanceTimersByTimeAsync(options.everyMs);
  }
  await vi.advanceTimersByTimeAsync(100);
  return waits;
}
