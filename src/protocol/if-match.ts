import type { Issue } from "./issue.ts";

export type IfMatchResult = { ok: true; revision: number | null } | { ok: false; issue: Issue };

/**
 * Reads the value of an `If-Match` header (RFC 9110, section 13.1.1; null when the request has none) as the revision
 * the client expects. Entity tags here are revisions in decimal digits, 0 to 2^53 - 1.
 *
 * `"12"` and, leniently, bare `12` are revision 12. A missing header and `*` are `revision: null`: any. Everything
 * else is an issue (rule `if_match`): an empty value, weak tags (`W/"12"`: If-Match compares strongly, they never
 * match), lists of tags, and tags that are no revision.
 */
export function readIfMatch(header: string | null): IfMatchResult {
  const value = header?.trim();
  if (value === undefined || value === "*") return { ok: true, revision: null };
  if (value.startsWith("W/")) return refuse("a weak entity tag never matches; send the strong one");
  const digits = /^(?:"([0-9]+)"|([0-9]+))$/.exec(value);
  const revision = Number(digits?.[1] ?? digits?.[2] ?? Number.NaN);
  if (!Number.isSafeInteger(revision)) return refuse('must be one quoted revision, such as "12", or *');
  return { ok: true, revision };
}

function refuse(why: string): IfMatchResult {
  return { ok: false, issue: { field: "If-Match", rule: "if_match", message: `If-Match: ${why}` } };
}
