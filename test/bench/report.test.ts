import { describe, expect, it } from "vitest";
import type { Figure, Measure } from "../../bench/measure.ts";
import { missCount, type Outcome, table, toJson } from "../../bench/report.ts";

function outcome(name: string, report: Outcome["report"]): Outcome {
  const measure: Measure = { name, title: `About ${name}`, run: () => Promise.reject(new Error("not run")) };
  return { measure, report };
}

const rate: Figure = { name: "append", unit: "/s", rounds: [1_234.4, 2_000, 1_500] };
const slow: Figure = { name: "append ÷ raw", unit: "x", rounds: [0.5, 0.7, 0.9], bar: { atLeast: 0.8 } };
const quick: Figure = { name: "claim", unit: "ms", rounds: [0.51234, 4, 20.26], bar: { atMost: 5 } };
const lost: Figure = { name: "wake", unit: "ms", rounds: [1, Number.NaN, 2], bar: { atMost: 5 } };
const dear: Figure = { name: "complete", unit: "rows", rounds: [2, 2, 3], bar: { neverOver: 2 } };

const measured = outcome("speed", { figures: [rate, slow, quick, lost, dear], notes: ["One.", "Two."] });
const broken = outcome("growth", { failed: "no disk" });

describe("the table", () => {
  it("has a line per figure, with its spread, its bar, and whether it met it", () => {
    expect(table(measured).split("\n")).toEqual([
      "About speed",
      "",
      "                     min   median      max           bar",
      "  append         1,234/s  1,500/s  2,000/s                reported",
      "  append ÷ raw     0.50×    0.70×    0.90×       ≥ 0.80×    MISSED",
      "  claim         0.512 ms     4 ms  20.3 ms        ≤ 5 ms       met",
      "  wake                 -        -        -        ≤ 5 ms    MISSED",
      "  complete        2 rows   2 rows   3 rows  max ≤ 2 rows    MISSED",
      "",
      "  One.",
      "  Two.",
      "",
    ]);
  });

  it("says why a measure failed", () => {
    expect(table(broken)).toContain("FAILED: no disk");
  });
});

it("a missed bar counts once, and a failed measure does", () => {
  expect(missCount([])).toBe(0);
  expect(missCount([outcome("speed", { figures: [rate, quick], notes: [] })])).toBe(0);
  expect(missCount([measured])).toBe(3);
  expect(missCount([measured, broken])).toBe(4);
});

it("the JSON tells all that the table tells, and every round", () => {
  const json = JSON.parse(toJson([measured, broken], { rounds: 3, roundMs: 300 }));
  expect(json).toMatchObject({ rounds: 3, round_ms: 300, misses: 4 });
  const [speed, growth] = json.measures;
  expect(growth).toEqual({ name: "growth", title: "About growth", failed: "no disk" });
  expect(speed).toMatchObject({ name: "speed", title: "About speed", notes: ["One.", "Two."] });
  expect(speed.figures[1]).toEqual({
    ...slow,
    spread: { min: 0.5, median: 0.7, max: 0.9 },
    verdict: "missed",
  });
  expect(speed.figures[3]).toMatchObject({ rounds: [1, null, 2], spread: { median: null } });
  expect(speed.figures.map((figure: { verdict: string }) => figure.verdict)).toEqual([
    "reported",
    "missed",
    "met",
    "missed",
    "missed",
  ]);
});
