import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { median, percentile, ratios, spread } from "../../bench/stats.ts";

const none = Number.NaN;
const numbers = (minLength: number) =>
  fc.array(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), { minLength, maxLength: 40 });

describe("spread", () => {
  it.each<[number[], { min: number; median: number; max: number }]>([
    [[], { min: none, median: none, max: none }],
    [[7], { min: 7, median: 7, max: 7 }],
    [[10, 9], { min: 9, median: 9.5, max: 10 }],
    [[3, 100, 20], { min: 3, median: 20, max: 100 }],
    [[1, 2, 3, none], { min: none, median: none, max: none }],
    [
      [1, Number.POSITIVE_INFINITY],
      { min: 1, median: Number.POSITIVE_INFINITY, max: Number.POSITIVE_INFINITY },
    ],
  ])("of %j is %j", (values, expected) => {
    expect(spread(values)).toEqual(expected);
    expect(median(values)).toEqual(expected.median);
  });

  it("does not depend on the order of the values, and changes none of them", () => {
    fc.assert(
      fc.property(numbers(1), (values) => {
        const before = [...values];
        expect(spread(values.toReversed())).toEqual(spread(values));
        expect(values).toEqual(before);
      }),
    );
  });

  it("has as many values below the median as above it", () => {
    fc.assert(
      fc.property(numbers(1), (values) => {
        const { min, median: middle, max } = spread(values);
        expect(min).toBeLessThanOrEqual(middle);
        expect(middle).toBeLessThanOrEqual(max);
        const half = values.length / 2;
        expect(values.filter((value) => value < middle).length).toBeLessThanOrEqual(half);
        expect(values.filter((value) => value > middle).length).toBeLessThanOrEqual(half);
      }),
    );
  });
});

describe("percentile", () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  it.each<[number[], number, number]>([
    [[], 0.5, none],
    [[4], 0.99, 4],
    [[4, 8], 0.5, 4],
    [[4, 8], 0.51, 8],
    [hundred, 0, 1],
    [hundred, 0.5, 50],
    [hundred, 0.99, 99],
    [hundred, 1, 100],
    [[1, none], 0.5, none],
  ])("of %j at %d is %d", (values, share, expected) => {
    expect(percentile(values, share)).toBe(expected);
  });

  it("is one of the values, and no less than the share of them", () => {
    fc.assert(
      fc.property(numbers(1), fc.double({ noNaN: true, min: 0, max: 1 }), (values, share) => {
        const found = percentile(values, share);
        expect(values).toContain(found);
        expect(values.filter((value) => value <= found).length).toBeGreaterThanOrEqual(share * values.length);
      }),
    );
  });
});

it.each<[number[], number[], number[]]>([
  [[], [], []],
  [
    [6, 9],
    [2, 3],
    [3, 3],
  ],
  [[6, 9], [2], [3, none]],
  [[0], [0], [none]],
])("ratios of %j to %j are %j", (values, bases, expected) => {
  expect(ratios(values, bases)).toEqual(expected);
});
