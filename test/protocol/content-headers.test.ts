import { describe, expect, it } from "vitest";
import { readByteRange } from "../../src/protocol/byte-range.ts";
import { digestHeader, readDigestHeader } from "../../src/protocol/content-digest.ts";
import { readEntityTags } from "../../src/protocol/entity-tags.ts";

const HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
const HELLO_HEADER = "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:";
const OTHER_HEADER = `sha-256=:${"A".repeat(43)}=:`;

describe("RFC 9530: digest headers", () => {
  it("a hash in hex is written as the header, and read from it", () => {
    expect(digestHeader(HELLO)).toBe(HELLO_HEADER);
  });

  it.each([
    [null, null],
    [HELLO_HEADER, HELLO],
    [` ${HELLO_HEADER} `, HELLO],
    [`${HELLO_HEADER};q=1`, HELLO],
    [`sha-512=:AA==:, ${HELLO_HEADER}`, HELLO],
    [`${HELLO_HEADER}, ${HELLO_HEADER}`, HELLO],
    ["sha-512=:AA==:", null],
    ["md5=::", null],
  ])("%j is read as %j", (header, sha256) => {
    expect(readDigestHeader("Content-Digest", header)).toEqual({ ok: true, sha256 });
  });

  it.each([
    "",
    "abc",
    "sha-256",
    "sha-256=abc",
    "sha-256=:abc:",
    "sha-256=:AA==:",
    `SHA-256=:${"A".repeat(43)}=:`,
    `sha-256=:${"A".repeat(44)}:`,
    `${HELLO_HEADER},`,
    `${HELLO_HEADER}, ${OTHER_HEADER}`,
  ])("%j is refused", (header) => {
    expect(readDigestHeader("Content-Digest", header)).toMatchObject({
      ok: false,
      issue: { field: "Content-Digest", rule: "digest" },
    });
  });
});

describe("RFC 9110 §13.1: entity tags", () => {
  it.each([
    [null, null],
    ["*", "*"],
    [" * ", "*"],
    ['"a"', [{ tag: "a", isWeak: false }]],
    ['""', [{ tag: "", isWeak: false }]],
    [
      'W/"a", "b"',
      [
        { tag: "a", isWeak: true },
        { tag: "b", isWeak: false },
      ],
    ],
  ])("%j is read as %j", (header, tags) => {
    expect(readEntityTags("If-Match", header)).toEqual({ ok: true, tags });
  });

  it.each(["", "a", '"a', '"a" "b"', 'w/"a"', '"a",', '*, "a"', '"a b"'])("%j is refused", (header) => {
    expect(readEntityTags("If-Match", header)).toMatchObject({ ok: false, issue: { rule: "entity_tags" } });
  });
});

describe("RFC 9110 §14: byte ranges of ten bytes", () => {
  it.each([
    [null, null],
    ["bytes=0-9", { start: 0, end: 9 }],
    ["Bytes= 3-3 ", { start: 3, end: 3 }],
    ["bytes=9-", { start: 9, end: 9 }],
    ["bytes=-1", { start: 9, end: 9 }],
    ["bytes=-11", { start: 0, end: 9 }],
    ["bytes=10-", "unsatisfiable"],
    ["bytes=10-12", "unsatisfiable"],
    ["bytes=-0", "unsatisfiable"],
    ["bytes=5-4", null],
    ["bytes=1-2,4-5", null],
    ["bytes=", null],
    ["bytes=-", null],
    ["bytes=+1-2", null],
    ["items=0-1", null],
  ])("%j is read as %j", (header, range) => {
    expect(readByteRange(header, 10)).toEqual(range);
  });

  it("there is no range of nothing", () => {
    for (const header of ["bytes=0-", "bytes=0-0", "bytes=-1"]) {
      expect(readByteRange(header, 0)).toBe("unsatisfiable");
    }
  });
});
