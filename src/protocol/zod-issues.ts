import type * as z from "zod";
import type { Issue } from "./issue.ts";

/** A zod error as issues: each names its field as a path (`tasks[3].priority`), the rule and, if it has one, the limit. */
export function issuesOf(error: z.ZodError, prefix = ""): Issue[] {
  return error.issues.flatMap((issue): Issue[] => {
    const field = fieldName(prefix, issue.path);
    if (issue.code === "unrecognized_keys") {
      return issue.keys.map((key) => ({
        field: fieldName(field, [key]),
        rule: "unknown_field",
        message: "is not a field of this request",
      }));
    }
    const limit = limitOf(issue);
    return [{ field, rule: ruleOf(issue), message: issue.message, ...(limit !== null && { limit }) }];
  });
}

function ruleOf(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_type") return issue.expected;
  if (issue.code === "invalid_value") return "one_of";
  if (issue.code === "custom" && typeof issue.params?.rule === "string") return issue.params.rule;
  return issue.code;
}

function limitOf(issue: z.core.$ZodIssue): number | null {
  if (issue.code === "too_big") return Number(issue.maximum);
  if (issue.code === "too_small") return Number(issue.minimum);
  return issue.code === "custom" && typeof issue.params?.limit === "number" ? issue.params.limit : null;
}

function fieldName(prefix: string, path: PropertyKey[]): string {
  return path.reduce<string>((name, part) => {
    if (typeof part === "number") return `${name}[${part}]`;
    return name === "" ? String(part) : `${name}.${String(part)}`;
  }, prefix);
}
