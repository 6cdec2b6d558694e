import { limitExceeded, type Refusal } from "./refusals.ts";

const utf8 = new TextEncoder();

/** Refuses a payload whose JSON is longer than `maxBytes` bytes of UTF-8. `limitName` says which payload is meant. */
export function payloadTooLarge(limitName: string, payload: unknown, maxBytes: number): Refusal | null {
  const json = JSON.stringify(payload) ?? "null";
  // A UTF-16 unit is at most three bytes of UTF-8: most payloads need no exact count.
  if (json.length * 3 <= maxBytes) return null;
  const bytes = utf8.encode(json).length;
  return bytes > maxBytes ? limitExceeded(limitName, maxBytes, bytes) : null;
}
