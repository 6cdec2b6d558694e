import { describe, expect, it } from "vitest";
import {
  compare,
  entriesFor,
  type Judgement,
  type ReportedFile,
  readJudgements,
  type Survivor,
  summary,
  survivorsOf,
} from "../../bench/mutation/judgements.ts";

const FILE = "src/domain/sum.ts";

const source = ["function sum(a, b) {", "  if (a === 0)", "    return b;", "  return a + b;", "}"].join("\n");

const mutant = (
  status: string,
  [line, column]: [number, number],
  [endLine, endColumn]: [number, number],
  replacement?: string,
): ReportedFile["mutants"][number] => ({
  status,
  location: { start: { line, column }, end: { line: endLine, column: endColumn } },
  ...(replacement !== undefined && { replacement }),
});

const survivor = (line: number, code: string, original: string, replacement: string): Survivor => ({
  file: FILE,
  line,
  code,
  original,
  replacement,
});

const condition = survivor(2, "if (a === 0)", "a === 0", "false");
const branch = survivor(2, "if (a === 0)", "if (a === 0) return b;", "");
const sum = survivor(4, "return a + b;", "a + b", "a - b");

const judgement = (why: string, ...survivors: [Survivor, ...Survivor[]]): Judgement => ({
  code: survivors[0].code,
  mutants: survivors.map(({ original, replacement }) => [original, replacement]),
  why,
});

const judged = (...entries: Judgement[]) => new Map([[FILE, entries]]);
const noneJudged = { same: 0, slower: 0, unreachable: 0, server: 0, open: 0 };

describe("what is left of a file", () => {
  it("is what survived and what was not reached, by place, with the code that is replaced", () => {
    const mutants = [
      mutant("NoCoverage", [4, 10], [4, 15], "a - b"),
      mutant("Killed", [1, 20], [5, 2], "{}"),
      mutant("Timeout", [2, 7], [2, 14], "true"),
      mutant("Survived", [2, 7], [2, 14], "false"),
      mutant("Survived", [2, 3], [3, 14]),
      mutant("Ignored", [3, 12], [3, 13], "a"),
    ];
    expect(survivorsOf(FILE, { source, mutants })).toEqual([branch, condition, sum]);
  });

  it("is told with each text cut to a hundred characters", () => {
    const long = `${"a".repeat(60)} +\n   ${"b".repeat(60)}`;
    const mutants = [mutant("Survived", [1, 1], [2, 64], long)];
    const cut = `${"a".repeat(60)} + ${"b".repeat(37)}`;
    expect(survivorsOf(FILE, { source: long, mutants })).toEqual([
      survivor(1, `${"a".repeat(60)} +`, cut, cut),
    ]);
  });
});

describe("what is left, beside what was judged", () => {
  it("is counted by kind where it was judged, listed where it was not", () => {
    const entries = judged(judgement("slower: b is b", condition));
    expect(compare([branch, condition, sum], entries)).toEqual({
      left: 3,
      judged: { ...noneJudged, slower: 1 },
      unjudged: [branch, sum],
      stale: [],
    });
  });

  it("is judged in every line that reads the same, but in no other file", () => {
    const entries = judged(judgement("same: why", condition));
    const again = { ...condition, line: 40 };
    const elsewhere = { ...condition, file: "src/domain/other.ts" };
    expect(compare([condition, again, elsewhere], entries)).toMatchObject({
      judged: { same: 2 },
      unjudged: [elsewhere],
      stale: [],
    });
  });

  it("makes a judgement stale that fits nothing of a file that was changed as a whole", () => {
    const { file, code, original, replacement } = branch;
    const entries = judged(judgement("open: why", condition, branch));
    const verdict = { left: 1, judged: { ...noneJudged, open: 1 }, unjudged: [] };
    expect(compare([condition], entries)).toEqual({
      ...verdict,
      stale: [{ file, code, original, replacement }],
    });
    expect(compare([condition], new Map(), entries)).toEqual({ ...verdict, stale: [] });
  });

  it("is printed in a line, with what nobody judged and what is stale below it", () => {
    expect(summary(compare([condition, sum], judged(judgement("same: why", condition, branch))))).toBe(
      [
        "Left: 2. Judged: 1 (same 1, slower 0, unreachable 0, server 0, open 0).",
        "Judged by nobody: 1",
        "  src/domain/sum.ts:4  a + b → a - b",
        "Judged, but not left: 1",
        "  src/domain/sum.ts: if (a === 0)",
        "    if (a === 0) return b; → ",
      ].join("\n"),
    );
    expect(summary(compare([], new Map()))).toBe(
      "Left: 0. Judged: 0 (same 0, slower 0, unreachable 0, server 0, open 0).",
    );
  });

  it("gives the entries that would judge it: one for each line, good once they say why", () => {
    const entries = entriesFor([branch, condition, { ...condition, line: 40 }, sum]);
    expect(entries).toEqual({ [FILE]: [judgement("", branch, condition), judgement("", sum)] });
    expect(() => readJudgements("sum.json", JSON.stringify(entries[FILE]))).toThrow("entry 1: `why`");
    const told = entries[FILE]?.map((entry) => ({ ...entry, why: "same: why" }));
    const read = readJudgements("sum.json", JSON.stringify(told));
    expect(compare([branch, condition, sum], judged(...read))).toMatchObject({ unjudged: [], stale: [] });
  });
});

describe("a file of judgements", () => {
  const good = judgement("server: test/http/sum.test.ts", sum);

  it("is read", () => {
    expect(readJudgements("sum.json", JSON.stringify([good]))).toEqual([good]);
    expect(readJudgements("sum.json", "[]")).toEqual([]);
  });

  it.each<[unknown, string]>([
    ["[", "is no JSON"],
    [{}, "is no list"],
    [[null], "entry 1: has no `code`"],
    [[good, { ...good, code: "" }], "entry 2: has no `code`"],
    [[{ ...good, mutants: undefined }], "entry 1: has no `mutants`"],
    [[{ ...good, mutants: [] }], "entry 1: has no `mutants`"],
    [[{ ...good, mutants: [["a"]] }], "entry 1: has a mutant that is not [original, replacement]"],
    [[{ ...good, mutants: [["a", 1]] }], "entry 1: has a mutant that is not [original, replacement]"],
    [[{ ...good, mutants: ["ab"] }], "entry 1: has a mutant that is not [original, replacement]"],
    [[{ ...good, why: undefined }], "entry 1: `why` must be"],
    [[{ ...good, why: "same" }], "entry 1: `why` must be"],
    [[{ ...good, why: "same: " }], "entry 1: `why` must be"],
    [[{ ...good, why: "fine: it is" }], "entry 1: `why` must be"],
    [[{ ...good, by: "me" }], "entry 1: has `by`, which means nothing"],
    [[good, good], "entry 2: judges a + b → a - b again"],
  ])("%j is refused: %s", (entries, message) => {
    const text = typeof entries === "string" ? entries : JSON.stringify(entries);
    expect(() => readJudgements("sum.json", text)).toThrow(`sum.json: ${message}`);
  });
});
