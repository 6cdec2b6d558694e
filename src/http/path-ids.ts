import { issueForArtifactPath } from "../protocol/artifact-path.ts";
import { issueForId } from "../protocol/ids.ts";
import { refuseIssues } from "./problem.ts";

/**
 * The ids in a path, decoded. The router leaves them percent-encoded; they must decode to UTF-8 and be ids
 * (contract 02 §1.3, 07 D03). The rest of a path, `path`, names an artifact.
 * @throws RequestRefused `ID_INVALID`, `ARTIFACT_PATH_INVALID`
 */
export function pathIds(params: Readonly<Record<string, string>>): Record<string, string> {
  const ids: Record<string, string> = {};
  for (const [name, encoded] of Object.entries(params)) {
    const isPath = name === "path";
    const code = isPath ? "ARTIFACT_PATH_INVALID" : "ID_INVALID";
    const id = decode(name, encoded, code);
    const issue = isPath ? issueForArtifactPath(name, id) : issueForId(name, id);
    if (issue !== null) refuseIssues(code, [issue]);
    ids[name] = id;
  }
  return ids;
}

function decode(name: string, encoded: string, code: "ID_INVALID" | "ARTIFACT_PATH_INVALID"): string {
  try {
    return decodeURIComponent(encoded);
  } catch {
    const message = "is not valid UTF-8 after percent-decoding";
    refuseIssues(code, [{ field: name, rule: "utf8", message }]);
  }
}
