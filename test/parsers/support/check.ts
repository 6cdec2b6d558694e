/// <reference types="vite/types/importMeta.d.ts" />
import fc from "fast-check";
import { expect } from "vitest";

/** How many times more runs than usual: `VITE_PARSER_RUNS=100 npx vitest run --project workerd test/parsers`. */
const FACTOR = Number(import.meta.env.VITE_PARSER_RUNS ?? 1);

/** Checks a property. Without a seed of its own each run of the tests tries others; a failure tells its seed. */
export function check<Ts>(property: fc.IProperty<Ts>, runs = 200): void {
  fc.assert(property, { numRuns: runs * FACTOR });
}

export async function checkAsync<Ts>(property: fc.IAsyncProperty<Ts>, runs = 100): Promise<void> {
  await fc.assert(property, { numRuns: runs * FACTOR });
}

/** What a call comes to: its value, or the error it throws. */
export function outcomeOf<T>(call: () => T): { value: T } | { error: unknown } {
  try {
    return { value: call() };
  } catch (error) {
    return { error };
  }
}

const PROTOTYPES = [Object.prototype, Array.prototype, Function.prototype, String.prototype];
const membersNow = () => PROTOTYPES.map((prototype) => Reflect.ownKeys(prototype).length);
const untouched = membersNow();

/** Nothing that was read has reached what all objects have in common. */
export function expectPrototypesUntouched(): void {
  expect(membersNow()).toEqual(untouched);
}

/** Whether every object in a value, however deep, has the prototype that JSON gives it: none was set by a member's name. */
export function isPlain(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return true;
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== (Array.isArray(value) ? Array.prototype : Object.prototype)) return false;
  return Object.values(value).every(isPlain);
}
