/** Reading members of JSON whose shape nobody has checked yet. None of these throws. */

export type JsonObject = Readonly<Record<string, unknown>>;

/** The value as an object, or undefined when it is an array, null or no object. */
export function asObject(value: unknown): JsonObject | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : undefined;
}

/** The member `name` of `value` as an object; undefined when either is not one. */
export function objectAt(value: unknown, name: string): JsonObject | undefined {
  return asObject(asObject(value)?.[name]);
}

/** The member `name` of `value` as a list; empty when it is none. */
export function listAt(value: unknown, name: string): readonly unknown[] {
  const list = asObject(value)?.[name];
  return Array.isArray(list) ? list : [];
}

/** The member `name` of `value` when it is a string. */
export function stringAt(value: unknown, name: string): string | undefined {
  const text = asObject(value)?.[name];
  return typeof text === "string" ? text : undefined;
}

/** The member `name` of `value` when it is a number. */
export function numberAt(value: unknown, name: string): number | undefined {
  const number = asObject(value)?.[name];
  return typeof number === "number" ? number : undefined;
}
