import type * as z from "zod/mini";
import type { Rng } from "../drill/rng.ts";

/** A schema as it is looked into: zod tells what each was made of. */
export type Schema = z.core.$ZodType;

/** A place in a value: names of members and indexes of elements, from outside in. */
export type Path = readonly (string | number)[];

/** What values are drawn with. */
export interface Source {
  readonly rng: Rng;
  /** A fitting value for a member of that name, such as the id of a task that is there; undefined where there is none to say. */
  hint(name: string): unknown;
  /** How often a member of that name is there though it need not be; undefined where nothing speaks for or against it. */
  share?(name: string): number | undefined;
  /** Some JSON, for members that take any. */
  json(): unknown;
}

/** A value that differs from a fitting one in a single place. */
export interface Faulty {
  readonly value: unknown;
  readonly path: Path;
  /** What is wrong there, for people. */
  readonly what: string;
  /** Whether the schema says that it is wrong; a bound may lie in a function that cannot be looked into, or nowhere. */
  readonly isSure: boolean;
}

/** Members that are mostly left out, because a request with all of them at once contradicts itself. */
const OPTIONAL_SHARE = 0.35;
const DEEP_SHARE = 0.1;
const ABSENT = Symbol("absent");

type Def = Record<string, unknown> & { type: string };
const defOf = (schema: Schema): Def => schema._zod.def as unknown as Def;

/** What is below the wrappers that say what may be absent, and what is made of a value that was read. */
export function unwrapped(schema: Schema): Schema {
  const def = defOf(schema);
  switch (def.type) {
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
    case "catch":
    case "nonoptional":
    case "readonly":
      return unwrapped(def.innerType as Schema);
    case "pipe": {
      const inner = def.in as Schema;
      const out = def.out as Schema;
      // A list whose length is looked at first: its elements are told behind that.
      return defOf(unwrapped(inner)).type === "array" && defOf(out).type === "array" ? out : unwrapped(inner);
    }
    case "lazy":
      return unwrapped((def.getter as () => Schema)());
    default:
      return schema;
  }
}

/** Whether a member of this schema may be left out. */
function mayBeAbsent(schema: Schema): boolean {
  return schema._zod.optin !== undefined;
}

/** Draws a value that fits, as far as its schema can be looked into: what members mean together it does not say. */
export function fittingValue(schema: Schema, source: Source, name = ""): unknown {
  const drawn = draw(schema, source, name, 0);
  return drawn === ABSENT ? undefined : drawn;
}

function draw(schema: Schema, source: Source, name: string, depth: number): unknown {
  const { rng } = source;
  const share = source.share?.(name) ?? (depth > 3 ? DEEP_SHARE : OPTIONAL_SHARE);
  if (mayBeAbsent(schema) && !rng.chance(share)) return ABSENT;
  const bare = unwrapped(schema);
  const def = defOf(bare);
  const hinted = def.type === "object" || def.type === "array" ? undefined : source.hint(name);
  if (hinted !== undefined && fitsType(hinted, def.type)) return hinted;
  switch (def.type) {
    case "string":
      return textWithin(bare, source);
    case "number":
    case "int":
      return numberWithin(bare, rng);
    case "boolean":
      return rng.chance(0.5);
    case "null":
      return null;
    case "enum":
      return pickFrom(rng, Object.values(def.entries as Record<string, unknown>));
    case "literal":
      return pickFrom(rng, def.values as unknown[]);
    case "array": {
      const { least, most } = lengths(bare);
      const count = Math.min(most, Math.max(least, rng.between(0, 3)));
      return Array.from({ length: count }, () => {
        const element = draw(def.element as Schema, source, name.replace(/s$/, ""), depth + 1);
        return element === ABSENT ? null : element;
      });
    }
    case "record":
      return Object.fromEntries(
        Array.from({ length: rng.between(0, 3) }, () => [
          String(source.hint("key") ?? `k${rng.between(0, 9)}`),
          fittingValue(def.valueType as Schema, source, name),
        ]),
      );
    case "object":
      return Object.fromEntries(
        Object.entries(def.shape as Record<string, Schema>)
          .map(([member, type]) => [member, draw(type, source, member, depth + 1)] as const)
          .filter(([, value]) => value !== ABSENT && value !== undefined),
      );
    case "union":
      return draw(pickFrom(rng, def.options as Schema[]), source, name, depth);
    default:
      return source.json();
  }
}

function fitsType(value: unknown, type: string): boolean {
  if (type === "string") return typeof value === "string";
  if (type === "number" || type === "int") return typeof value === "number";
  if (type === "boolean") return typeof value === "boolean";
  // Enumerations and literals say themselves what there is; anything takes everything.
  return type !== "enum" && type !== "literal" && type !== "union" && type !== "record";
}

/** The checks of a schema that can be looked into. Most of Baton's own are functions. */
function checksOf(schema: Schema): Def[] {
  const { checks = [] } = defOf(schema) as { checks?: { _zod: { def: unknown } }[] };
  return checks.map((check) => check._zod.def as Def);
}

function lengths(schema: Schema): { least: number; most: number } {
  let least = 0;
  let most = Number.POSITIVE_INFINITY;
  for (const { check, minimum, maximum } of checksOf(schema)) {
    if (check === "min_length") least = Math.max(least, minimum as number);
    if (check === "max_length") most = Math.min(most, maximum as number);
  }
  return { least, most };
}

function bounds(schema: Schema): { least: number; most: number; isInteger: boolean } {
  let least = Number.NEGATIVE_INFINITY;
  let most = Number.POSITIVE_INFINITY;
  const def = defOf(schema);
  const isInteger = def.format !== undefined;
  for (const { check, value } of checksOf(schema)) {
    if (check === "greater_than") least = Math.max(least, value as number);
    if (check === "less_than") most = Math.min(most, value as number);
  }
  if (isInteger) {
    least = Math.max(least, Number.MIN_SAFE_INTEGER);
    most = Math.min(most, Number.MAX_SAFE_INTEGER);
  }
  return { least, most, isInteger };
}

function numberWithin(schema: Schema, rng: Rng): number {
  const { least, most, isInteger } = bounds(schema);
  const low = Number.isFinite(least) && least > -1e12 ? least : 0;
  // Often the bounds themselves, else something small.
  if (rng.chance(0.1) && Number.isFinite(most)) return most;
  if (rng.chance(0.1)) return low;
  const value = Math.min(most, low + rng.between(0, 20) + (isInteger ? 0 : rng.next()));
  return isInteger ? Math.trunc(value) : value;
}

function textWithin(schema: Schema, { rng }: Source): string {
  const { least, most } = lengths(schema);
  const pattern = checksOf(schema).find(({ check }) => check === "string_format")?.pattern as
    | RegExp
    | undefined;
  const texts = ["a", "b-1", "some text", "/a/b", "x-token", "0".repeat(64), "äöü 🙂", "", "src/**"];
  const fitting = texts
    .map((text) => text.padEnd(least, "x").slice(0, Math.min(most, 100)))
    .filter(
      (text) =>
        pattern === undefined || new RegExp(pattern.source, pattern.flags.replace("g", "")).test(text),
    );
  return fitting.length === 0 ? "a".padEnd(least, "a") : pickFrom(rng, fitting);
}

/** A place in a fitting value where another one can stand. */
interface Site {
  readonly path: Path;
  readonly schema: Schema;
}

function* sites(schema: Schema, value: unknown, path: Path): Generator<Site> {
  // Nothing is wrong below what takes anything in the place of what does not fit.
  if (defOf(schema).type === "catch") return;
  yield { path, schema };
  const def = defOf(unwrapped(schema));
  if (def.type === "array" && Array.isArray(value)) {
    for (const [index, element] of value.entries()) {
      yield* sites(def.element as Schema, element, [...path, index]);
    }
  }
  if (def.type !== "object" || typeof value !== "object" || value === null) return;
  for (const [member, type] of Object.entries(def.shape as Record<string, Schema>)) {
    yield* sites(type, (value as Record<string, unknown>)[member], [...path, member]);
  }
}

/** Draws a value that fits but for one place. Null where the schema takes anything. */
export function faultyValue(schema: Schema, source: Source): Faulty | null {
  const { rng } = source;
  const value = fittingValue(schema, source);
  const all = [...sites(schema, value, [])];
  for (let attempt = 0; attempt < 8; attempt += 1) {
    const site = pickFrom(rng, all);
    const fault = faultAt(site, valueAt(value, site.path), rng);
    if (fault === null) continue;
    return {
      value: replaced(value, site.path, fault.value),
      path: [...site.path, ...(fault.below ?? [])],
      what: fault.what,
      isSure: fault.isSure !== false,
    };
  }
  return null;
}

const LONG_NAME = "n".repeat(100_000);

interface Fault {
  readonly value: unknown;
  readonly what: string;
  readonly isSure?: false;
  /** Where in the place it is, if not the place itself. */
  readonly below?: Path;
}

function faultAt({ schema, path }: Site, value: unknown, rng: Rng): Fault | null {
  const bare = unwrapped(schema);
  const def = defOf(bare);
  const faults: Fault[] = [];
  if (!mayBeAbsent(schema) && path.length > 0) faults.push({ value: undefined, what: "missing" });
  if (def.type === "unknown" || def.type === "any") return faults.length === 0 ? null : pickFrom(rng, faults);
  for (const other of [true, 7, "text", [], {}, [[]], { a: 1 }]) {
    if (!isOfType(other, def))
      faults.push({ value: other, what: `${JSON.stringify(other)} for ${def.type}` });
  }
  if (def.type === "string") {
    const { least, most } = lengths(bare);
    if (least > 0) faults.push({ value: "x".repeat(least - 1), what: "too short" });
    if (Number.isFinite(most)) faults.push({ value: "x".repeat(most + 1), what: "too long" });
    faults.push({ value: "y".repeat(70_000), what: "70,000 characters", isSure: false });
  }
  if (def.type === "number" || def.type === "int") {
    const { least, most, isInteger } = bounds(bare);
    if (isInteger) faults.push({ value: 1.5, what: "a fraction" });
    if (Number.isFinite(least)) faults.push({ value: least - 1, what: "below the least" });
    if (Number.isFinite(most)) faults.push({ value: most + 1, what: "above the most" });
  }
  if (def.type === "array") {
    const { least } = lengths(bare);
    if (least > 0) faults.push({ value: [], what: "too few elements" });
    faults.push({
      value: Array.from({ length: 40_000 }, () => null),
      what: "40,000 elements",
      isSure: false,
    });
  }
  if (def.type === "object" && def.catchall !== undefined && isObject(value)) {
    if (defOf(def.catchall as Schema).type === "never") {
      for (const name of ["no_such_field", LONG_NAME]) {
        faults.push({ value: { ...value, [name]: 1 }, what: "an unknown field", below: [name] });
      }
    }
  }
  return faults.length === 0 ? null : pickFrom(rng, faults);
}

function isOfType(value: unknown, def: Def): boolean {
  switch (def.type) {
    case "string":
      return typeof value === "string";
    case "number":
    case "int":
      return typeof value === "number";
    case "boolean":
      return typeof value === "boolean";
    case "enum":
      return Object.values(def.entries as Record<string, unknown>).includes(value);
    case "literal":
      return (def.values as unknown[]).includes(value);
    case "array":
      return Array.isArray(value);
    case "object":
    case "record":
      return isObject(value);
    case "union":
      return (def.options as Schema[]).some((option) => isOfType(value, defOf(unwrapped(option))));
    default:
      return true;
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (at, part) => (at as Record<string | number, unknown> | undefined)?.[part],
    value,
  );
}

/** A copy with another value at a place; undefined leaves the member out. */
function replaced(value: unknown, [part, ...rest]: Path, by: unknown): unknown {
  if (part === undefined) return by;
  if (Array.isArray(value)) {
    return value.map((element, index) => (index === part ? replaced(element, rest, by) : element));
  }
  const inner = (value as Record<string, unknown>)[part];
  const { [part]: _, ...others } = value as Record<string | number, unknown>;
  const next = replaced(inner ?? (rest.length > 0 ? {} : undefined), rest, by);
  return next === undefined ? others : { ...others, [part]: next };
}

/** One of several; the list must not be empty. */
export function pickFrom<T>(rng: Rng, values: readonly T[]): T {
  return values[Math.floor(rng.next() * values.length)] as T;
}
