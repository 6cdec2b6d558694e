import { describe, expect, it } from "vitest";
import * as z from "zod/mini";
import type { Issue } from "../../src/protocol/issue.ts";
import { fitting, readShape } from "../../src/protocol/shape.ts";
import { mintBody } from "../../src/protocol/tokens.ts";

/** The issues of a value under a schema, without their messages. */
function issues(schema: z.core.$ZodType, value: unknown, prefix?: string): Omit<Issue, "message">[] {
  const result = readShape(schema, value, prefix);
  if (result.ok) throw new Error("the value fits");
  return result.issues.map(({ message, ...issue }) => {
    expect(message).not.toBe("");
    return issue;
  });
}

const item = z.strictObject({
  n: z.int().check(z.minimum(0), z.maximum(9)),
  word: z.optional(z.enum(["a", "b"])),
});
const schema = z.strictObject({ items: z.array(item), "odd name": z.optional(z.string()) });

describe("issues of a schema", () => {
  const cases: [unknown, Omit<Issue, "message">[]][] = [
    [null, [{ field: "", rule: "object" }]],
    [{}, [{ field: "items", rule: "required" }]],
    [{ items: {} }, [{ field: "items", rule: "array" }]],
    [{ items: [1] }, [{ field: "items[0]", rule: "object" }]],
    [{ items: [{ n: 1 }, { n: "1" }] }, [{ field: "items[1].n", rule: "number" }]],
    [{ items: [{ n: 0.5 }] }, [{ field: "items[0].n", rule: "int" }]],
    [{ items: [{ n: -1 }] }, [{ field: "items[0].n", rule: "too_small", limit: 0 }]],
    [{ items: [{ n: 10 }] }, [{ field: "items[0].n", rule: "too_big", limit: 9 }]],
    [{ items: [{ n: 1, word: "c" }] }, [{ field: "items[0].word", rule: "one_of" }]],
    [
      { items: [{ n: 1, x: 1, y: 2 }], z: 3 },
      [
        { field: "items[0].x", rule: "unknown_field" },
        { field: "items[0].y", rule: "unknown_field" },
        { field: "z", rule: "unknown_field" },
      ],
    ],
    [
      { items: [{ n: -1 }, { n: 10, word: 5 }], "odd name": 1 },
      [
        { field: "items[0].n", rule: "too_small", limit: 0 },
        { field: "items[1].n", rule: "too_big", limit: 9 },
        { field: "items[1].word", rule: "one_of" },
        { field: "odd name", rule: "string" },
      ],
    ],
  ];
  it.each(cases)("02§1.3 %j", (value, expected) => {
    expect(issues(schema, value)).toEqual(expected);
  });

  it("02§1.3 a prefix says where the value stood", () => {
    expect(issues(schema, { items: [{ n: -1 }] }, "payload")).toEqual([
      { field: "payload.items[0].n", rule: "too_small", limit: 0 },
    ]);
    expect(issues(z.string(), 5, "payload")).toEqual([{ field: "payload", rule: "string" }]);
    expect(issues(z.array(z.string()), [5], "payload")).toEqual([{ field: "payload[0]", rule: "string" }]);
    expect(issues(z.array(z.string()), [5])).toEqual([{ field: "[0]", rule: "string" }]);
  });

  it("02§1.3 a check of our own names its rule and limit, or is custom", () => {
    const named = z.string().check(z.refine(() => false, { message: "m", params: { rule: "id", limit: 3 } }));
    expect(issues(named, "x")).toEqual([{ field: "", rule: "id", limit: 3 }]);
    const odd = z.string().check(z.refine(() => false, { message: "m", params: { rule: 5, limit: "3" } }));
    expect(issues(odd, "x")).toEqual([{ field: "", rule: "custom" }]);
  });

  it.each([
    [z.string(), 5, "Invalid input: expected string, received number"],
    [z.string(), undefined, "Invalid input: expected string, received undefined"],
    [z.int(), 0.5, "Invalid input: expected int, received number"],
    [z.int().check(z.minimum(0)), -1, "Too small: expected number to be >=0"],
    [z.string().check(z.minLength(1)), "", "Too small: expected string to have >=1 characters"],
    [z.enum(["a", "b"]), "c", 'Invalid option: expected one of "a"|"b"'],
    [z.strictObject({}), { a: 1 }, "is not a field of this request"],
    [z.string().check(z.refine(() => false)), "", "Invalid input"],
  ])("02§1.3 an issue without a message of its own says what was expected (%#)", (schema, value, message) => {
    expect(readShape(schema, value)).toMatchObject({ ok: false, issues: [{ message }] });
  });

  it("a value with more faults than can be listed does not fit, and nothing is thrown", () => {
    const many = { items: Array(300_000).fill({}) };
    expect(issues(schema, many)).toEqual([{ field: "", rule: "shape" }]);
    expect(fitting(schema, many)).toBeNull();
    expect(fitting(schema, { items: [{ n: 1 }, {}] })).toBeNull();
    expect(fitting(schema, { items: [{ n: 1 }] })).toEqual({ items: [{ n: 1 }] });
  });

  it("design: no issue grows with the names that a client gives its members", () => {
    const long = "n".repeat(100_000);
    const cut = `${"n".repeat(200)}…`;
    expect(issues(schema, { items: [], [long]: 1 })).toEqual([{ field: cut, rule: "unknown_field" }]);
    expect(issues(z.record(z.string(), z.int()), { [long]: "" })).toEqual([{ field: cut, rule: "number" }]);
    const pairs = issues(schema, { items: [], [`n${"💥".repeat(500)}`]: 1 });
    expect(pairs.map(({ field }) => field.isWellFormed())).toEqual([true]);
  });

  it("02§1.3 messages do not repeat what was sent", () => {
    const secret = "s3cr3t-value";
    const result = readShape(z.object({ a: z.int(), b: z.enum(["x"]) }), { a: secret, b: secret });
    expect(result.ok).toBe(false);
    expect(JSON.stringify(result)).not.toContain(secret);
  });
});

it("what has a length that is no number is of the wrong type, and no fault", () => {
  const odd = { length: { valueOf: 1, toString: 1 } };
  const problems = (schema: z.core.$ZodType, value: unknown) => {
    const read = readShape(schema, value);
    return read.ok ? [] : read.issues.map(({ field, rule }) => `${field} ${rule}`);
  };
  expect(problems(mintBody(), { scopes: ["agent"], name: odd })).toEqual(["name string"]);
  expect(problems(mintBody(), { scopes: odd })).toEqual(["scopes array"]);
});
