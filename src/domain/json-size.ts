import { limitExceeded, type Refusal } from "./refusals.ts";

const utf8 = new TextEncoder();

/** Refuses a value whose JSON is longer than `maxBytes` bytes of UTF-8. `limitName` says what is meant. */
export function jsonTooLarge(limitName: string, value: unknown, maxBytes: number): Refusal | null {
  const bytes = bytesOver(JSON.stringify(value) ?? "null", maxBytes);
  return bytes === null ? null : limitExceeded(limitName, maxBytes, bytes);
}

/** The length of a text in bytes of UTF-8 if that is more than `maxBytes`, else null. */
export function bytesOver(text: string, maxBytes: number): number | null {
  // A UTF-16 unit is at most three bytes of UTF-8: most texts need no exact count.
  if (text.length * 3 <= maxBytes) return null;
  const bytes = utf8.encode(text).length;
  return bytes > maxBytes ? bytes : null;
}
