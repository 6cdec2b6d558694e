import { MAX_OUTPUT_BYTES } from "../../protocol/limits.ts";
import type { MappingPath } from "../../protocol/mapping-path.ts";
import { MappingCutOff, type Meter } from "./meter.ts";
import type { MappingInput } from "./sample.ts";

/** What paths can name: a delivery and, in a task with `for_each`, one element. */
export interface Scope {
  input: MappingInput;
  item?: { value: unknown; index: number };
}

/** Levels of JSON that a value which is filled in may have. */
const MAX_VALUE_DEPTH = 32;

/**
 * What lies at a path; undefined where nothing does. Own members only: no path reaches what JSON did not bring along, and
 * texts have no members.
 */
export function lookUp({ root, segments }: MappingPath, scope: Scope, meter: Meter): unknown {
  let value = rootValue(root, scope);
  for (const segment of segments) {
    meter.step();
    if (typeof value !== "object" || value === null) return undefined;
    if (Array.isArray(value) !== (typeof segment === "number")) return undefined;
    if (!Object.hasOwn(value, segment)) return undefined;
    value = (value as Record<string | number, unknown>)[segment];
  }
  return value;
}

function rootValue(root: MappingPath["root"], { input, item }: Scope): unknown {
  switch (root) {
    case "$body":
      return input.body;
    case "$event":
      return input.event ?? undefined;
    case "$headers":
      return input.headers;
    case "$hook_id":
      return input.hook_id;
    case "$delivery_id":
      return input.delivery_id;
    case "$received_at_ms":
      return input.received_at_ms;
    case "$item":
      return item?.value;
    case "$index":
      return item?.index;
  }
}

/** A copy of a JSON value that is no larger than one output may be. @throws MappingCutOff */
export function boundedCopy(value: unknown, meter: Meter): unknown {
  let units = 0;
  const copy = (part: unknown, depth: number): unknown => {
    meter.step();
    if (depth > MAX_VALUE_DEPTH) throw new MappingCutOff("value_depth", MAX_VALUE_DEPTH);
    if (typeof part === "string") units += part.length;
    if (units > MAX_OUTPUT_BYTES) throw new MappingCutOff("output_bytes", MAX_OUTPUT_BYTES);
    if (typeof part === "string") return part.toWellFormed();
    if (typeof part !== "object" || part === null) return part ?? null;
    if (Array.isArray(part)) {
      // Each element is at least one character of JSON.
      units += part.length;
      if (units > MAX_OUTPUT_BYTES) throw new MappingCutOff("output_bytes", MAX_OUTPUT_BYTES);
      return part.map((element) => copy(element, depth + 1));
    }
    // fromEntries defines own members, `__proto__` included.
    return Object.fromEntries(
      membersOf(part).map(([key, member]) => {
        units += key.length;
        return [key.toWellFormed(), copy(member, depth + 1)];
      }),
    );
  };
  return copy(value, 0);
}

/** The members of an object. @throws MappingCutOff when there are more than an output can hold */
function membersOf(object: object): [string, unknown][] {
  const entries = Object.entries(object);
  if (entries.length > MAX_OUTPUT_BYTES) throw new MappingCutOff("output_bytes", MAX_OUTPUT_BYTES);
  return entries;
}

/**
 * The JSON of a value: whole, or its beginning where it is longer than an output may be, for `truncate` to cut. What is too
 * long is never written out.
 */
export function jsonUpTo(value: unknown, meter: Meter): string {
  let text = "";
  const isFull = () => text.length > MAX_OUTPUT_BYTES;
  const write = (part: unknown, depth: number): void => {
    meter.step();
    if (isFull()) return;
    if (depth > MAX_VALUE_DEPTH) throw new MappingCutOff("value_depth", MAX_VALUE_DEPTH);
    if (typeof part === "string") {
      const start = part.slice(0, MAX_OUTPUT_BYTES + 1);
      meter.step(start.length >> 5);
      text += JSON.stringify(start);
    } else if (typeof part !== "object" || part === null) {
      text += JSON.stringify(part) ?? "null";
    } else if (Array.isArray(part)) {
      text += "[";
      for (let index = 0; index < part.length && !isFull(); index++) {
        if (index > 0) text += ",";
        write(part[index], depth + 1);
      }
      text += "]";
    } else {
      text += "{";
      let isFirst = true;
      // All of them are gathered, however few are written.
      const keys = Object.keys(part);
      meter.step(keys.length >> 4);
      for (const key of keys) {
        if (isFull()) break;
        text += `${isFirst ? "" : ","}${JSON.stringify(key.slice(0, MAX_OUTPUT_BYTES + 1))}:`;
        isFirst = false;
        write((part as Record<string, unknown>)[key], depth + 1);
      }
      text += "}";
    }
  };
  write(value, 0);
  return text;
}
