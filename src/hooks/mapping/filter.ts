import type { MappingCondition } from "../../protocol/mapping-condition.ts";
import { parseMappingPath } from "../../protocol/mapping-path.ts";
import { matchesGlob } from "./glob.ts";
import { lookUp, type Scope } from "./lookup.ts";
import type { Meter } from "./meter.ts";

/** What became of one condition, named by its place (`when.and[1]`). */
export interface ConditionResult {
  condition: string;
  matched: boolean;
}

/**
 * Whether a delivery fulfils a condition, and each part of it: all parts are looked at, so that the answer explains itself.
 * @param results takes the parts, outer before inner.
 */
export function fulfils(
  condition: MappingCondition,
  scope: Scope,
  meter: Meter,
  results: ConditionResult[],
  name = "when",
): boolean {
  meter.step();
  const result = { condition: name, matched: false };
  results.push(result);
  const part = (inner: MappingCondition, at: string) =>
    fulfils(inner, scope, meter, results, `${name}.${at}`);
  if ("not" in condition) {
    result.matched = !part(condition.not, "not");
  } else if ("and" in condition) {
    result.matched = condition.and.map((inner, index) => part(inner, `and[${index}]`)).every(Boolean);
  } else if ("or" in condition) {
    result.matched = condition.or.map((inner, index) => part(inner, `or[${index}]`)).some(Boolean);
  } else if ("event" in condition) {
    const { event } = scope.input;
    result.matched =
      event !== null && [condition.event].flat().some((glob) => matchesGlob(glob, event, meter));
  } else {
    result.matched = holds(condition, valueAt(condition.path, scope, meter), meter);
  }
  return result.matched;
}

type AtPath = Extract<MappingCondition, { path: string }>;

function holds(condition: AtPath, value: unknown, meter: Meter): boolean {
  if ("exists" in condition) return (value !== undefined) === condition.exists;
  if (value === undefined) return false;
  if ("eq" in condition) return value === condition.eq;
  if ("in" in condition) return condition.in.some((choice) => choice === value);
  return typeof value === "string" && matchesGlob(condition.matches, value, meter);
}

function valueAt(path: string, scope: Scope, meter: Meter): unknown {
  const read = parseMappingPath(path);
  if (!read.ok) throw new Error(`a mapping with a path that ${read.message}`);
  return lookUp(read.path, scope, meter);
}
