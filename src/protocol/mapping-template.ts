import { type MappingPath, readMappingPath } from "./mapping-path.ts";

/** One filter of an output, in the order of the text. */
export type MappingFilter =
  | { name: "default"; value: string | number | MappingPath }
  /** In UTF-16 units. */
  | { name: "truncate"; length: number }
  | { name: "lower" | "upper" | "slug" | "json" };

/** `{{ path | filter | filter(argument) }}`. */
export interface MappingOutput {
  path: MappingPath;
  filters: readonly MappingFilter[];
}

/** A text with outputs in it: what is literal and what is filled in, in order. */
export type MappingTemplate = readonly (string | MappingOutput)[];

export type TemplateRead = { ok: true; template: MappingTemplate } | { ok: false; message: string };

const MAX_FILTERS = 8;
/** Longest text that `truncate` leaves. */
const MAX_TRUNCATED = 16 * 1024;

const OPEN = "{{";
const CLOSE = "}}";
const BLANK = /\s*/y;
const FILTER = /\|\s*([a-z]+)\s*(\()?\s*/y;
const LITERAL = /"(?:[^"\\\n]|\\["\\])*"|[0-9]{1,9}/y;

/** Whether a text has outputs. A text that opens one and does not close it counts too: it is no literal. */
export function hasOutputs(text: string): boolean {
  return text.includes(OPEN);
}

/** Reads a template. `message` tells what is wrong, and where. */
export function parseTemplate(text: string): TemplateRead {
  const parts: (string | MappingOutput)[] = [];
  let from = 0;
  for (;;) {
    const open = text.indexOf(OPEN, from);
    if (open === -1) break;
    if (open > from) parts.push(text.slice(from, open));
    const read = readOutput(text, open + OPEN.length);
    if (!read.ok) return { ok: false, message: `${read.message} (in {{ at character ${open + 1})` };
    parts.push(read.output);
    from = read.end;
  }
  if (from < text.length) parts.push(text.slice(from));
  return { ok: true, template: parts };
}

type OutputRead = { ok: true; output: MappingOutput; end: number } | { ok: false; message: string };

function readOutput(text: string, start: number): OutputRead {
  const read = readMappingPath(text, skipBlank(text, start));
  if (!read.ok) return { ok: false, message: `the path ${read.message}` };
  const filters: MappingFilter[] = [];
  let end = skipBlank(text, read.end);
  while (text[end] === "|") {
    FILTER.lastIndex = end;
    const match = FILTER.exec(text);
    if (match === null) return { ok: false, message: "has a filter that cannot be read" };
    end += match[0].length;
    let argument: Argument | undefined;
    if (match[2] !== undefined) {
      const given = readArgument(text, end);
      if (!given.ok) return given;
      argument = given.argument;
      end = skipBlank(text, given.end + 1);
    }
    const filter = filterOf(match[1] ?? "", argument);
    if (typeof filter === "string") return { ok: false, message: filter };
    filters.push(filter);
    if (filters.length > MAX_FILTERS) return { ok: false, message: `has more than ${MAX_FILTERS} filters` };
  }
  if (!text.startsWith(CLOSE, end)) return { ok: false, message: "has no }} after its path and filters" };
  return { ok: true, output: { path: read.path, filters }, end: end + CLOSE.length };
}

type Argument = string | number | MappingPath;

/** Reads what stands between parentheses; `end` is that of the closing one. */
function readArgument(
  text: string,
  start: number,
): { ok: true; argument: Argument; end: number } | { ok: false; message: string } {
  LITERAL.lastIndex = start;
  const literal = LITERAL.exec(text)?.[0];
  const read = literal === undefined ? readMappingPath(text, start) : null;
  if (read !== null && !read.ok) return { ok: false, message: `an argument ${read.message}` };
  const argument = read === null ? literalValue(literal ?? "") : read.path;
  const end = skipBlank(text, read === null ? start + (literal ?? "").length : read.end);
  if (text[end] !== ")") return { ok: false, message: "has no ) after an argument" };
  return { ok: true, argument, end };
}

/** The filter of that name, or what is wrong with it. */
function filterOf(name: string, argument: Argument | undefined): MappingFilter | string {
  switch (name) {
    case "default":
      if (argument === undefined) return 'default needs a value, as in default("none")';
      return { name, value: argument };
    case "truncate": {
      const fits = typeof argument === "number" && argument >= 1 && argument <= MAX_TRUNCATED;
      return fits ? { name, length: argument } : `truncate needs a length from 1 to ${MAX_TRUNCATED}`;
    }
    case "lower":
    case "upper":
    case "slug":
    case "json":
      return argument === undefined ? { name } : `${name} takes no argument`;
    default:
      return `there is no filter ${name}, only default, truncate, lower, upper, slug, json`;
  }
}

/** A quoted text, or a number. */
function literalValue(literal: string): string | number {
  return literal.startsWith('"') ? literal.slice(1, -1).replace(/\\(["\\])/g, "$1") : Number(literal);
}

/** Every path that an output reads. */
export function pathsOf({ path, filters }: MappingOutput): MappingPath[] {
  const defaults = filters.flatMap((filter) =>
    filter.name === "default" && typeof filter.value === "object" ? [filter.value] : [],
  );
  return [path, ...defaults];
}

function skipBlank(text: string, index: number): number {
  BLANK.lastIndex = index;
  return index + (BLANK.exec(text)?.[0].length ?? 0);
}
