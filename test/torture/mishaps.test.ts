import { expect, it } from "vitest";
import { createRng } from "../../bench/drill/rng.ts";
import { drawMishap } from "../../bench/torture/mishaps.ts";

const drawn = (seed: number) =>
  Array.from({ length: 2_000 }, (_, index) => drawMishap(createRng(seed, index)));

it("is that of the seed", () => {
  expect(drawn(3)).toEqual(drawn(3));
  expect(drawn(3)).not.toEqual(drawn(4));
});

it("spares some connections, and ends others early and late, either way", () => {
  const mishaps = drawn(3);
  const ends = mishaps.flatMap(({ end }) => end ?? []);
  expect(ends.length).toBeGreaterThan(mishaps.length / 2);
  expect(ends.length).toBeLessThan(mishaps.length * 0.9);
  for (const [from, to] of [
    [20, 200],
    [200, 2_000],
    [2_000, 100_000],
  ] as const) {
    const within = ends.filter(({ afterBytes }) => afterBytes >= from && afterBytes <= to);
    for (const kind of ["cut up", "cut down", "swallow"]) {
      const those = within.filter((end) => (end.kind === "cut" ? `cut ${end.way}` : end.kind) === kind);
      expect(those.length, `${kind} after ${from} to ${to} bytes`).toBeGreaterThan(20);
    }
  }
  expect(mishaps.filter(({ delayedShare }) => delayedShare > 0).length).toBeGreaterThan(mishaps.length / 5);
});
