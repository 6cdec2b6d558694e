import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Waiter } from "../../src/streams/waiter.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["Date", "setTimeout", "clearTimeout"], now: Date.UTC(2100, 0, 1) });
});
afterEach(() => {
  vi.useRealTimers();
});

/** A wait, and how it ended; undefined while it has not. */
interface Wait {
  deadlineMs: number;
  outcome: boolean | undefined;
}

function start(waiter: Waiter, ms: number): Wait {
  const wait: Wait = { deadlineMs: Date.now() + ms, outcome: undefined };
  void waiter.wait(ms).then((isSignalled) => {
    wait.outcome = isSignalled;
  });
  return wait;
}

/** Lets promises settle without any time passing. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
}

async function pass(ms: number): Promise<void> {
  vi.advanceTimersByTime(ms);
  await settle();
}

describe("Waiter", () => {
  it("a signal ends the wait that is on", async () => {
    const waiter = new Waiter();
    const wait = start(waiter, 1_000);
    await pass(999);
    expect(wait.outcome).toBeUndefined();
    waiter.signal();
    await settle();
    expect(wait.outcome).toBe(true);
  });

  it("a signal before ends the next wait at once, and one only", async () => {
    const waiter = new Waiter();
    waiter.signal();
    waiter.signal();
    expect(await waiter.wait(1_000)).toBe(true);
    const wait = start(waiter, 1_000);
    await settle();
    expect(wait.outcome).toBeUndefined();
  });

  it("without a signal a wait ends at its deadline, not before", async () => {
    const waiter = new Waiter();
    const wait = start(waiter, 1_000);
    await pass(999);
    expect(wait.outcome).toBeUndefined();
    await pass(1);
    expect(wait.outcome).toBe(false);
  });

  it("a short wait after a long one that was ended early ends at its own deadline", async () => {
    const waiter = new Waiter();
    start(waiter, 60_000);
    waiter.signal();
    await settle();
    const wait = start(waiter, 1_000);
    await pass(1_000);
    expect(wait.outcome).toBe(false);
  });

  it("a long wait after a short one that was ended early ends at its own deadline", async () => {
    const waiter = new Waiter();
    start(waiter, 1_000);
    waiter.signal();
    await settle();
    const wait = start(waiter, 60_000);
    await pass(59_999);
    expect(wait.outcome).toBeUndefined();
    await pass(1);
    expect(wait.outcome).toBe(false);
  });

  it("a wait for no time at all ends without a signal", async () => {
    const waiter = new Waiter();
    const wait = start(waiter, 0);
    await pass(1);
    expect(wait.outcome).toBe(false);
  });

  it("when it is disposed of, no timer is left", async () => {
    const waiter = new Waiter();
    start(waiter, 1_000);
    waiter.dispose();
    expect(vi.getTimerCount()).toBe(0);
    waiter.dispose();
  });

  it("sets a timer far less often than a wait ends", async () => {
    const waiter = new Waiter();
    const timers = vi.spyOn(globalThis, "setTimeout");
    for (let n = 0; n < 1_000; n += 1) {
      start(waiter, 10_000);
      await pass(1);
      waiter.signal();
      await settle();
    }
    expect(timers.mock.calls.length).toBeLessThan(10);
    timers.mockRestore();
  });

  it("whatever happens, each wait ends by the first signal after the last wait, or at its deadline", async () => {
    const step = fc.oneof(
      fc.record({ do: fc.constant("wait" as const), ms: fc.constantFrom(1, 10, 100, 1_000, 10_000) }),
      fc.record({ do: fc.constant("pass" as const), ms: fc.constantFrom(1, 5, 50, 500, 5_000) }),
      fc.record({ do: fc.constant("signal" as const), ms: fc.constant(0) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 60, size: "max" }), async (steps) => {
        const waiter = new Waiter();
        try {
          await follow(waiter, steps);
        } finally {
          waiter.dispose();
        }
        expect(vi.getTimerCount()).toBe(0);
      }),
    );
  });
});

/** Does the steps with a waiter and with a model of it; both must agree after each. */
async function follow(
  waiter: Waiter,
  steps: { do: "wait" | "pass" | "signal"; ms: number }[],
): Promise<void> {
  let isSignalled = false;
  let current: { wait: Wait; expected: boolean | undefined } | null = null;
  for (const { do: what, ms } of steps) {
    if (what === "wait" && current === null) {
      current = { wait: start(waiter, ms), expected: isSignalled ? true : undefined };
      isSignalled = false;
    } else if (what === "signal") {
      waiter.signal();
      if (current === null) isSignalled = true;
      else current.expected ??= true;
    } else if (what === "pass") {
      await pass(ms);
      if (current !== null && Date.now() >= current.wait.deadlineMs) current.expected ??= false;
    }
    await settle();
    if (current === null) continue;
    expect(current.wait.outcome).toBe(current.expected);
    if (current.expected !== undefined) current = null;
  }
}
