import type { Issue } from "../protocol/issue.ts";

/** Why content was not taken in, or cannot be given out. */
export type ArtifactProblem =
  | {
      code: "UPLOAD_TRUNCATED" | "UPLOAD_NOT_FOUND" | "UPLOAD_COMPLETED";
      error: string;
    }
  /** `sha256`: of what arrived, hex. */
  | { code: "DIGEST_MISMATCH"; error: string; sha256: string }
  | { code: "UPLOAD_INCOMPLETE"; error: string; issues: Issue[] }
  | { code: "LIMIT_EXCEEDED"; error: string; limit_name: string; limit: number; actual: number }
  | { code: "BODY_TOO_LARGE"; error: string; limit_name: string; limit: number };

export type ArtifactResult<T> = { ok: true; value: T } | { ok: false; problem: ArtifactProblem };

export function refused(problem: ArtifactProblem): { ok: false; problem: ArtifactProblem } {
  return { ok: false, problem };
}

export const uploadNotFound: ArtifactProblem = { code: "UPLOAD_NOT_FOUND", error: "upload not found" };

export const uploadCompleted: ArtifactProblem = {
  code: "UPLOAD_COMPLETED",
  error: "the upload has been put together",
};

export const truncated: ArtifactProblem = {
  code: "UPLOAD_TRUNCATED",
  error: "the body ended before it was complete",
};

export function digestMismatch(sha256: string): ArtifactProblem {
  return { code: "DIGEST_MISMATCH", error: "the content has another SHA-256 than the request says", sha256 };
}

export function tooLong(limitName: string, limit: number): ArtifactProblem {
  return {
    code: "BODY_TOO_LARGE",
    error: `${limitName} is limited to ${limit}; larger content is uploaded in parts`,
    limit_name: limitName,
    limit,
  };
}
