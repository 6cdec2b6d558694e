/**
 * Whether a JSON value is nested deeper than this: a list or an object, be it empty, is one deeper than its deepest member, and
 * anything else has depth 0. Never goes deeper than that itself.
 */
export function isDeeperThan(value: unknown, depth: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (depth === 0) return true;
  return Object.values(value).some((member) => isDeeperThan(member, depth - 1));
}
