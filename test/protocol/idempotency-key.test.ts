import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readIdempotencyKey } from "../../src/protocol/idempotency-key.ts";

const read: [string | null, string | null][] = [
  [null, null],
  ["", null],
  [" \t ", null],
  ["k", "k"],
  ["  k-1 ", "k-1"],
  ['"k"', "k"],
  [' "k" ', "k"],
  ['" k "', " k "],
  ['"k";a=1;b="c"', "k"],
  ['"k"; a', "k"],
  ['"a\\"b\\\\c"', 'a"b\\c'],
  ['"a;b,c"', "a;b,c"],
  ["a;b", "a;b"],
  ['a"b\\c', 'a"b\\c'],
  ["8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"],
  ["x".repeat(200), "x".repeat(200)],
  [`"${"x".repeat(200)}"`, "x".repeat(200)],
  [`"${'\\"'.repeat(200)}"`, '"'.repeat(200)],
];
it.each(read)("%j", (header, key) => {
  expect(readIdempotencyKey(header)).toEqual({ ok: true, key });
});

const refused: [string, string][] = [
  ['"', "idempotency_key"],
  ['"k', "idempotency_key"],
  ['"k\\"', "idempotency_key"],
  ['"a\\b"', "idempotency_key"],
  ['"k"x', "idempotency_key"],
  ['"k", "l"', "idempotency_key"],
  ['""', "idempotency_key"],
  ['"  "', "idempotency_key"],
  ['"é"', "idempotency_key"],
  ['"a\tb"', "idempotency_key"],
  ["é", "idempotency_key"],
  ["a\tb", "idempotency_key"],
  ["x".repeat(201), "max_length"],
  [`"${"x".repeat(201)}"`, "max_length"],
];
it.each(refused)("%j is refused", (header, rule) => {
  expect(readIdempotencyKey(header)).toEqual({
    ok: false,
    issue: {
      field: "Idempotency-Key",
      rule,
      message: expect.any(String),
      ...(rule === "max_length" && { limit: 200 }),
    },
  });
});

describe("any key", () => {
  const printable = fc.string({ unit: "grapheme-ascii", minLength: 1, maxLength: 200 });

  it("is read back from its quoted form, with parameters or without", () => {
    const key = printable.filter((key) => key.trim() !== "");
    fc.assert(
      fc.property(key, fc.constantFrom("", ";v=1", '; a="b"'), (key, parameters) => {
        const header = `"${key.replace(/["\\]/g, "\\$&")}"${parameters}`;
        expect(readIdempotencyKey(header)).toEqual({ ok: true, key });
      }),
    );
  });

  it("is read back from its bare form, trimmed, unless it begins with a quote", () => {
    fc.assert(
      fc.property(
        printable.filter((key) => !key.trim().startsWith('"')),
        (key) => {
          expect(readIdempotencyKey(key)).toEqual({ ok: true, key: key.trim() || null });
        },
      ),
    );
  });
});

it("reads a hostile header in linear time", () => {
  expect(readIdempotencyKey(`"${'\\"'.repeat(50_000)}`).ok).toBe(false);
});
