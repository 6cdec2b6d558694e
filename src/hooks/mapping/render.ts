import { cut } from "../../protocol/cut.ts";
import { MAX_OUTPUT_BYTES } from "../../protocol/limits.ts";
import {
  hasOutputs,
  type MappingFilter,
  type MappingOutput,
  type MappingTemplate,
  parseTemplate,
} from "../../protocol/mapping-template.ts";
import { boundedCopy, jsonUpTo, lookUp, type Scope } from "./lookup.ts";
import type { Meter } from "./meter.ts";

/** What a template came to. */
export interface Rendered {
  text: string;
  /** Outputs that tell nothing apart, and would make one name of several. */
  vague: { path: string; rule: "missing" | "unsafe_integer" }[];
}

/** How an output stands in a text that reads as an instruction. */
const MARKS = { open: "⟪", close: "⟫" } as const;

/**
 * Fills in a template as a text.
 * @param options.marked whether outputs are put between marks, on one line: a reader then sees where the sender's words begin
 *   and end. Numbers and truth values are left bare, they say nothing.
 */
export function renderText(
  text: string,
  scope: Scope,
  meter: Meter,
  options: { marked: boolean } = { marked: false },
): Rendered {
  const vague: Rendered["vague"] = [];
  let rendered = "";
  meter.step(text.length >> 4);
  for (const part of compiled(text)) {
    meter.step();
    if (typeof part === "string") {
      rendered += part;
      continue;
    }
    const value = outputOf(part, scope, meter);
    const rule = vagueness(value, part);
    if (rule !== null) vague.push({ path: nameOf(part), rule });
    const filled = asText(value, meter);
    meter.output(filled);
    rendered +=
      options.marked && typeof value !== "number" && typeof value !== "boolean" ? mark(filled) : filled;
  }
  // Half a surrogate pair is no text; the doors refuse it.
  return { text: rendered.toWellFormed(), vague };
}

/** Why an output names nothing; null when it does. Who writes `default("")` means it. */
function vagueness(value: unknown, { filters }: MappingOutput): "missing" | "unsafe_integer" | null {
  const mayBeEmpty = filters.some((filter) => filter.name === "default" && filter.value === "");
  if (isNothing(value) && !(value === "" && mayBeEmpty)) return "missing";
  // Different numbers beyond this read alike (RFC 8259 §6).
  return typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER ? "unsafe_integer" : null;
}

/**
 * Fills in JSON whose texts are templates. A text that is one output and nothing else becomes the value itself, null where
 * there is none; every other one a text.
 * @param untrusted takes the places of what was filled in, as paths behind `name`.
 */
export function renderJson(
  value: unknown,
  scope: Scope,
  meter: Meter,
  untrusted: string[],
  name: string,
): unknown {
  meter.step();
  if (typeof value === "string") {
    if (!hasOutputs(value)) return value;
    untrusted.push(name);
    const [only, ...others] = compiled(value);
    if (typeof only !== "object" || others.length > 0) return renderText(value, scope, meter).text;
    const found = outputOf(only, scope, meter);
    const filled = boundedCopy(found, meter);
    meter.output(JSON.stringify(filled));
    return filled;
  }
  if (typeof value !== "object" || value === null) return value;
  if (Array.isArray(value)) {
    return value.map((element, index) => renderJson(element, scope, meter, untrusted, `${name}[${index}]`));
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [
      key,
      renderJson(member, scope, meter, untrusted, `${name}.${key}`),
    ]),
  );
}

/** What an output comes to: undefined where its path names nothing and no default stands in. */
function outputOf({ path, filters }: MappingOutput, scope: Scope, meter: Meter): unknown {
  let value = lookUp(path, scope, meter);
  for (const filter of filters) {
    meter.step();
    if (filter.name !== "default") value = filtered(filter, value, meter);
    else if (isNothing(value)) {
      value = typeof filter.value === "object" ? lookUp(filter.value, scope, meter) : filter.value;
    }
  }
  return value;
}

/** What `default` stands in for. */
function isNothing(value: unknown): boolean {
  return value === undefined || value === null || value === "";
}

function filtered(
  filter: Exclude<MappingFilter, { name: "default" }>,
  value: unknown,
  meter: Meter,
): string | undefined {
  if (value === undefined) return undefined;
  switch (filter.name) {
    case "truncate":
      return cut(asText(value, meter), filter.length);
    case "lower":
      return bounded(asText(value, meter), meter, 5).toLowerCase();
    case "upper":
      return bounded(asText(value, meter), meter, 5).toUpperCase();
    case "slug":
      // A character may be taken apart into 18.
      return slug(bounded(asText(value, meter), meter, 1));
    case "json":
      return jsonUpTo(value, meter);
  }
}

function asText(value: unknown, meter: Meter): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  return typeof value === "object" ? jsonUpTo(value, meter) : String(value);
}

/**
 * The beginning of a text that is too long to be an output anyway, so that no filter works on more. Each 2^`shift` characters
 * of it count as a step.
 */
function bounded(text: string, meter: Meter, shift: number): string {
  const start = text.slice(0, MAX_OUTPUT_BYTES + 1);
  meter.step(start.length >> shift);
  return start;
}

/** Letters and digits of ASCII, in lower case, with one hyphen for whatever lies between; an id can hold it. */
function slug(text: string): string {
  return text
    .normalize("NFKD")
    .toLowerCase()
    .replace(/\p{M}+/gu, "")
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-|-$/g, "")
    .slice(0, MAX_SLUG_LENGTH)
    .replace(/-$/, "");
}

const MAX_SLUG_LENGTH = 80;

/** An output between marks, on one line, without marks of its own and without characters that turn the order of others. */
function mark(text: string): string {
  const inside = text
    .replace(/[⟪⟫\u202A-\u202E\u2066-\u2069]/g, "")
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, " ")
    .trim();
  return `${MARKS.open}${inside}${MARKS.close}`;
}

function compiled(text: string): MappingTemplate {
  const read = parseTemplate(text);
  if (!read.ok) throw new Error(`a mapping with a template whose ${read.message}`);
  return read.template;
}

function nameOf({ path: { root, segments } }: MappingOutput): string {
  const names = segments.map((segment) => (typeof segment === "number" ? `[${segment}]` : `.${segment}`));
  return root === "$body" ? names.join("").replace(/^\./, "") : `${root}${names.join("")}`;
}
