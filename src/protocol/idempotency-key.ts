import type { Issue } from "./issue.ts";

/** The greatest length of an idempotency key, in characters, without quotes and escapes. */
export const MAX_IDEMPOTENCY_KEY_LENGTH = 200;

export type IdempotencyKeyResult = { ok: true; key: string | null } | { ok: false; issue: Issue };

/** A structured-field string (RFC 8941, section 3.3.3), its inside captured, and whatever parameters follow it. */
const QUOTED = /^"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"(?:;.*)?$/;

const PRINTABLE_ASCII = /^[\x20-\x7e]*$/;

/**
 * Reads the value of an `Idempotency-Key` header (null when the request has none).
 *
 * The key is either a structured-field string (RFC 8941: printable ASCII in double quotes, `\"` and `\\` for those two),
 * whose parameters are ignored, or bare: printable ASCII as it stands, not beginning with a quote. Whitespace around
 * the header's value does not count; inside the quotes it does. `k` and `"k"` are the same key.
 *
 * A missing or blank header is `key: null`. Issues: rule `idempotency_key` for a value that cannot be read, and for a
 * quoted one that is blank (its sender counts on a key it does not have); rule `max_length` (limit in characters) for
 * one that is too long.
 */
export function readIdempotencyKey(header: string | null): IdempotencyKeyResult {
  const value = header?.trim() ?? "";
  if (value === "") return { ok: true, key: null };
  if (!value.startsWith('"')) {
    return PRINTABLE_ASCII.test(value)
      ? checkLength(value)
      : refuse("a bare value must be printable ASCII characters");
  }
  const inside = QUOTED.exec(value)?.[1];
  if (inside === undefined) return refuse("a quoted value must be one structured-field string (RFC 8941)");
  const key = inside.replace(/\\(["\\])/g, "$1");
  if (key.trim() === "") return refuse("a quoted value must not be blank");
  return checkLength(key);
}

const FIELD = "Idempotency-Key";

function checkLength(key: string): IdempotencyKeyResult {
  const limit = MAX_IDEMPOTENCY_KEY_LENGTH;
  if (key.length <= limit) return { ok: true, key };
  const message = `${FIELD} must have at most ${limit} characters`;
  return { ok: false, issue: { field: FIELD, rule: "max_length", limit, message } };
}

function refuse(why: string): IdempotencyKeyResult {
  return { ok: false, issue: { field: FIELD, rule: "idempotency_key", message: `${FIELD}: ${why}` } };
}
