import { CODES, isCode } from "../../src/protocol/codes.ts";
import type { Path } from "./values.ts";

/** What came back, as far as it is looked at. */
export interface Answered {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Null where the content is no text: an artifact, a stream that was left. */
  readonly text: string | null;
  /** What was written while it was made, by what it is; empty when nothing was. */
  readonly written: Readonly<Record<string, number>>;
}

/** What was asked, as far as the answer is judged by it. */
export interface Asked {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  /** Where the one fault of the body is, if it has one. */
  readonly faultAt: Path | null;
}

export interface Violation {
  /** The rule that is broken, one of `RULES`. */
  readonly rule: Rule;
  readonly detail: string;
}

export const RULES = {
  server_error: "no answer says 5xx",
  hang: "every request is answered in time",
  shape: "refusals have the documented shape",
  field: "a refusal of a body names the field that is wrong",
  long: "no refusal grows with its request",
  changed: "a refused request has changed nothing",
  background: "nothing changes by itself but what time brings, and nothing fails unseen",
  memory: "the server's memory stays within its bound",
  replay: "every run replays without drift, its log is whole, and it takes a command",
} as const;

export type Rule = keyof typeof RULES;

/** A refusal tells 50 issues at most, and cuts what it shows of a request. */
export const MAX_REFUSAL_LENGTH = 64 * 1024;

/** What the runtime itself answers to what is no HTTP, or no method it knows; such answers have no `x-request-id`. */
const OF_THE_RUNTIME: ReadonlySet<number> = new Set([400, 408, 413, 414, 426, 431, 501, 505]);

/** All that is wrong with an answer. */
export function violationsOf(asked: Asked, answered: Answered): Violation[] {
  const { status, headers } = answered;
  if (headers["x-request-id"] === undefined) {
    if (OF_THE_RUNTIME.has(status) || status === 101) return [];
    return [{ rule: status >= 500 ? "server_error" : "shape", detail: `${status} without x-request-id` }];
  }
  const violations: Violation[] = [];
  if (status >= 500) {
    violations.push({ rule: "server_error", detail: `${status} ${(answered.text ?? "").slice(0, 500)}` });
  }
  const refusal = refusalIn(asked, answered);
  if (refusal === null) return violations;
  violations.push(...shapeFaults(asked, answered, refusal));
  const changes = changesOf(refusal.code, answered.written);
  if (changes.length > 0)
    violations.push({ rule: "changed", detail: `${refusal.code} ${changes.join(", ")}` });
  return violations;
}

interface Refusal {
  readonly code: string;
  /** Null where the answer has no body, as to HEAD, or one that is no object. */
  readonly members: Readonly<Record<string, unknown>> | null;
  readonly isSoft: boolean;
}

/** The refusal that an answer is, or null: a status of 400 and above, or the soft kind that the contract has on `/context`. */
function refusalIn({ path }: Asked, { status, text }: Answered): Refusal | null {
  if (status >= 400) {
    const members = objectOf(text);
    return { code: String(members?.code ?? ""), members, isSoft: false };
  }
  if (!isNative(path) && status === 200 && text?.startsWith('{"ok":false') === true) {
    const members = objectOf(text);
    // Where an agent is, is answered (contract 02 §4.3): it changes the run, and is no refusal.
    if (members?.mismatch === true) return null;
    return { code: String(members?.code ?? ""), members, isSoft: true };
  }
  return null;
}

function objectOf(text: string | null): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text ?? "");
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function isNative(path: string): boolean {
  return /^\/(v1|hooks)([/?]|$)/.test(path);
}

function shapeFaults(asked: Asked, answered: Answered, { code, members, isSoft }: Refusal): Violation[] {
  const wrong = (detail: string): Violation => ({
    rule: "shape",
    detail: `${detail}: ${answered.text?.slice(0, 300)}`,
  });
  const { status, headers, text } = answered;
  if (asked.method === "HEAD") return text === "" || text === null ? [] : [wrong("HEAD has a body")];
  // That there is no such code is told by a page for people.
  if (/^\/problems\//.test(asked.path) && members === null) return [];
  if (members === null) return [wrong("no JSON object")];
  const violations: Violation[] = [];
  if ((text?.length ?? 0) > MAX_REFUSAL_LENGTH) {
    violations.push({ rule: "long", detail: `${code}: ${text?.length} characters` });
  }
  if (!isCode(code)) return [...violations, wrong("unknown code")];
  if (typeof members.error !== "string" || members.error === "") violations.push(wrong("no error"));
  // Of a patch that does not fit, the contract has a status of its own (http/problem.ts).
  const wanted = !isNative(asked.path) && code === "PATCH_PAYLOAD_INVALID" ? 400 : CODES[code].status;
  if (!isSoft && status !== wanted) violations.push(wrong(`status ${status} for ${code}`));
  if (isNative(asked.path)) {
    const { type, title, status: told, detail, instance, hint, retryable, request_id } = members;
    if (!/^application\/problem\+json/.test(headers["content-type"] ?? ""))
      violations.push(wrong("content type"));
    if (![type, title, detail, instance, hint, request_id].every((member) => typeof member === "string")) {
      violations.push(wrong("a member is missing"));
    }
    if (told !== status || typeof retryable !== "boolean") violations.push(wrong("status or retryable"));
    if (request_id !== headers["x-request-id"]) violations.push(wrong("request_id"));
  }
  if (status === 401 && headers["www-authenticate"] === undefined)
    violations.push(wrong("no WWW-Authenticate"));
  if (status === 405 && headers.allow === undefined) violations.push(wrong("no Allow"));
  return [...violations, ...issueFaults(asked, code, members, wrong)];
}

const WITH_ISSUES: ReadonlySet<string> = new Set([
  "BODY_INVALID",
  "QUERY_INVALID",
  "ID_INVALID",
  "HEADER_INVALID",
  "FIELD_INVALID",
]);

/** Rules of JSON itself: they come before those of the body, and one that is broken is told alone. */
const OF_JSON: ReadonlySet<string> = new Set([
  "unique_names",
  "safe_integer",
  "finite_number",
  "well_formed_text",
  "max_depth",
]);

function issueFaults(
  { faultAt }: Asked,
  code: string,
  { issues }: Readonly<Record<string, unknown>>,
  wrong: (detail: string) => Violation,
): Violation[] {
  if (!WITH_ISSUES.has(code) && issues === undefined) return [];
  if (!Array.isArray(issues) || issues.length === 0) return [wrong("no issues")];
  const fields: string[] = [];
  let isAboutJson = false;
  for (const issue of issues as Record<string, unknown>[]) {
    const { field, rule, message } = issue;
    if (
      typeof field !== "string" ||
      typeof rule !== "string" ||
      !/^[a-z][a-z0-9_]*$/.test(rule) ||
      typeof message !== "string" ||
      message === ""
    ) {
      return [wrong("an issue is not of its shape")];
    }
    fields.push(field);
    isAboutJson ||= OF_JSON.has(rule);
  }
  if (code !== "BODY_INVALID" || faultAt === null || isAboutJson) return [];
  const told = fields.some((field) => isAbout(field, faultAt));
  return told
    ? []
    : [
        {
          rule: "field",
          detail: `${nameOf(faultAt).slice(0, 200)} is wrong, told are ${fields.slice(0, 5).join(", ")}`,
        },
      ];
}

/** Whether a field is the one at the path, or lies around it or within it. */
function isAbout(field: string, path: Path): boolean {
  const name = nameOf(path);
  // A long one is cut.
  if (field.endsWith("…")) return name.startsWith(field.slice(0, -1));
  const isWithin = (inner: string, outer: string) =>
    inner === outer || outer === "" || inner.startsWith(`${outer}.`) || inner.startsWith(`${outer}[`);
  return isWithin(field, name) || isWithin(name, field);
}

function nameOf(path: Path): string {
  return path.reduce<string>((name, part) => {
    if (typeof part === "number") return `${name}[${part}]`;
    return name === "" ? part : `${name}.${part}`;
  }, "");
}

// --- what a refused request may write -------------------------------------------------------------------------------------

/** Events that time brings. The engine makes up for them before a command, also before one that it then refuses. */
const BROUGHT_BY_TIME =
  /^run commits context\.(task\.(stale_requeued|heartbeat|failed|requeued|skipped)|lock\.released expired)|^run commits context\.task\.\w+ (start_deadline|run_time_limit|silence_limit|total_deadline|cancelled|revoked|dependency_failed)$/;

/**
 * What goes on by itself, behind whatever is asked: objects that follow others, the bookkeeping of what was committed before, and
 * the way of old commits to R2.
 */
const BACKGROUND = /^(run>|feed|subscription)|^run (run|head_parts|segments|sealing|sealed_commands)$/;

/** Tables that hold what the log says in another form: they change with a commit, and are judged by it. */
const WITH_COMMITS = /^run (tasks|task_edges|notes|artifacts|effects|files|file_versions)$/;

/** Content on its way to where it stays. */
const PUT_ASIDE = /^(bucket (put|delete)|directory loose_objects)$/;

/** A part streams to where it stays, in the place of the one before: only then its digest is known (docs/artifacts.md). */
const PART = /^(directory upload_parts|bucket uploadPart)$/;

/** An upload whose whole has another digest than its sender says is given up: the content is to be sent again (docs/artifacts.md). */
const ENDED_UPLOAD = /^(directory uploads|bucket (complete|abort))$/;

/** Refusals that leave something, as the documents say: what each writes. */
const RECORDED: Readonly<Record<string, RegExp>> = {
  // The run is paused, and its event says where the agent was (docs/http-api.md).
  WORKSPACE_MISMATCH: /^run commits workspace_mismatch/,
  // The attempt is in the rollback history (docs/audit.md).
  ROLLBACK_BLOCKED: /^run commits rollback_execution_blocked/,
  // The hook counts what it refused and shows the last reason (docs/webhooks-in.md).
  SIGNATURE_INVALID: /^directory hooks$/,
  DIGEST_MISMATCH: new RegExp(`${PART.source}|${ENDED_UPLOAD.source}`),
  UPLOAD_TRUNCATED: PART,
};

/** What was written for a refused request that nothing explains. */
export function changesOf(code: string, written: Readonly<Record<string, number>>): string[] {
  const recorded = RECORDED[code];
  // Content that was put aside to be looked at, and thrown away again; the note that it might be left behind goes with it.
  const isThrownAway = (written["bucket put"] ?? 0) <= (written["bucket delete"] ?? 0);
  const left = Object.keys(written).filter(
    (what) =>
      !BACKGROUND.test(what) && recorded?.test(what) !== true && !(isThrownAway && PUT_ASIDE.test(what)),
  );
  const hasCommits = Object.keys(written).some((what) => what.startsWith("run commits"));
  const unexplained = left.filter((what) => what.startsWith("run commits") && !BROUGHT_BY_TIME.test(what));
  if (unexplained.length > 0 || !hasCommits) return left;
  return left.filter((what) => !WITH_COMMITS.test(what) && !BROUGHT_BY_TIME.test(what));
}

/**
 * What a run's object has committed while nothing was asked of it that nothing explains. Runs of deliveries are worked on behind
 * the answer to the delivery; their ids begin with `hook-`.
 *
 * @param object its name: tenant, then run
 */
export function unaskedCommits(object: string, written: Readonly<Record<string, number>>): string[] {
  if (/\/hook-[^/]*$/.test(object)) return [];
  return Object.keys(written).filter((what) => what.startsWith("run commits") && !BROUGHT_BY_TIME.test(what));
}
