/** The greatest number of containers (objects and arrays) that may be open at once. */
export const MAX_JSON_DEPTH = 64;

/** Names, literals and paths in a problem are cut to this many UTF-16 units, so that no answer grows with its request. */
const MAX_SHOWN = 200;

/**
 * Why a text is not I-JSON (RFC 7493).
 *
 * - `syntax`: not JSON at all (RFC 8259), or empty, or followed by something else.
 * - `duplicate_name`: an object has two members of one name, however they are escaped; `path` is the second one's.
 * - `unsafe_integer`: an integer literal (no fraction, no exponent) outside ±(2^53 - 1).
 * - `number_out_of_range`: another literal that no finite double stands for (`1e400`).
 * - `lone_surrogate`: half of a surrogate pair in a string or a member name, escaped or raw.
 * - `too_deep`: more than `limit` containers inside each other.
 *
 * `path` reads like `tasks[3].payload.a`; names that would be unclear there are quoted (`payload["a.b"]`), and the
 * document itself is the empty string. `path`, `name` and `literal` end in `…` where they were cut.
 */
export type IJsonProblem =
  | { kind: "syntax"; message: string }
  | { kind: "duplicate_name"; path: string; name: string }
  | { kind: "unsafe_integer"; path: string; literal: string }
  | { kind: "number_out_of_range"; path: string; literal: string }
  | { kind: "lone_surrogate"; path: string }
  | { kind: "too_deep"; limit: number };

/** The value of an I-JSON text, as `JSON.parse` makes it, or the first problem found. */
export type IJsonResult = { ok: true; value: unknown } | { ok: false; problem: IJsonProblem };

/**
 * Reads a JSON text (RFC 8259) that is I-JSON (RFC 7493) and nested at most {@link MAX_JSON_DEPTH} deep.
 *
 * `text` is one whole document; whitespace may stand around it. Never throws. The time is linear in the length,
 * the stack is constant, and nothing is built for a text that is too deep. Problems are looked for in this order:
 * empty, too deep, syntax, and then the others as they stand in the text. A text that is both too deep and wrong
 * further on is reported as too deep.
 *
 * A member named `__proto__` is an ordinary own property of the value; spreading (`{ ...value }`) keeps it one.
 * Only an assignment (`target[name] = …`, `Object.assign`) would set a prototype: copy members by spreading.
 */
export function parseIJson(text: string): IJsonResult {
  if (isBlank(text)) return { ok: false, problem: { kind: "syntax", message: "empty body" } };
  if (isTooDeep(text)) return { ok: false, problem: { kind: "too_deep", limit: MAX_JSON_DEPTH } };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const message = error instanceof Error ? error.message : "not JSON";
    return { ok: false, problem: { kind: "syntax", message: message.toWellFormed() } };
  }
  const problem = findProblem(text);
  return problem === null ? { ok: true, value } : { ok: false, problem };
}

const TAB = 0x09;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const UPPER_E = 0x45;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const LOWER_E = 0x65;
const LOWER_U = 0x75;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const FIRST_SURROGATE = 0xd800;
const FIRST_LOW_SURROGATE = 0xdc00;
const LAST_SURROGATE = 0xdfff;

/** Integer literals no longer than this are always safe, and fractions without an exponent always finite. */
const SAFE_DIGITS = 15;
const FINITE_DIGITS = 308;

function isBlank(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c !== SPACE && c !== LINE_FEED && c !== CARRIAGE_RETURN && c !== TAB) return false;
  }
  return true;
}

/** Whether more than MAX_JSON_DEPTH containers are open somewhere before the first syntax error of any text. */
function isTooDeep(text: string): boolean {
  if (!hasManyOpenings(text)) return false;
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      i = closingQuote(text, i);
      if (i === -1) return false;
    } else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      if (++depth > MAX_JSON_DEPTH) return true;
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) {
      depth--;
    }
  }
  return false;
}

/** Where the string that opens at `start` closes, or -1. */
function closingQuote(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return end;
  }
  return -1;
}

/** Whether the text has enough opening brackets, strings included, to be too deep at all. Most bodies have not. */
function hasManyOpenings(text: string): boolean {
  let openings = 0;
  for (const opening of ["{", "["]) {
    for (let i = text.indexOf(opening); i !== -1; i = text.indexOf(opening, i + 1)) {
      if (++openings > MAX_JSON_DEPTH) return true;
    }
  }
  return false;
}

/** Objects with more members than this keep their names in a set; below it, comparing them all is quicker. */
const FEW_NAMES = 12;

/** An open container: an array with the index of its current element, or an object with the names so far. */
class Container {
  isObject = false;
  index = 0;
  /** The current member's name. */
  name = "";
  readonly #names: string[] = [];
  #count = 0;
  #set: Set<string> | null = null;

  /** Makes this the record of a container that has just been opened. */
  reset(isObject: boolean): void {
    this.isObject = isObject;
    this.index = 0;
    this.#count = 0;
    this.#set = null;
  }

  /** Makes `name` the current member. False if the object already has one of that name. */
  addName(name: string): boolean {
    this.name = name;
    const names = this.#names;
    const count = this.#count;
    if (this.#set === null) {
      for (let i = 0; i < count; i++) if (names[i] === name) return false;
      if (count < FEW_NAMES) {
        names[count] = name;
        this.#count = count + 1;
        return true;
      }
      this.#set = new Set(names);
    } else if (this.#set.has(name)) return false;
    this.#set.add(name);
    return true;
  }
}

/** The first thing in a valid JSON text of bounded depth that I-JSON forbids, or null. */
function findProblem(text: string): Exclude<IJsonProblem, { kind: "syntax" | "too_deep" }> | null {
  const isWellFormed = text.isWellFormed();
  // Where the next backslash is, so that strings without one need not be read.
  let backslash = indexOrEnd(text, "\\", 0);
  // One record per level, used again for every container on that level.
  const levels: Container[] = [];
  let depth = 0;
  let current: Container | undefined;
  // True where the next string is a member name: after `{`, and after `,` inside an object.
  let nameNext = false;
  let i = 0;
  while (i < text.length) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      const start = i;
      let end = text.indexOf('"', start + 1);
      if (backslash < start) backslash = indexOrEnd(text, "\\", start);
      const isEscaped = backslash < end;
      if (isEscaped) end = closingQuote(text, start);
      i = end + 1;
      const isLone =
        (isEscaped && hasLoneEscape(text, backslash, end)) ||
        (!isWellFormed && !text.slice(start, i).isWellFormed());
      if (nameNext && current !== undefined) {
        nameNext = false;
        const name: string = isEscaped ? JSON.parse(text.slice(start, i)) : text.slice(start + 1, end);
        if (!current.addName(name)) {
          return { kind: "duplicate_name", path: pathOf(levels, depth), name: shown(name) };
        }
      }
      if (isLone) return { kind: "lone_surrogate", path: pathOf(levels, depth) };
      continue;
    }
    if (c === MINUS || (c >= ZERO && c <= NINE)) {
      const start = i;
      let isInteger = true;
      let hasExponent = false;
      for (i++; i < text.length; i++) {
        const inner = text.charCodeAt(i);
        if (inner >= ZERO && inner <= NINE) continue;
        if (inner === DOT) isInteger = false;
        else if (inner === LOWER_E || inner === UPPER_E) {
          isInteger = false;
          hasExponent = true;
          // The exponent's sign, or its first digit.
          i++;
        } else break;
      }
      if (isInteger) {
        if (i - start > SAFE_DIGITS && !Number.isSafeInteger(Number(text.slice(start, i)))) {
          return {
            kind: "unsafe_integer",
            path: pathOf(levels, depth),
            literal: shown(text.slice(start, i)),
          };
        }
      } else if (hasExponent || i - start > FINITE_DIGITS) {
        if (!Number.isFinite(Number(text.slice(start, i)))) {
          const literal = shown(text.slice(start, i));
          return { kind: "number_out_of_range", path: pathOf(levels, depth), literal };
        }
      }
      continue;
    }
    if (c === COMMA) {
      if (current !== undefined) {
        if (current.isObject) nameNext = true;
        else current.index++;
      }
    } else if (c === OPEN_BRACE || c === OPEN_BRACKET) {
      nameNext = c === OPEN_BRACE;
      current = levels[depth];
      if (current === undefined) {
        current = new Container();
        levels.push(current);
      }
      current.reset(nameNext);
      depth++;
    } else if (c === CLOSE_BRACE || c === CLOSE_BRACKET) {
      // An empty object is closed where its first name was due.
      nameNext = false;
      depth--;
      current = depth === 0 ? undefined : levels[depth - 1];
    }
    // Colons, whitespace and the letters of true, false and null need no looking at.
    i++;
  }
  return null;
}

function indexOrEnd(text: string, char: string, from: number): number {
  const index = text.indexOf(char, from);
  return index === -1 ? text.length : index;
}

/** Whether a string has half a surrogate pair among its escapes. `from` is its first backslash, `end` its closing quote. */
function hasLoneEscape(text: string, from: number, end: number): boolean {
  for (let i = from; i < end; i++) {
    if (text.charCodeAt(i) !== BACKSLASH) continue;
    i++;
    if (text.charCodeAt(i) !== LOWER_U) continue;
    const unit = escapedUnit(text, i + 1);
    i += 4;
    if (unit < FIRST_SURROGATE || unit > LAST_SURROGATE) continue;
    if (unit >= FIRST_LOW_SURROGATE || !isEscapedLowSurrogate(text, i + 1)) return true;
    i += 6;
  }
  return false;
}

/** The UTF-16 unit that the four hexadecimal digits at `at` stand for. */
function escapedUnit(text: string, at: number): number {
  return Number.parseInt(text.slice(at, at + 4), 16);
}

function isLowSurrogate(unit: number): boolean {
  return unit >= FIRST_LOW_SURROGATE && unit <= LAST_SURROGATE;
}

function isEscapedLowSurrogate(text: string, at: number): boolean {
  return (
    text.charCodeAt(at) === BACKSLASH &&
    text.charCodeAt(at + 1) === LOWER_U &&
    isLowSurrogate(escapedUnit(text, at + 2))
  );
}

/** The path of the current element or member of the innermost of the `depth` open containers. */
function pathOf(levels: readonly Container[], depth: number): string {
  let path = "";
  for (const { isObject, name, index } of levels.slice(0, depth)) {
    if (!isObject) path += `[${index}]`;
    else if (!PLAIN_NAME.test(name)) path += `[${JSON.stringify(shown(name))}]`;
    else path += path === "" ? name : `.${name}`;
  }
  return shown(path);
}

const PLAIN_NAME = /^[A-Za-z0-9_$-]{1,200}$/;

/** The text cut to MAX_SHOWN units and without lone surrogates, fit for an answer. */
function shown(text: string): string {
  if (text.length <= MAX_SHOWN) return text.toWellFormed();
  // A pair cut in two would leave a replacement character.
  const end = isLowSurrogate(text.charCodeAt(MAX_SHOWN)) ? MAX_SHOWN - 1 : MAX_SHOWN;
  return `${text.slice(0, end).toWellFormed()}…`;
}
