import * as fc from "fast-check";
import type { Rng } from "../drill/rng.ts";
import { pickFrom } from "./values.ts";

/** Texts, JSON and bytes that mean nothing, the same for the same seed. */
export interface Garbage {
  text(rng: Rng): string;
  json(rng: Rng): unknown;
  bytes(rng: Rng): Uint8Array;
}

const POOL = 300;

/** Texts that have broken parsers before. */
const HARD_TEXTS: readonly string[] = [
  "",
  " ",
  "\u0000",
  "a\u0000b",
  "\ud800",
  "\udfff\ud800",
  "\u2028\u2029",
  "\ufeff",
  "e\u0301",
  "ﷺ",
  "İ",
  "\u202e txet",
  "..",
  "../../etc/passwd",
  "%00",
  "%",
  "%E0%A4%A",
  "%2e%2e%2f",
  "__proto__",
  "constructor",
  "toString",
  "null",
  "undefined",
  "NaN",
  "-0",
  "1e999",
  "9007199254740993",
  "-1",
  "0x10",
  "1_000",
  "true",
  "[]",
  "{}",
  "*",
  "**",
  "a".repeat(5_000),
  "💥".repeat(300),
  "'; DROP TABLE runs; --",
  '"',
  "\\",
  "\r\nx-injected: 1",
  "{{ body }}",
  "{{ $.a | truncate: 5 }}",
  "$.a[0]",
  "http://127.0.0.1:1/",
  "javascript:alert(1)",
  'W/"1"',
  '"1"',
  "bytes=0-",
  "bytes=5-2",
  "bytes=0-0,2-3",
  "bytes=-99999999999999999999",
  "sha-256=:AAAA:",
];

const encoder = new TextEncoder();

export function garbageOf(seed: number): Garbage {
  const parameters = { seed, numRuns: POOL };
  const texts = [...HARD_TEXTS, ...fc.sample(fc.string({ unit: "binary", maxLength: 40 }), parameters)];
  const values = fc.sample(fc.jsonValue({ maxDepth: 4, stringUnit: "binary" }), parameters);
  const chunks = fc.sample(fc.uint8Array({ maxLength: 200 }), parameters);
  return {
    text: (rng) => pickFrom(rng, texts),
    json: (rng) => (rng.chance(0.3) ? hardJson(rng) : pickFrom(rng, values)),
    bytes: (rng) => {
      const chunk = pickFrom(rng, chunks);
      return rng.chance(0.1) ? encoder.encode(pickFrom(rng, texts).repeat(rng.between(1, 50))) : chunk;
    },
  };
}

function hardJson(rng: Rng): unknown {
  switch (rng.between(0, 6)) {
    case 0:
      return nested(rng.between(1, 70));
    case 1:
      return pickFrom(rng, HARD_TEXTS);
    case 2:
      return pickFrom(rng, [0, -0, -1, 1e308, 5e-324, 2 ** 53 - 1, 2 ** 31, 2 ** 32, 0.1]);
    case 3:
      return { [pickFrom(rng, HARD_TEXTS)]: pickFrom(rng, HARD_TEXTS) };
    case 4:
      return Array.from({ length: rng.between(0, 2_000) }, () => null);
    case 5:
      return "z".repeat(pickFrom(rng, [1_001, 4_097, 65_537, 262_145]));
    default:
      return null;
  }
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level += 1) value = level % 2 === 0 ? [value] : { a: value };
  return value;
}

/** Pieces that are put into JSON text. */
const PIECES: readonly string[] = [
  "{",
  "}",
  "[",
  "]",
  ",",
  ":",
  '"',
  "\\",
  "\\u0000",
  "\\ud800",
  "null",
  "1e400",
  "-",
  "9007199254740993",
  "0.1e-999",
  "\u0000",
  "\ufeff",
  "//",
  "'",
  "NaN",
  '"__proto__":1,',
  "\u2028",
  '"a":1,"a":1,',
  "[".repeat(70),
  "[".repeat(20_000),
  '{"a":'.repeat(5_000),
  "1".repeat(400),
];

/** The text with one to three changes: pieces put in, left out, doubled, or characters changed. */
export function mutatedText(text: string, rng: Rng): string {
  let mutated = text;
  for (let change = rng.between(1, 3); change > 0; change -= 1) {
    const at = rng.between(0, mutated.length);
    const upto = Math.min(mutated.length, at + rng.between(0, 12));
    const [before, piece, after] = [mutated.slice(0, at), mutated.slice(at, upto), mutated.slice(upto)];
    switch (rng.between(0, 4)) {
      case 0:
        mutated = before + after;
        break;
      case 1:
        mutated = before + piece + piece + after;
        break;
      case 2:
        mutated = before + pickFrom(rng, PIECES) + piece + after;
        break;
      case 3:
        mutated = before;
        break;
      default:
        mutated = before + piece.replace(/[0-9]/g, () => String(rng.between(0, 9))) + after;
    }
  }
  return mutated;
}

/** Lines left out, doubled, swapped or changed, as of an export that was tampered with. */
export function mutatedLines(text: string, rng: Rng): string {
  const lines = text.split("\n").filter((line) => line !== "");
  if (lines.length === 0) return text;
  for (let change = rng.between(1, 3); change > 0; change -= 1) {
    const at = rng.between(0, lines.length - 1);
    const other = rng.between(0, lines.length - 1);
    const line = lines[at] ?? "";
    switch (rng.between(0, 5)) {
      case 0:
        lines.splice(at, 1);
        break;
      case 1:
        lines.splice(other, 0, line);
        break;
      case 2:
        [lines[at], lines[other]] = [lines[other] ?? "", line];
        break;
      case 3:
        lines.length = at;
        break;
      case 4:
        lines[at] = line.slice(0, rng.between(0, line.length));
        break;
      default:
        lines[at] = mutatedText(line, rng);
    }
  }
  return `${lines.join("\n")}\n`;
}
