import { describe, expect, it } from "vitest";
import { isBusy, Places } from "../../src/domain/concurrency.ts";
import { aTask, heldTask } from "../support/builders.ts";

describe("claims: places of concurrency keys", () => {
  it("are taken one by one, of each key its own, until none is left", () => {
    const limits: Record<string, number> = { one: 1, three: 3, lowered: -1 };
    const places = new Places((key) => limits[key] ?? 0);
    const taken = Object.keys(limits).map((key) => {
      let count = 0;
      for (; places.has(key) && count < 9; count += 1) places.take(key);
      return [key, count];
    });
    expect(Object.fromEntries(taken)).toEqual({ one: 1, three: 3, lowered: 0 });
  });

  it("no key has no end", () => {
    const places = new Places(() => 0);
    for (let count = 0; count < 3; count += 1) {
      expect(places.has("")).toBe(true);
      places.take("");
    }
  });

  it.each([
    ["one that somebody works on", heldTask({ concurrency_key: "k" }), true],
    ["one that is set aside, but held", heldTask({ concurrency_key: "k", status: "blocked" }), true],
    ["one in progress that no claim gave", aTask({ concurrency_key: "k", status: "in_progress" }), true],
    ["one that waits", aTask({ concurrency_key: "k" }), false],
    ["one without a key", heldTask(), false],
  ])("a task takes one: %s: %s", (_, task, expected) => {
    expect(isBusy(task)).toBe(expected);
  });
});
