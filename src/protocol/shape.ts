import { en } from "zod/locales";
import * as z from "zod/mini";
import { cut } from "./cut.ts";
import type { Issue } from "./issue.ts";

/** What an issue says that brings no message of its own: zod/mini knows no language. */
const messageOf = en().localeError;

export type Shaped<T> = { ok: true; value: T } | { ok: false; issues: Issue[] };

/**
 * Reads a value by a schema. What is wrong is told as issues: each names its field as a path (`tasks[3].priority`,
 * behind `prefix`), the rule and, if it has one, the limit. Never throws.
 */
export function readShape<Schema extends z.core.$ZodType>(
  schema: Schema,
  value: unknown,
  prefix = "",
): Shaped<z.output<Schema>> {
  // With their input, issues can tell a missing field from one of the wrong type.
  const read = parse(schema, value, { reportInput: true, error: messageOf });
  if (read === null) {
    return { ok: false, issues: [{ field: prefix, rule: "shape", message: "has too many faults to list" }] };
  }
  return read.success
    ? { ok: true, value: read.data }
    : { ok: false, issues: read.error.issues.flatMap((issue) => issuesOf(issue, prefix)) };
}

/** A value by a schema; null where it does not fit. Never throws. */
export function fitting<Schema extends z.core.$ZodType>(
  schema: Schema,
  value: unknown,
): z.output<Schema> | null {
  const read = parse(schema, value);
  return read?.success ? read.data : null;
}

/** Null for a value with tens of thousands of faults: they are more than the library can collect on its stack. */
function parse<Schema extends z.core.$ZodType>(
  schema: Schema,
  value: unknown,
  options?: z.core.ParseContext<z.core.$ZodIssue>,
) {
  try {
    return z.safeParse(schema, value, options);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return null;
  }
}

function issuesOf(issue: z.core.$ZodIssue, prefix: string): Issue[] {
  const field = fieldName(prefix, issue.path);
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({
      field: fieldName(field, [key]),
      rule: "unknown_field",
      message: "is not a field of this request",
    }));
  }
  return [{ field, rule: ruleOf(issue), message: issue.message, ...bounds(issue) }];
}

function ruleOf(issue: z.core.$ZodIssue): string {
  const isMissing = issue.input === undefined;
  if (issue.code === "invalid_type") return isMissing ? "required" : issue.expected;
  if (issue.code === "invalid_value") return isMissing ? "required" : "one_of";
  if (issue.code === "custom" && typeof issue.params?.rule === "string") return issue.params.rule;
  return issue.code;
}

function bounds(issue: z.core.$ZodIssue): Pick<Issue, "limit" | "actual"> {
  if (issue.code === "too_big") return { limit: Number(issue.maximum) };
  if (issue.code === "too_small") return { limit: Number(issue.minimum) };
  if (issue.code !== "custom") return {};
  const { limit, actual } = issue.params ?? {};
  return { ...(typeof limit === "number" && { limit }), ...(typeof actual === "number" && { actual }) };
}

/** A field's name is cut to this many UTF-16 units: members are called as clients like, and no answer grows with its request. */
const MAX_FIELD_LENGTH = 200;

function fieldName(prefix: string, path: PropertyKey[]): string {
  const field = path.reduce<string>((name, part) => {
    if (typeof part === "number") return `${name}[${part}]`;
    return name === "" ? String(part) : `${name}.${String(part)}`;
  }, prefix);
  return field.length > MAX_FIELD_LENGTH ? `${cut(field, MAX_FIELD_LENGTH)}…` : field;
}
