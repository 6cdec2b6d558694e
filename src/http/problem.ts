import type { ArtifactProblem } from "../artifacts/problems.ts";
import type { QuotaExceeded } from "../directory/quotas.ts";
import { type Refusal, runNotFound } from "../domain/refusals.ts";
import type { Scope } from "../identity/scopes.ts";
import { CODES } from "../protocol/codes.ts";
import type { Issue } from "../protocol/issue.ts";
import type { HttpAnswer } from "./http-answer.ts";
import { jsonAnswer } from "./json.ts";

/** Codes of refusals that tell issues. */
type IssueCode =
  | "ID_INVALID"
  | "QUERY_INVALID"
  | "HEADER_INVALID"
  | "BODY_INVALID"
  | "ARTIFACT_PATH_INVALID"
  | "TOKEN_NOT_NARROWER";

/** Why a request was not answered as asked: a refusal of the engine, or one of the HTTP layer. */
export type Problem = Cause & Pick<Refusal, "row" | "command">;

type Cause =
  | Refusal
  | ArtifactProblem
  | { code: "AUTH_REQUIRED" | "SETUP_REQUIRED" | "ROUTE_NOT_FOUND" | "INTERNAL"; error: string }
  | {
      code: "KEYS_REQUIRED" | "IDENTITY_UNAVAILABLE" | "TENANT_CONTEXT_DENIED" | "TOKEN_NOT_FOUND";
      error: string;
    }
  | { code: "SCOPE_INSUFFICIENT"; error: string; needs: Scope; scopes: Scope[] }
  | { code: "ROOT_REQUIRED"; error: string }
  | QuotaExceeded
  | { code: "RATE_LIMITED"; error: string; limit_name: string; limit: number; retry_after_ms: number }
  | { code: "METHOD_NOT_ALLOWED"; error: string; allow: string[] }
  | { code: "CONTENT_TYPE_UNSUPPORTED" | "BODY_MALFORMED" | "CURSOR_INVALID"; error: string }
  | { code: "CONTENT_LENGTH_REQUIRED"; error: string }
  | { code: "HOOK_NOT_FOUND" | "HOOK_DISABLED" | "SIGNATURE_INVALID" | "SECRET_NOT_FOUND"; error: string }
  | { code: "LOCK_NOT_FOUND"; error: string }
  | { code: "DELIVERY_NOT_FOUND" | "DELIVERY_BUSY"; error: string }
  | { code: "SUBSCRIPTION_NOT_FOUND" | "DEAD_LETTER_NOT_FOUND"; error: string }
  | { code: "RANGE_NOT_SATISFIABLE"; error: string; bytes: number }
  | { code: "BODY_TOO_LARGE"; error: string; limit_name: string; limit: number }
  | {
      code: IssueCode;
      error: string;
      issues: Issue[];
      issue_count: number;
    };

/** Thrown by a handler to end a request with a problem; the door it came in by writes the answer. */
export class RequestRefused extends Error {
  readonly problem: Problem;
  /** Headers that the answer must carry all the same. */
  readonly headers: Record<string, string>;
  /** What the caller is not told: for the log alone. */
  readonly reason: string | null;

  constructor(problem: Problem, headers: Record<string, string> = {}, reason: string | null = null) {
    super(problem.code);
    this.problem = problem;
    this.headers = headers;
    this.reason = reason;
  }

  /** The same about a command of a batch. @param index counted from 0 */
  atCommand(index: number): RequestRefused {
    return new RequestRefused({ ...this.problem, command: index }, this.headers, this.reason);
  }
}

/** Issues that an answer lists; a body can have thousands. */
const MAX_ISSUES = 50;
/** Issues that its text tells. */
const MAX_ISSUES_IN_TEXT = 3;

/** Refuses a request for what its parts are, naming each (the first ones, when there are many). */
export function refuseIssues(code: IssueCode, issues: Issue[]): never {
  const told = issues.slice(0, MAX_ISSUES_IN_TEXT).map(nameAndMessage).join("; ");
  const more = issues.length - MAX_ISSUES_IN_TEXT;
  const error = more > 0 ? `${told}; and ${more} more` : told;
  throw new RequestRefused({ code, error, issues: issues.slice(0, MAX_ISSUES), issue_count: issues.length });
}

function nameAndMessage({ field, message }: Issue): string {
  return field === "" || message.startsWith(field) ? message : `${field}: ${message}`;
}

/** The contract's soft refusals: HTTP 200 with `ok: false` on `/context` (contract 02 §1.5, docs/compatibility.md). */
const SOFT: ReadonlySet<Problem["code"]> = new Set([
  "CONTEXT_RUN_EXISTS",
  "TASK_EVENT_APPEND_DISABLED",
  "TASK_PATCH_OP_DISABLED",
  "TASK_CONTRACT_INVALID",
  "TASK_OUTPUT_TARGET_REQUIRED",
  "TASK_EXISTS",
  "TASK_DEPENDENCY_CYCLE",
  "TASK_REV_MISMATCH",
  "TASK_LEASE_REQUIRED",
  "TASK_LEASE_INVALID",
  "TASK_TRANSITION_INVALID",
]);

/** A problem as `/context` tells it: `{error, code, …}`, softly where the contract says so. */
export function contextProblem(problem: Problem): HttpAnswer {
  // Only what the contract has for the code (02 §1.5).
  const { allow, lease_owner, fence, lease_expires_at_ms, row, command, ...members } = problem as Problem &
    Record<string, unknown>;
  const headers = problemHeaders(problem);
  // The contract knows no archive: what is there is not found (02 §1.5).
  if (problem.code === "RUN_ARCHIVED") return jsonAnswer({ ...runNotFound }, { status: 404, headers });
  if (SOFT.has(problem.code)) return jsonAnswer({ ok: false, ...members }, { headers });
  // The contract answers a patch that does not fit with 400 (05 §2).
  const status = problem.code === "PATCH_PAYLOAD_INVALID" ? 400 : CODES[problem.code].status;
  return jsonAnswer(members, { status, headers });
}

/** A problem as `/v1` tells it (RFC 9457); refusals about a task to be created, or a command of a batch, name it as an issue. */
export function nativeProblem(
  problem: Problem,
  where: { origin: string; path: string; requestId: string },
): HttpAnswer {
  const { code, error, row, ...members } = problem;
  const issues = issuesOf(problem);
  const { status, title, hint, retryable } = CODES[code];
  const body = {
    type: `${where.origin}/problems/${code}`,
    title,
    status,
    detail: error,
    instance: where.path,
    code,
    error,
    hint,
    retryable,
    request_id: where.requestId,
    ...members,
    ...(issues.length > 0 && { issues }),
  };
  const headers = { ...problemHeaders(problem), "content-type": "application/problem+json" };
  return jsonAnswer(body, { status, headers });
}

/** The issues that a problem has, or comes to, by fields of the body. */
function issuesOf(problem: Problem): Issue[] {
  const { code, error, row, command } = problem;
  const place = command === undefined ? "" : `commands[${command}]`;
  const within = (field: string): string => [place, field].filter((part) => part !== "").join(".");
  if ("issues" in problem) return problem.issues.map((issue) => ({ ...issue, field: within(issue.field) }));
  const field = within(row === undefined ? "" : `tasks[${row}]`);
  return field === "" ? [] : [{ field, rule: code.toLowerCase(), message: error }];
}

function problemHeaders(problem: Problem): Record<string, string> {
  if (problem.code === "METHOD_NOT_ALLOWED") return { allow: problem.allow.join(", ") };
  if (problem.code === "OVERLOADED") {
    return { "retry-after": String(Math.ceil(problem.retry_after_ms / 1000)) };
  }
  // An answer 401 has to name a way (RFC 9110, section 15.5.2), and this is none that a browser would ask a person for.
  if (problem.code === "SIGNATURE_INVALID") return { "www-authenticate": "Signature" };
  if (problem.code === "AUTH_REQUIRED") return { "www-authenticate": "Bearer" };
  return {};
}
