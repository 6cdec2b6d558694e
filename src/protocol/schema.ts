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

/** A text that is not empty. */
export const someText = z.string().check(z.minLength(1));
