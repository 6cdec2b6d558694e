import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { useTestClock } from "../run/support/test-run.ts";
import { OPS, type Step, steps } from "./asks.ts";
import { TALLY, World } from "./world.ts";

/** Histories of one seed, and the most steps of one. */
const HISTORIES = 4;
const STEPS = 60;

/** Seeds that are played every time. Any other finds the same, or something new: change them at will to look for it. */
const SEEDS = Array.from({ length: 8 }, (_, index) => index + 1);

describe("claims: the server does what the small model of it does", () => {
  const clock = useTestClock();

  it.each(SEEDS)(
    "whatever is asked, repeated, late, evicted or crashed (seed %i)",
    { timeout: 120_000 },
    async (seed) => {
      const histories = fc.array(steps, { minLength: 10, maxLength: STEPS, size: "max" });
      await fc.assert(
        fc.asyncProperty(histories, async (history: Step[]) => {
          const world = await World.create(clock);
          for (const step of history) await world.step(step);
          await world.end();
        }),
        { seed, numRuns: HISTORIES, endOnFailure: true },
      );
    },
  );

  it("and each command was accepted now and then", () => {
    const accepted = new Set([...TALLY.keys()].flatMap((name) => name.match(/^(\w+) accepted$/)?.[1] ?? []));
    expect([...accepted].sort()).toEqual([...OPS].sort());
  });
});
