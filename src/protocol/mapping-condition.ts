import { parseMappingPath } from "./mapping-path.ts";

export type Scalar = string | number | boolean | null;

/**
 * Which deliveries a mapping takes. `event` and `matches` are globs: `*` stands for any characters, `?` for one. A value that
 * is not there equals nothing and matches nothing.
 */
export type MappingCondition =
  | { event: string | string[] }
  | { path: string; eq: Scalar }
  | { path: string; in: Scalar[] }
  | { path: string; matches: string }
  | { path: string; exists: boolean }
  | { and: MappingCondition[] }
  | { or: MappingCondition[] }
  | { not: MappingCondition };

/** One thing wrong with a condition, at a place in it. */
export interface ConditionIssue {
  path: (string | number)[];
  rule: string;
  message: string;
  limit?: number;
}

/** Levels, and nodes, of one condition: each is looked at for every delivery. */
export const MAX_CONDITION_DEPTH = 8;
export const MAX_CONDITION_NODES = 64;
/** Values of one `in`, and globs of one `event`. */
const MAX_CHOICES = 100;
/** Of a glob, in UTF-16 units. */
const MAX_GLOB_LENGTH = 200;

const OPERATORS = ["eq", "in", "matches", "exists", "event", "and", "or", "not"] as const;

/** What is wrong with a value as a condition; nothing when it is one. */
export function issuesOfCondition(condition: unknown): ConditionIssue[] {
  const issues: ConditionIssue[] = [];
  let nodes = 0;
  const visit = (value: unknown, path: (string | number)[], depth: number): void => {
    nodes += 1;
    if (nodes > MAX_CONDITION_NODES || issues.length > MAX_CONDITION_NODES) return;
    if (depth > MAX_CONDITION_DEPTH) {
      const message = `is nested deeper than ${MAX_CONDITION_DEPTH} levels`;
      issues.push({ path, rule: "max_depth", message, limit: MAX_CONDITION_DEPTH });
      return;
    }
    const found = issueOfNode(value);
    if (found !== null) {
      issues.push({ ...found, path: [...path, ...found.path] });
      return;
    }
    const node = value as { and?: unknown[]; or?: unknown[]; not?: unknown };
    if (node.not !== undefined) visit(node.not, [...path, "not"], depth + 1);
    for (const word of ["and", "or"] as const) {
      for (const [index, part] of (node[word] ?? []).entries())
        visit(part, [...path, word, index], depth + 1);
    }
  };
  visit(condition, [], 1);
  if (nodes > MAX_CONDITION_NODES) {
    const message = `must have at most ${MAX_CONDITION_NODES} conditions`;
    issues.push({ path: [], rule: "max_nodes", message, limit: MAX_CONDITION_NODES });
  }
  return issues;
}

/** What is wrong with one node, its parts aside. */
function issueOfNode(value: unknown): ConditionIssue | null {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return issue([], "object", "must be an object with one condition");
  }
  const node = value as Record<string, unknown>;
  const keys = Object.keys(node);
  const operators = OPERATORS.filter((operator) => Object.hasOwn(node, operator));
  const [operator] = operators;
  if (operator === undefined || operators.length > 1) {
    return issue([], "one_operator", `must have exactly one of ${OPERATORS.join(", ")}`);
  }
  const needsPath = ["eq", "in", "matches", "exists"].includes(operator);
  const stray = keys.find((key) => key !== operator && !(needsPath && key === "path"));
  if (stray !== undefined) return issue([stray], "unknown_field", `does not go with ${operator}`);
  if (needsPath) {
    if (typeof node.path !== "string") return issue(["path"], "required", "must be a path");
    const read = parseMappingPath(node.path);
    if (!read.ok) return issue(["path"], "path", read.message);
    if (read.path.root === "$item" || read.path.root === "$index") {
      return issue(["path"], "path", "takes no $item or $index");
    }
  }
  return issueOfOperand(operator, node[operator]);
}

function issueOfOperand(operator: (typeof OPERATORS)[number], operand: unknown): ConditionIssue | null {
  switch (operator) {
    case "eq":
      return isScalar(operand)
        ? null
        : issue(["eq"], "scalar", "must be a text, a number, true, false or null");
    case "in":
      return isList(operand, isScalar)
        ? null
        : issue(
            ["in"],
            "scalars",
            `must be 1 to ${MAX_CHOICES} texts, numbers, true, false or null`,
            MAX_CHOICES,
          );
    case "matches":
      return isGlob(operand) ? null : issue(["matches"], "glob", GLOB_MESSAGE, MAX_GLOB_LENGTH);
    case "event":
      return isGlob(operand) || isList(operand, isGlob)
        ? null
        : issue(["event"], "glob", GLOB_MESSAGE, MAX_GLOB_LENGTH);
    case "exists":
      return typeof operand === "boolean" ? null : issue(["exists"], "boolean", "must be true or false");
    case "and":
    case "or":
      return Array.isArray(operand) && operand.length > 0
        ? null
        : issue([operator], "non_empty", "must be a list of at least one condition");
    case "not":
      return operand === undefined ? issue(["not"], "required", "must be a condition") : null;
  }
}

const GLOB_MESSAGE = `must be a text of 1 to ${MAX_GLOB_LENGTH} characters, with * and ? for any`;

function isGlob(value: unknown): boolean {
  return typeof value === "string" && value !== "" && value.length <= MAX_GLOB_LENGTH;
}

function isScalar(value: unknown): value is Scalar {
  return value === null || ["string", "number", "boolean"].includes(typeof value);
}

function isList(value: unknown, isElement: (element: unknown) => boolean): boolean {
  return Array.isArray(value) && value.length > 0 && value.length <= MAX_CHOICES && value.every(isElement);
}

function issue(path: (string | number)[], rule: string, message: string, limit?: number): ConditionIssue {
  return { path, rule, message, ...(limit !== undefined && { limit }) };
}
