import type { Issue } from "./issue.ts";

/** The greatest length of a run id or task id, in characters. */
export const MAX_ID_LENGTH = 200;

/** What run ids and task ids look like; `.` and `..` match it and are refused all the same, see {@link isValidId}. */
export const ID_PATTERN = /^[A-Za-z0-9._:-]{1,200}$/;

/**
 * Whether `value` can be the id of a run or a task. Such an id stands in a URL path unescaped; `.` and `..` do not,
 * because URL parsers resolve them away (RFC 3986, section 5.2.4).
 */
export function isValidId(value: string): boolean {
  return ID_PATTERN.test(value) && value !== "." && value !== "..";
}

/**
 * What is wrong with `value` as the id in `field`, or null: rule `max_length` (limit in characters) for one that is
 * only too long, rule `id` for everything else.
 */
export function issueForId(field: string, value: string): Issue | null {
  if (isValidId(value)) return null;
  if (value.length > MAX_ID_LENGTH && /^[A-Za-z0-9._:-]+$/.test(value)) {
    const message = `${field} must have at most ${MAX_ID_LENGTH} characters`;
    return { field, rule: "max_length", limit: MAX_ID_LENGTH, message };
  }
  const message = `${field} must be 1 to ${MAX_ID_LENGTH} of the characters A-Z a-z 0-9 . _ : - and not "." or ".."`;
  return { field, rule: "id", message };
}
