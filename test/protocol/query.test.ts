import fc from "fast-check";
import { describe, expect, expectTypeOf, it } from "vitest";
import { readQuery } from "../../src/protocol/query.ts";

const spec = { since_seq: "uint", from_checkpoint: "bool", cursor: "string" } as const;
const read = (query: string) => readQuery(new URLSearchParams(query), spec);

describe("values", () => {
  const queries: [string, object][] = [
    ["", {}],
    ["since_seq=0", { since_seq: 0 }],
    ["since_seq=9007199254740991", { since_seq: 9007199254740991 }],
    ["since_seq=007", { since_seq: 7 }],
    ["from_checkpoint=true", { from_checkpoint: true }],
    ["from_checkpoint=false&cursor=a%20b+c", { from_checkpoint: false, cursor: "a b c" }],
    ["cursor=", { cursor: "" }],
    ["cursor", { cursor: "" }],
    ["other=1&other=2&SINCE_SEQ=x&toString=1", {}],
  ];
  it.each(queries)("%s", (query, values) => {
    expect(read(query)).toEqual({ ok: true, values });
  });

  it("have the types of their kinds, all optional", () => {
    const result = readQuery(new URLSearchParams("limit=5"), {
      limit: "uint",
      dry_run: "bool",
      status: "string",
    });
    if (!result.ok) throw new Error("refused");
    expectTypeOf(result.values).branded.toEqualTypeOf<{
      readonly limit?: number;
      readonly dry_run?: boolean;
      readonly status?: string;
    }>();
    expect(result.values.limit).toBe(5);
  });
});

describe("issues", () => {
  const queries: [string, string, string][] = [
    ["since_seq=", "since_seq", "unsigned_integer"],
    ["since_seq", "since_seq", "unsigned_integer"],
    ["since_seq=-1", "since_seq", "unsigned_integer"],
    ["since_seq=%2B1", "since_seq", "unsigned_integer"],
    ["since_seq=1.0", "since_seq", "unsigned_integer"],
    ["since_seq=1e3", "since_seq", "unsigned_integer"],
    ["since_seq=0x1", "since_seq", "unsigned_integer"],
    ["since_seq=+1", "since_seq", "unsigned_integer"],
    ["since_seq=1%0A", "since_seq", "unsigned_integer"],
    ["since_seq=%D9%A1", "since_seq", "unsigned_integer"],
    ["since_seq=9007199254740992", "since_seq", "max"],
    ["from_checkpoint=", "from_checkpoint", "boolean"],
    ["from_checkpoint", "from_checkpoint", "boolean"],
    ["from_checkpoint=True", "from_checkpoint", "boolean"],
    ["from_checkpoint=1", "from_checkpoint", "boolean"],
    ["from_checkpoint=true%20", "from_checkpoint", "boolean"],
    ["cursor=a&cursor=a", "cursor", "repeated"],
    ["since_seq=1&since_seq=2", "since_seq", "repeated"],
    ["since_seq=&other=1&since_seq=", "since_seq", "repeated"],
  ];
  it.each(queries)("%s", (query, field, rule) => {
    expect(read(query)).toEqual({
      ok: false,
      issues: [
        { field, rule, message: expect.any(String), ...(rule === "max" && { limit: 9007199254740991 }) },
      ],
    });
  });

  it("are all reported", () => {
    const result = read("cursor=1&cursor=2&from_checkpoint=no&since_seq=x");
    expect(!result.ok && result.issues.map((issue) => issue.field)).toEqual(Object.keys(spec));
  });
});

it("reads every unsigned integer, boolean and string back", () => {
  fc.assert(
    fc.property(
      fc.maxSafeNat(),
      fc.boolean(),
      fc.string({ unit: "grapheme" }),
      (since_seq, from_checkpoint, cursor) => {
        const values = { since_seq, from_checkpoint, cursor };
        const params = new URLSearchParams(Object.entries(values).map(([name, value]) => [name, `${value}`]));
        expect(read(params.toString())).toEqual({ ok: true, values });
      },
    ),
  );
});
