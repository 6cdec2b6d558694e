import fc from "fast-check";
import { describe, expect, it, test } from "vitest";
import { type IJsonProblem, MAX_JSON_DEPTH, parseIJson } from "../../src/protocol/i-json.ts";

function problemOf(text: string): IJsonProblem {
  const result = parseIJson(text);
  if (result.ok) throw new Error("the text was accepted");
  return result.problem;
}

function read(text: string): unknown {
  const result = parseIJson(text);
  if (!result.ok) throw new Error(`the text was refused: ${JSON.stringify(result.problem)}`);
  return result.value;
}

const manyMembers = JSON.stringify(Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`k${i}`, i])));

const nested = (depth: number) => "[".repeat(depth) + "]".repeat(depth);

describe("accepted", () => {
  const texts: [string, string][] = [
    ["null", "null"],
    ["a number", " -12.5e-3\n"],
    ["minus zero", "-0"],
    ["a string", '"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9 é"'],
    ["an empty object", "{}"],
    ["an empty array", "[ ]"],
    ["an empty name", '{"":1}'],
    ["all kinds inside each other", '{"a":[1,{"b":null,"c":[]},{}],"d":{"a":true,"b":false}}\t\r\n'],
    ["one name in two objects", '[{"a":1},{"a":2,"b":{"a":3}}]'],
    ["an outer name again after an inner object", '{"a":{"b":1},"b":{"a":1}}'],
    ["an empty object before equal strings", '[{},"a",{},"a",[],"a"]'],
    ["large objects with the same names", `[${Array(3).fill(manyMembers).join(",")}]`],
    ["a name that is also a value", '{"a":"a","b":["a","b"]}'],
    ["brackets, commas and quotes in strings", '{"a":"{[,]}","b":"\\"a\\":1","c":"\\\\"}'],
    ["names that differ in case and in Unicode form only", '{"e\u0301":1,"\u00e9":2,"E":3,"e":4}'],
    ["names of Object.prototype", '{"constructor":1,"toString":2,"hasOwnProperty":3,"valueOf":4}'],
    ["the greatest and the least integer", "[9007199254740991,-9007199254740991]"],
    [
      "numbers of many digits that are no integer literals",
      "[9007199254740993.0,1e20,0.12345678901234567890]",
    ],
    ["the greatest double", "[1.7976931348623157e308,-1.7976931348623157E+308]"],
    ["a number that underflows", "1e-999"],
    ["surrogate pairs, raw and escaped", '{"\u{1f600}":"\\ud83d\\uDE00 \u{1f600}","\\uD83D\\ude01":1}'],
    ["an escaped backslash before ud800", '"\\\\ud800"'],
    ["the greatest depth", nested(MAX_JSON_DEPTH)],
    [
      "the greatest depth many times",
      `[${Array(100)
        .fill(nested(MAX_JSON_DEPTH - 1))
        .join(",")}]`,
    ],
    ["many brackets inside a string", JSON.stringify('["'.repeat(500))],
  ];
  it.each(texts)("%s", (_, text) => {
    expect(read(text)).toStrictEqual(JSON.parse(text));
  });
});

describe("syntax", () => {
  it.each(["", " ", "\n\t\r "])("an empty body: %j", (text) => {
    expect(problemOf(text)).toEqual({ kind: "syntax", message: "empty body" });
  });

  const texts = [
    "{}x",
    "{} {}",
    "1 2",
    "[1,]",
    '{"a":1,}',
    '{"a" 1}',
    '{"a":1,"a":2',
    "{a:1}",
    "{'a':1}",
    "nul",
    "undefined",
    "NaN",
    "Infinity",
    "01",
    "+1",
    ".5",
    "1.",
    "1e",
    "0x10",
    "-",
    '"',
    '"\\"',
    '"\\x41"',
    '"\\u12"',
    '"a\nb"',
    '"\u0000"',
    "[}",
    "]",
    "/**/1",
    "\ufeff{}",
    "\u00a0",
    "\u00a01",
    "\ud800",
    `${nested(MAX_JSON_DEPTH)}]`,
    `["${"[".repeat(100)}`,
  ];
  it.each(texts)("%j", (text) => {
    expect(problemOf(text).kind).toBe("syntax");
  });

  it("comes before what else is wrong, and its message is well formed", () => {
    const problem = problemOf('{"a":1,"a":\ud800}');
    expect(problem.kind === "syntax" && problem.message.isWellFormed()).toBe(true);
  });
});

describe("duplicate names", () => {
  const texts: [string, string, string][] = [
    ['{"a":1,"a":1}', "a", "a"],
    ['{"a":1,"b":{},"a":2}', "a", "a"],
    ['{"a":1,"\\u0061":2}', "a", "a"],
    ['{"\\u0061":1,"a":2}', "a", "a"],
    ['{"/":1,"\\/":2}', '["/"]', "/"],
    ['{"":1,"":2}', '[""]', ""],
    ['{"__proto__":1,"__proto__":2}', "__proto__", "__proto__"],
    ['{"tasks":[0,[],{},{"payload":{"a":{"a":1},"b":[1,2],"a":2}}]}', "tasks[3].payload.a", "a"],
    ['[[],[{"a.b":{"c":0,"c":0}}]]', '[1][0]["a.b"].c', "c"],
    [`{${Array.from({ length: 40 }, (_, i) => `"k${i}":{}`).join(",")},"k0":0}`, "k0", "k0"],
    [`{${Array.from({ length: 40 }, (_, i) => `"k${i}":{}`).join(",")},"k39":0}`, "k39", "k39"],
    [`{${Array.from({ length: 40 }, (_, i) => `"k${i}":{}`).join(",")},"k\\u0033":0}`, "k3", "k3"],
  ];
  it.each(texts)("%s", (text, path, name) => {
    expect(problemOf(text)).toEqual({ kind: "duplicate_name", path, name });
  });

  it("are found at every place of any document", () => {
    const spot = fc.record({ name: fc.string({ unit: "grapheme" }), at: fc.nat(), rest: fc.jsonValue() });
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.string(), fc.nat(9)), { maxLength: 30 }),
        spot,
        (outer, { name, at, rest }) => {
          // An object with one name twice, its other members between, wrapped in further containers.
          const others = Object.keys(Object(rest)).filter((other) => other !== name);
          const members = [...new Set(others)].map(
            (other) => `${JSON.stringify(other)}:${JSON.stringify(rest)}`,
          );
          members.splice(at % (members.length + 1), 0, `${JSON.stringify(name)}:0`);
          const text = `{${[...members, `${escapeAll(name)}:1`].join(",")}}`;
          const wrapped = outer.reduce(
            (inner, [key, index]) =>
              index === 0 ? `{${JSON.stringify(key)}:${inner}}` : `[${"{},".repeat(index)}${inner}]`,
            text,
          );
          const expected = expect.objectContaining({ kind: "duplicate_name", name });
          // A document may hold an unsafe integer too; it is a duplicate that must not pass.
          expect(problemOf(wrapped)).toEqual(
            hasUnsafeInteger(rest) ? expect.objectContaining({ kind: expect.any(String) }) : expected,
          );
        },
      ),
    );
  });
});

/** A JSON string in which every UTF-16 unit is an escape. */
function escapeAll(text: string): string {
  const units = Array.from({ length: text.length }, (_, i) =>
    text.charCodeAt(i).toString(16).padStart(4, "0"),
  );
  return `"${units.map((unit) => `\\u${unit}`).join("")}"`;
}

/** Whether JSON.stringify writes some number of the value as an integer literal beyond the safe ones. */
function hasUnsafeInteger(value: unknown): boolean {
  let found = false;
  JSON.stringify(value, (_, inner: unknown) => {
    if (typeof inner === "number" && /^-?[0-9]+$/.test(`${inner}`) && !Number.isSafeInteger(inner))
      found = true;
    return inner;
  });
  return found;
}

describe("numbers", () => {
  const texts: [string, IJsonProblem["kind"], string, string][] = [
    ["9007199254740992", "unsafe_integer", "", "9007199254740992"],
    ["-9007199254740992", "unsafe_integer", "", "-9007199254740992"],
    ["[[1,2],[3],[4,9007199254740992]]", "unsafe_integer", "[2][1]", "9007199254740992"],
    ["[1,9007199254740993 ]", "unsafe_integer", "[1]", "9007199254740993"],
    ['{"a":{"b":[0,12345678901234567890]}}', "unsafe_integer", "a.b[1]", "12345678901234567890"],
    ["1".repeat(400), "unsafe_integer", "", `${"1".repeat(200)}…`],
    ["1e400", "number_out_of_range", "", "1e400"],
    ['{"a":-1E+400}', "number_out_of_range", "a", "-1E+400"],
    ["[1.8e308]", "number_out_of_range", "[0]", "1.8e308"],
    [`[${"9".repeat(400)}.5]`, "number_out_of_range", "[0]", `${"9".repeat(200)}…`],
  ];
  it.each(texts)("%s", (text, kind, path, literal) => {
    expect(problemOf(text)).toEqual({ kind, path, literal });
  });

  it("every integer literal is refused exactly if it is beyond 2^53 - 1", () => {
    const around = fc.bigInt({ min: 2n ** 53n - 20n, max: 2n ** 53n + 20n });
    const integer = fc.oneof(
      fc.bigInt({ min: 0n, max: 10n ** 40n }),
      around,
      fc.bigInt({ min: 0n, max: 2n ** 60n }),
    );
    fc.assert(
      fc.property(integer, fc.boolean(), fc.array(fc.integer()), (magnitude, negative, before) => {
        const literal = `${negative && magnitude > 0n ? "-" : ""}${magnitude}`;
        const text = `{"a":[${[...before, literal].join(",")}]}`;
        if (magnitude < 2n ** 53n) expect(read(text)).toStrictEqual(JSON.parse(text));
        else
          expect(problemOf(text)).toEqual({ kind: "unsafe_integer", path: `a[${before.length}]`, literal });
      }),
    );
  });
});

describe("lone surrogates", () => {
  const texts: [string, string][] = [
    ['"\ud800"', ""],
    ['"\udc00"', ""],
    ['"\\ud800"', ""],
    ['"\\uDFFF"', ""],
    ['"\\udc00\\ud800"', ""],
    ['"\\ud800\\ud800\\udc00"', ""],
    ['"\\ud800x"', ""],
    ['"\\ud800\\n"', ""],
    ['"\\ud800\\\\udc00"', ""],
    ['["ok \\n \\u0041","\ud83d\ude00",{"a":"\\n\ud83d"}]', "[2].a"],
    ['{"a":{"\\ud800":1}}', 'a["\ufffd"]'],
    ['{"a":{"\udc00":1}}', 'a["\ufffd"]'],
    ['{"\ud800":1,"\ud800":2}', '["\ufffd"]'],
  ];
  it.each(texts)("%j", (text, path) => {
    expect(problemOf(text)).toEqual({ kind: "lone_surrogate", path });
  });

  it("any string is refused exactly if it is not well formed, raw and escaped", () => {
    const units = fc.array(
      fc.constantFrom("\ud800", "\udbff", "\udc00", "\udfff", "\u{1f600}", "a", '"', "\\", "\n", "u"),
    );
    fc.assert(
      fc.property(units, (parts) => {
        const string = parts.join("");
        for (const literal of [escapeAll(string), JSON.stringify(string), rawString(string)]) {
          for (const text of [literal, `[{"a":${literal}}]`, `{${literal}:0}`]) {
            expect(parseIJson(text).ok).toBe(string.isWellFormed());
          }
        }
      }),
    );
  });
});

/** A JSON string that has escapes only where it must have them (JSON.stringify escapes lone surrogates). */
function rawString(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&").replaceAll("\n", "\\n")}"`;
}

describe("depth", () => {
  const tooDeep = { kind: "too_deep", limit: MAX_JSON_DEPTH };
  const mib = 1024 * 1024;
  const texts: [string, string][] = [
    ["one level too many", nested(MAX_JSON_DEPTH + 1)],
    ["objects", `${'{"a":'.repeat(MAX_JSON_DEPTH + 1)}1${"}".repeat(MAX_JSON_DEPTH + 1)}`],
    [
      "both, after a shallow part",
      `{"s":"]]}\\"","a":[${nested(MAX_JSON_DEPTH - 2)},${nested(MAX_JSON_DEPTH - 1)}]}`,
    ],
    ["2 MiB of opening brackets", "[".repeat(2 * mib)],
    ["2 MiB of opening braces", "{".repeat(2 * mib)],
    ["2 MiB of nested arrays", nested(mib)],
    ["2 MiB of nested objects", `${'{"a":'.repeat(mib / 3)}1${"}".repeat(mib / 3)}`],
  ];
  it.each(texts)("%s", (_, text) => {
    expect(problemOf(text)).toEqual(tooDeep);
  });
});

describe("2 MiB of what costs most", () => {
  const size = 2 * 1024 * 1024;
  const fill = (part: string, last: string) => part.repeat(Math.floor(size / part.length) - 1) + last;
  const names = Array.from({ length: size / 16 }, (_, i) => `"k${1_000_000 + i}":1`).join(",");

  it("a duplicate after very many names", () => {
    expect(problemOf(`{${names},"k1000000":1}`).kind).toBe("duplicate_name");
    expect(parseIJson(`{${names}}`).ok).toBe(true);
  });

  it("one name over and over", () => {
    expect(problemOf(`{${fill('"a":1,', '"a":1')}}`)).toEqual({
      kind: "duplicate_name",
      path: "a",
      name: "a",
    });
  });

  it("very many objects, escapes, backslashes", () => {
    expect(parseIJson(`[${fill('{"a":1},', "{}")}]`).ok).toBe(true);
    expect(parseIJson(`"${fill("\\ud83d\\ude00", "")}"`).ok).toBe(true);
    expect(parseIJson(`"${fill("\\\\", "")}"`).ok).toBe(true);
    expect(parseIJson(`[${fill('"\\"",', '""')}]`).ok).toBe(true);
    expect(problemOf(`"${fill('\\"', "")}`).kind).toBe("syntax");
  });

  it("a long literal, name and path are cut in the problem", () => {
    const name = "n".repeat(size / 4);
    const problem = problemOf(`{"${name}":{"${name}":1,"${name}":2}}`);
    expect(problem).toEqual({
      kind: "duplicate_name",
      path: `["${name.slice(0, 200)}…"]["${name}`.slice(0, 200).concat("…"),
      name: `${name.slice(0, 200)}…`,
    });
    const literal = problemOf(`-${fill("7", "")}`);
    expect(literal).toEqual({ kind: "unsafe_integer", path: "", literal: `-${"7".repeat(199)}…` });
    const emoji = `x${"\u{1f600}".repeat(200)}`;
    const cut = problemOf(`{"${emoji}":1,"${emoji}":2}`);
    // 199 units, not 200: a pair is not cut in two.
    expect(cut).toMatchObject({ kind: "duplicate_name", name: `${emoji.slice(0, 199)}…` });
  });
});

test("a member named __proto__ is an ordinary own member, of copies by spreading too", () => {
  const value = read('{"__proto__":{"polluted":true},"a":1}') as Record<string, unknown>;
  const { a, ...rest } = value;
  expect(a).toBe(1);
  for (const object of [value, { ...value }, rest]) {
    expect(Object.keys(object)).toContain("__proto__");
    expect(Object.getPrototypeOf(object)).toBe(Object.prototype);
    expect("polluted" in object).toBe(false);
    expect(JSON.stringify(object)).toContain('"__proto__":{"polluted":true}');
  }
  expect("polluted" in {}).toBe(false);
});

describe("beside JSON.parse", () => {
  it("gives back what JSON.stringify wrote", () => {
    // JSON.stringify writes numbers of up to 21 digits as integer literals, which I-JSON limits to 2^53 - 1.
    const value = fc.jsonValue({ maxDepth: 20, stringUnit: "grapheme" }).filter((v) => !hasUnsafeInteger(v));
    fc.assert(
      fc.property(value, fc.constantFrom("", "  ", "\t"), (written, indent) => {
        const text = JSON.stringify(written, null, indent);
        expect(read(text)).toStrictEqual(JSON.parse(text));
        expect(JSON.stringify(read(text), null, indent)).toBe(text);
      }),
      { numRuns: 300 },
    );
  });

  it("accepts no text that JSON.parse refuses, and accepts each with its value", () => {
    const json = fc.jsonValue({ maxDepth: 4 }).map((v) => JSON.stringify(v));
    const damaged = fc
      .tuple(
        json,
        fc.nat(),
        fc.constantFrom("", '"', "\\", "{", "}", "[", "]", ",", ":", "1", "-", ".", "e", " ", "\\u"),
      )
      .map(
        ([text, at, piece]) =>
          text.slice(0, at % (text.length + 1)) + piece + text.slice((at % (text.length + 1)) + 1),
      );
    const soup = fc
      .array(
        fc.constantFrom(
          '"',
          "\\",
          "{",
          "}",
          "[",
          "]",
          ",",
          ":",
          "1",
          "-",
          ".",
          "e",
          " ",
          "a",
          "null",
          '"a":',
          "\\u0061",
        ),
      )
      .map((parts) => parts.join(""));
    fc.assert(
      fc.property(fc.oneof(json, damaged, soup, fc.string({ unit: "binary" })), (text) => {
        const result = parseIJson(text);
        let native: { value: unknown } | null = null;
        try {
          native = { value: JSON.parse(text) };
        } catch {}
        if (native === null) expect(result.ok).toBe(false);
        else if (result.ok) expect(result.value).toStrictEqual(native.value);
        else expect(result.problem.kind).not.toBe("syntax");
      }),
      { numRuns: 2000 },
    );
  });
});
