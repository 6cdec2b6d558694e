import type { Issue } from "./issue.ts";

/** The greatest length of an artifact's path, in bytes of UTF-8. */
export const MAX_ARTIFACT_PATH_BYTES = 1_024;

/** The greatest length of one segment of it, in bytes of UTF-8: as file systems have it. */
export const MAX_ARTIFACT_SEGMENT_BYTES = 255;

const utf8 = new TextEncoder();

/**
 * What is wrong with `path` as the path of an artifact in `field`, or null. Paths are relative, their segments separated
 * by `/`; they are compared by code point, so only one spelling of a name is taken (Unicode NFC). Nothing is mended: a path
 * is stored as it came or refused.
 *
 * Rules: `non_empty`; `max_bytes` and `max_segment_bytes` with their limit; `relative` for a leading slash; `segments` for
 * empty segments, a trailing slash, `.` and `..`; `characters` for a backslash, control characters, half surrogate pairs
 * and what Unicode keeps for internal use; `nfc`.
 */
export function issueForArtifactPath(field: string, path: string): Issue | null {
  const issue = (rule: string, message: string, bounds: Pick<Issue, "limit" | "actual"> = {}): Issue => ({
    field,
    rule,
    message: `${field} ${message}`,
    ...bounds,
  });
  if (path === "") return issue("non_empty", "must not be empty");
  const bytes = utf8.encode(path).length;
  if (bytes > MAX_ARTIFACT_PATH_BYTES) {
    const limit = MAX_ARTIFACT_PATH_BYTES;
    return issue("max_bytes", `must have at most ${limit} bytes of UTF-8`, { limit, actual: bytes });
  }
  if (path.startsWith("/")) return issue("relative", "must not begin with a slash");
  if (path.includes("\\")) return issue("characters", "must not have a backslash");
  if (/[\p{Cc}\p{Cs}\p{Noncharacter_Code_Point}]/u.test(path)) {
    return issue("characters", "must not have control characters or code points that are no characters");
  }
  if (path !== path.normalize("NFC")) return issue("nfc", "must be in Unicode normalisation form C");
  for (const segment of path.split("/")) {
    if (segment === "") return issue("segments", "must not have empty segments or end with a slash");
    if (segment === "." || segment === "..") return issue("segments", "must not have segments . or ..");
    const actual = utf8.encode(segment).length;
    const limit = MAX_ARTIFACT_SEGMENT_BYTES;
    if (actual > limit) {
      return issue("max_segment_bytes", `must have at most ${limit} bytes in each segment`, {
        limit,
        actual,
      });
    }
  }
  return null;
}
