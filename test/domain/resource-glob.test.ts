import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { AllowanceSpent, overlap } from "../../src/domain/resource-glob.ts";
import { faultOfResourceName } from "../../src/protocol/resource-name.ts";

const ALLOWANCE = 1_000_000;

function overlaps(a: string, b: string): boolean {
  return overlap(a, b, { left: ALLOWANCE });
}

/** Every path of up to so many characters over a small alphabet. */
function pathsUpTo(length: number): string[] {
  const paths = [""];
  for (let start = 0, size = 0; size < length; size += 1) {
    const end = paths.length;
    for (let index = start; index < end; index += 1) {
      for (const character of ["a", "b", "/"]) paths.push(paths[index] + character);
    }
    start = end;
  }
  return paths;
}

/** Whether a name means a path, by the rules as they are told. */
function means(name: string, path: string): boolean {
  return isMeant(name.split("/"), path.split("/"));
}

function isMeant([first, ...rest]: string[], path: string[]): boolean {
  if (first === undefined) return path.length === 0;
  if (first === "**") {
    return Array.from({ length: path.length + 1 }, (_, taken) => path.slice(taken)).some((left) =>
      isMeant(rest, left),
    );
  }
  const [segment, ...left] = path;
  const pattern = new RegExp(`^${first.replaceAll("*", ".*").replaceAll("?", ".")}$`, "u");
  return segment !== undefined && pattern.test(segment) && isMeant(rest, left);
}

const LONGEST = 7;
const PATHS = pathsUpTo(LONGEST);

const segmentName = fc
  .array(fc.constantFrom("a", "b", "*", "?"), { maxLength: 3 })
  .map((parts) => parts.join("").replaceAll("**", "*"));
const name = fc
  .array(fc.oneof({ weight: 3, arbitrary: segmentName }, { weight: 1, arbitrary: fc.constant("**") }), {
    minLength: 1,
    maxLength: 3,
  })
  .map((segments) => segments.join("/"));

describe("names of resources", () => {
  it("claims: two overlap exactly when some path is meant by both", () => {
    fc.assert(
      fc.property(name, name, (a, b) => {
        // What both take in by wildcards can be left out: the shortest path that both mean is no longer than the rest of them.
        fc.pre(`${a}${b}`.replaceAll("*", "").length <= LONGEST);
        expect(overlaps(a, b), `${a} ${b}`).toBe(PATHS.some((path) => means(a, path) && means(b, path)));
        expect(overlaps(b, a)).toBe(overlaps(a, b));
      }),
      { numRuns: 300 },
    );
  });

  it("claims: a name without wildcards is meant by a glob exactly when that matches it", () => {
    fc.assert(
      fc.property(name, fc.constantFrom(...PATHS), (glob, path) => {
        expect(overlaps(glob, path), `${glob} ${path}`).toBe(means(glob, path));
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    ["db", "db", true],
    ["db", "DB", false],
    ["src/**", "src/a/b.ts", true],
    ["src/**", "src", true],
    ["src/**", "srcs", false],
    ["src/*", "src/a", true],
    ["src/*", "src/a/b", false],
    ["src/*.ts", "src/a?.ts", true],
    ["src/*.ts", "src/*.js", false],
    ["**/*.ts", "src/**", true],
    ["**/*.ts", "a.ts", true],
    ["**", "anything/at all", true],
    ["a/**/z", "a/z", true],
    ["a/**/z", "**/y", false],
    ["?", "\u{1F600}", true],
    ["??", "\u{1F600}", false],
    ["deploy:*", "deploy:eu", true],
    ["[ab]", "a", false],
  ])("claims: %s and %s: %s", (a, b, expected) => {
    expect([overlaps(a, b), overlaps(b, a)]).toEqual([expected, expected]);
  });

  it("claims: comparing them has an end, however they are made", () => {
    const long = `${"*a".repeat(200)}`;
    const allowance = { left: 100_000 };
    expect(() => overlap(long, `${long}b`, allowance)).toThrow(AllowanceSpent);
    expect(overlap("x/*", "y", { left: 100 })).toBe(false);
  });

  it.each([
    ["db", "db", true],
    ["db/*", "db/*", true],
    ["db", "dbs", false],
    ["a/b/**", "a/c", false],
    ["x?", "y*", false],
  ])("claims: %s and %s are told apart, or the same, for nothing: %s", (a, b, expected) => {
    expect([overlap(a, b, { left: 0 }), overlap(b, a, { left: 0 })]).toEqual([expected, expected]);
  });

  it.each([
    ["*", "abcdefgh", 4],
    ["*/abcdefgh", "?/abcdefgh", 9],
  ])(
    "claims: %s and %s are compared by segments alone, of which %i are held against each other",
    (a, b, cost) => {
      for (const [one, other] of [
        [a, b],
        [b, a],
      ] as const) {
        const allowance = { left: cost };
        expect(overlap(one, other, allowance)).toBe(true);
        expect(allowance.left).toBe(0);
      }
    },
  );

  it.each([
    ["", "non_blank"],
    ["  ", "non_blank"],
    ["a\nb", "printable"],
    ["a/../b", "canonical"],
    ["./a", "canonical"],
    ["a**", "glob"],
    ["a/***", "glob"],
    ["x".repeat(401), "max_length"],
  ])("claims: %j is no name: %s", (bad, rule) => {
    expect(faultOfResourceName(bad)).toMatchObject({ rule });
  });

  it.each(["db", "/srv/app", "a/**/b", "**", "naïve name", "..."])("claims: %s is a name", (good) => {
    expect(faultOfResourceName(good)).toBeNull();
  });
});
