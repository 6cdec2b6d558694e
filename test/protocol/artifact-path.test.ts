import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { issueForArtifactPath } from "../../src/protocol/artifact-path.ts";

const good = [
  "a",
  "a/b/c.txt",
  "a b/c d",
  ".hidden",
  "..a",
  "a..",
  "...",
  "a/.../b",
  "~/x",
  "C:/x",
  "con",
  'a:b*c?d|e"f<g>h',
  "%2e%2e",
  "%",
  "-rf",
  "é",
  "日本/語",
  "\u{1F468}\u200D\u{1F469}",
  "\u2028",
  "x".repeat(255),
  `${"é".repeat(127)}x`,
  Array.from({ length: 512 }, () => "a").join("/"),
];

const bad: [string, string][] = [
  ["", "non_empty"],
  ["/", "relative"],
  ["/a", "relative"],
  ["//a", "relative"],
  ["a/", "segments"],
  ["a//b", "segments"],
  [".", "segments"],
  ["..", "segments"],
  ["a/..", "segments"],
  ["../a", "segments"],
  ["a/../b", "segments"],
  ["a/./b", "segments"],
  ["./a", "segments"],
  ["a\\b", "characters"],
  ["..\\a", "characters"],
  ["\\\\host\\share", "characters"],
  ["a\0", "characters"],
  ["a\nb", "characters"],
  ["a\r\nb: c", "characters"],
  ["\t", "characters"],
  ["\u007f", "characters"],
  ["\u0085", "characters"],
  ["\ud800", "characters"],
  ["\udc00\ud800", "characters"],
  ["\uffff", "characters"],
  ["\ufdd0", "characters"],
  ["\u{10ffff}", "characters"],
  ["e\u0301", "nfc"],
  ["\u212b", "nfc"],
  ["x".repeat(256), "max_segment_bytes"],
  ["é".repeat(128), "max_segment_bytes"],
  [`a/${"x".repeat(256)}/b`, "max_segment_bytes"],
  [Array.from({ length: 513 }, () => "a").join("/"), "max_bytes"],
  ["é".repeat(513), "max_bytes"],
];

describe("design: paths of artifacts", () => {
  it.each(good)("%j is one", (path) => {
    expect(issueForArtifactPath("path", path)).toBeNull();
  });

  it.each(bad)("%j is refused: %s", (path, rule) => {
    const issue = issueForArtifactPath("path", path);
    expect(issue).toMatchObject({ field: "path", rule, message: expect.stringMatching(/^path must /) });
    expect(issue?.limit).toBe(rule === "max_bytes" ? 1024 : rule === "max_segment_bytes" ? 255 : undefined);
  });

  it("what is taken never leaves its place, however it is joined to a folder", () => {
    const text = fc.string({ unit: fc.constantFrom(".", "/", "\\", "a", "%", "é", " ", "~"), maxLength: 12 });
    fc.assert(
      fc.property(text, (path) => {
        if (issueForArtifactPath("path", path) !== null) return;
        const segments = path.split("/");
        expect(segments.every((segment) => !["", ".", ".."].includes(segment))).toBe(true);
        const url = segments.map(encodeURIComponent).join("/");
        expect(new URL(`http://host/folder/${url}`).pathname).toBe(`/folder/${url}`);
        expect(decodeURIComponent(url)).toBe(path);
      }),
    );
  });
});
