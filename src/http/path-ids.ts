import { issueForId } from "../protocol/ids.ts";
import { refuseIssues } from "./problem.ts";

/**
 * The ids in a path, decoded. The router leaves them percent-encoded; they must decode to UTF-8 and be ids
 * (contract 02 §1.3, 07 D03).
 * @throws RequestRefused `ID_INVALID`
 */
export function pathIds(params: Readonly<Record<string, string>>): Record<string, string> {
  const ids: Record<string, string> = {};
  for (const [name, encoded] of Object.entries(params)) {
    const id = decode(name, encoded);
    const issue = issueForId(name, id);
    if (issue !== null) refuseIssues("ID_INVALID", [issue]);
    ids[name] = id;
  }
  return ids;
}

function decode(name: string, encoded: string): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    const message = "is not valid UTF-8 after percent-decoding";
    refuseIssues("ID_INVALID", [{ field: name, rule: "utf8", message }]);
  }
}
