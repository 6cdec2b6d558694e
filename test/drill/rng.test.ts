import { expect, it } from "vitest";
import { createRng } from "../../bench/drill/rng.ts";

const draw = (seed: number, stream: number): number[] => {
  const rng = createRng(seed, stream);
  return Array.from({ length: 1000 }, () => rng.next());
};

it("repeats itself with the same seed and stream, and only then", () => {
  expect(draw(7, 3)).toEqual(draw(7, 3));
  expect(draw(7, 3)).not.toEqual(draw(8, 3));
  expect(draw(7, 3)).not.toEqual(draw(7, 4));
});

it("draws evenly, and neighbouring streams share no numbers", () => {
  const seen = new Set<number>();
  for (let stream = 0; stream < 64; stream += 1) {
    const values = draw(1, stream);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    expect(mean).toBeGreaterThan(0.45);
    expect(mean).toBeLessThan(0.55);
    for (const value of values) seen.add(value);
  }
  expect(seen.size).toBeGreaterThan(63_900);
});

it("keeps to the bounds it is given", () => {
  const rng = createRng(2, 0);
  const drawn = new Set(Array.from({ length: 500 }, () => rng.between(3, 5)));
  expect([...drawn].sort()).toEqual([3, 4, 5]);
  expect(rng.chance(0)).toBe(false);
  expect(rng.chance(1)).toBe(true);
  expect(["a", "b"]).toContain(rng.pick(["a", "b"]));
});
