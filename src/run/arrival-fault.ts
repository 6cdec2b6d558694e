import type { Refusal } from "../domain/refusals.ts";
import type { Issue } from "../protocol/issue.ts";
import { LineFault } from "./line-reader.ts";

/** Thrown where an export breaks a rule; says which line. */
export class ArrivalFault extends Error {
  readonly issue: Issue;

  constructor(line: number, path: string, rule: string, message: string, bounds: Partial<Issue> = {}) {
    super(`line ${line}: ${message}`);
    this.issue = { field: `line ${line}${path === "" ? "" : `: ${path}`}`, rule, message, ...bounds };
  }
}

/** The run has contents, and the deployment has no bucket to look for them. */
export class StoreMissing extends Error {}

/** What to tell the caller; null for a fault of the engine. */
export function refusalOf(error: unknown): Refusal | null {
  if (error instanceof StoreMissing) {
    return {
      code: "ARTIFACT_STORE_MISSING",
      error: "the run has artifacts, and there is no bucket for them",
    };
  }
  if (error instanceof LineFault) {
    const issue = { field: `line ${error.line}`, rule: error.rule, message: error.message };
    return importInvalid([issue]);
  }
  return error instanceof ArrivalFault ? importInvalid([error.issue]) : null;
}

/** What is wrong with an import, by line. */
export function importInvalid(issues: Issue[]): Refusal {
  const told = issues
    .slice(0, 3)
    .map(({ field, message }) => (field === "" ? message : `${field}: ${message}`));
  return { code: "IMPORT_INVALID", error: told.join("; "), issues };
}
