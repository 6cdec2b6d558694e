import fc from "fast-check";
import { expect, it } from "vitest";
import { readIfMatch } from "../../src/protocol/if-match.ts";

const read: [string | null, number | null][] = [
  [null, null],
  ["*", null],
  [" * ", null],
  ['"0"', 0],
  ['"12"', 12],
  [' "12" ', 12],
  ["12", 12],
  ['"9007199254740991"', 9007199254740991],
];
it.each(read)("%j", (header, revision) => {
  expect(readIfMatch(header)).toEqual({ ok: true, revision });
});

const refused = [
  "",
  " ",
  'W/"12"',
  "W/12",
  '""',
  '"a"',
  '"-1"',
  '"1.5"',
  '"1e3"',
  '"*"',
  '" 1"',
  '"12',
  '12"',
  '"1", "2"',
  "1, 2",
  '"9007199254740992"',
  "9".repeat(400),
  "**",
];
it.each(refused)("%j is refused", (header) => {
  expect(readIfMatch(header)).toEqual({
    ok: false,
    issue: { field: "If-Match", rule: "if_match", message: expect.stringContaining("If-Match") },
  });
});

it("reads back any revision as ETag has it", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), (revision) => {
      expect(readIfMatch(`"${revision}"`)).toEqual({ ok: true, revision });
    }),
  );
});
