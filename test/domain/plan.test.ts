import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { planFromObjective } from "../../src/domain/plan.ts";

/** The titles of the plan that an objective becomes. */
function titlesOf(objective: string): string[] {
  return planFromObjective(objective).map((step) => step.title);
}

const DEFAULT = [
  "Plan implementation approach",
  "Execute implementation and produce artifacts",
  "Validate and finalize output",
];

describe("one line of an objective", () => {
  const lines: [string, string | null][] = [
    ["- [x] Do the thing", "[x] Do the thing"],
    ["### 3) Heading words", "3) Heading words"],
    ["10. [] nested item here", "[] nested item here"],
    ["12345678", null],
    ["éééé", "éééé"],
    ["ééé", null],
    ["short", null],
    ["1234567a", null],
    ["-*#09.)[]exactly8", "exactly8"],
    ["seven77", null],
    ["eight888", "eight888"],
    ["   - * # indented bullet  ", "* # indented bullet"],
    ["1.2.3 release notes", "release notes"],
    ["(1) in parentheses", "(1) in parentheses"],
    ["+ another bullet", "+ another bullet"],
    ["x- kept inside - 12", "x- kept inside - 12"],
    ["📦📦", "📦📦"],
    ["📦abc", null],
    ["–––", "–––"],
  ];
  it.each(lines)("03§4 %j becomes %j", (line, title) => {
    expect(titlesOf(line)).toEqual(title === null ? DEFAULT : [title]);
  });
});

describe("a whole objective", () => {
  const objectives: [string, string, string[]][] = [
    ["nothing", "", DEFAULT],
    ["blank lines only", " \n\r\n\t", DEFAULT],
    ["lines too short", "a\nb\nc", DEFAULT],
    ["LF and CRLF", "first line\r\nsecond line\nthird line", ["first line", "second line", "third line"]],
    ["blank lines between", "first line\n\n  \nsecond line\n", ["first line", "second line"]],
    ["a lone CR is no line end", "first line\rsame line", ["first line\rsame line"]],
    ["dropped lines do not count", "x\nfirst line\ny\nsecond line", ["first line", "second line"]],
    [
      "six at most, the first ones",
      Array.from({ length: 9 }, (_, index) => `line number ${index}`).join("\n"),
      Array.from({ length: 6 }, (_, index) => `line number ${index}`),
    ],
    ["doubles stay", "same line\nsame line", ["same line", "same line"]],
  ];
  it.each(objectives)("03§4 %s", (_, objective, titles) => {
    expect(titlesOf(objective)).toEqual(titles);
  });

  it("03§4 any objective gives one to six pending steps, numbered, of eight bytes or more", () => {
    const line = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.stringMatching(/^[-*#0-9.)\] [é]{0,6}[a-z é]{0,12}$/),
    );
    const objective = fc.array(line).map((lines) => lines.join("\n"));
    fc.assert(
      fc.property(objective, (text) => {
        const steps = planFromObjective(text);
        expect(steps.length).toBeGreaterThanOrEqual(1);
        expect(steps.length).toBeLessThanOrEqual(6);
        for (const [index, step] of steps.entries()) {
          expect(step).toEqual({ step_id: `step-${index + 1}`, title: step.title, status: "pending" });
          expect(step.title.trim()).toBe(step.title);
          expect(new TextEncoder().encode(step.title).length).toBeGreaterThanOrEqual(8);
        }
      }),
    );
  });
});
