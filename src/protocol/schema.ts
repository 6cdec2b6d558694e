import * as z from "zod/mini";

// What schemas share. They are made with zod/mini: of its functions, only those in use reach the bundle.

/** A whole number from 0 up, exact as a JSON number. */
export const uint = z.int().check(z.minimum(0));

/** What a schema reads, changed; `change` may add issues of its own to the context. */
export const mapped = <T extends z.core.$ZodType, U>(
  type: T,
  change: (value: z.output<T>, context: z.core.ParsePayload) => U,
) => z.pipe(type, z.transform(change));

/** A field that may be absent; null counts as absent too (contract 02 §1.3). */
export const optional = <T extends z.core.$ZodType>(type: T) =>
  mapped(z.nullish(type), (value) => value ?? undefined);

/** Free JSON; absent counts as null. */
export const json = mapped(z.optional(z.unknown()), (value) => value ?? null);

/**
 * The library looks at the length of whatever has one, of the wrong type or not; that of an object from outside may be an
 * object too, which cannot be compared with a number.
 */
const hasLength = ({ value }: z.core.ParsePayload) => typeof value === "string" || Array.isArray(value);

/** Checks that a text or list is so long at least. */
export function minLength(limit: number) {
  const check = z.minLength(limit);
  check._zod.def.when = hasLength;
  return check;
}

/** Checks that a text or list is so long at most. */
export function maxLength(limit: number) {
  const check = z.maxLength(limit);
  check._zod.def.when = hasLength;
  return check;
}

/** A text that is not empty. */
export const someText = z.string().check(minLength(1));

/** Makes an object schema: one that ignores unknown fields, or one that refuses them. */
export type ObjectMaker = typeof z.object;

/** The rule of issues about texts over a limit of the engine; they carry the `limit` and the `actual` length. */
export const LENGTH_RULE = "max_length";

/** Checks a length; what is over the limit is a crossed limit of the engine, not a wrong shape. */
const lengthUpTo =
  (limit: number, unit: string) =>
  (context: z.core.ParsePayload<string | unknown[]>): void => {
    const actual = context.value.length;
    if (actual <= limit) return;
    const message = `must have at most ${limit} ${unit}`;
    const params = { rule: LENGTH_RULE, limit, actual };
    context.issues.push({ code: "custom", input: context.value, message, params });
  };

/** A text of at most so many UTF-16 units. */
export const upTo = (limit: number) => z.string().check(lengthUpTo(limit, "characters"));

/** A list of at most so many elements; a longer one is refused before its elements are looked at. */
export const listOf = <T extends z.core.$ZodType>(element: T, limit: number) =>
  z.pipe(z.array(z.unknown()).check(lengthUpTo(limit, "elements")), z.array(element));

/** An object with members of any name. The library passes over `__proto__` without a word, as if nothing had been said: it is refused. */
export const recordOf = <T extends z.core.$ZodType>(name: z.ZodMiniString, value: T) =>
  z.pipe(
    z.unknown().check((context) => {
      const { value: given } = context;
      if (typeof given !== "object" || given === null || !Object.hasOwn(given, "__proto__")) return;
      const params = { rule: "name" };
      const message = "is no name that a member can have here";
      context.issues.push({ code: "custom", input: given, path: ["__proto__"], message, params });
    }),
    z.record(name, value),
  );
