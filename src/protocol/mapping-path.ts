/** What a path starts from: the body, or one of the roots that begin with a dollar sign. */
export const MAPPING_ROOTS = [
  "$body",
  "$event",
  "$headers",
  "$hook_id",
  "$delivery_id",
  "$received_at_ms",
  "$item",
  "$index",
] as const;
export type MappingRoot = (typeof MAPPING_ROOTS)[number];

/** A place in a delivery: `issue.labels[0].name`, `$headers.x-github-event`, `["a key"].b`. */
export interface MappingPath {
  root: MappingRoot;
  segments: readonly (string | number)[];
}

/** In UTF-16 units, and in segments: no payload that people write mappings for is deeper. */
const MAX_PATH_LENGTH = 500;
const MAX_SEGMENTS = 32;

/** What was read, and where in the text it ends; or what is wrong. */
export type PathRead = { ok: true; path: MappingPath; end: number } | { ok: false; message: string };

const NAME = /\$?[A-Za-z0-9_-]+/y;
const MEMBER = /\.([A-Za-z0-9_-]+)/y;
const ELEMENT = /\[(0|[1-9][0-9]{0,8})\]/y;
const QUOTED = /\["((?:[^"\\\n]|\\["\\])*)"\]/y;

/** Reads the path that begins at `start`. Each pattern is anchored and looks at a character once, so that no text is slow. */
export function readMappingPath(text: string, start = 0): PathRead {
  const window = text.slice(0, start + MAX_PATH_LENGTH);
  const segments: (string | number)[] = [];
  let root: MappingRoot = "$body";
  let end = start;
  const name = matchAt(NAME, window, end);
  if (name !== null) {
    end += name[0].length;
    if (name[0].startsWith("$")) {
      const known = MAPPING_ROOTS.find((candidate) => candidate === name[0]);
      if (known === undefined) return wrong(`knows no ${name[0]}, only ${MAPPING_ROOTS.join(", ")}`);
      root = known;
    } else {
      segments.push(name[0]);
    }
  } else if (matchAt(QUOTED, window, end) === null) {
    return wrong("must begin with a name");
  }
  for (;;) {
    const member = matchAt(MEMBER, window, end) ?? matchAt(QUOTED, window, end);
    const element = member === null ? matchAt(ELEMENT, window, end) : null;
    const found = member ?? element;
    if (found === null) break;
    const [whole, part = ""] = found;
    end += whole.length;
    if (element !== null) segments.push(Number(part));
    else segments.push(whole.startsWith("[") ? part.replace(/\\(["\\])/g, "$1") : part);
    if (segments.length > MAX_SEGMENTS) return wrong(`must have at most ${MAX_SEGMENTS} segments`);
  }
  if (end - start >= MAX_PATH_LENGTH) return wrong(`must have at most ${MAX_PATH_LENGTH} characters`);
  return { ok: true, path: { root, segments }, end };
}

/** Reads a text that is a path and nothing else. */
export function parseMappingPath(text: string): PathRead {
  const read = readMappingPath(text.trim());
  if (!read.ok || read.end === text.trim().length) return read;
  return wrong(`is no path from character ${read.end + 1} on`);
}

function matchAt(pattern: RegExp, text: string, index: number): RegExpExecArray | null {
  pattern.lastIndex = index;
  return pattern.exec(text);
}

function wrong(message: string): PathRead {
  return { ok: false, message };
}
