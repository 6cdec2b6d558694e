export interface Spread {
  min: number;
  median: number;
  max: number;
}

/** Smallest, middle and largest of some values. NaN for none, or when one of them is NaN. */
export function spread(values: readonly number[]): Spread {
  const sorted = ascending(values);
  return { min: sorted[0] ?? Number.NaN, median: medianOf(sorted), max: sorted.at(-1) ?? Number.NaN };
}

/** The middle value; of an even count, the mean of the two in the middle. NaN for none, or when one is NaN. */
export function median(values: readonly number[]): number {
  return medianOf(ascending(values));
}

/** The value that a share (0 to 1) of the values does not exceed, by nearest rank. NaN for none, or when one is NaN. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = ascending(values);
  return sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? Number.NaN;
}

/** Pairs values of equal index by division; NaN where there is no partner. */
export function ratios(values: readonly number[], bases: readonly number[]): number[] {
  return values.map((value, index) => value / (bases[index] ?? Number.NaN));
}

/** Sorted; nothing when one of them is NaN, which has no place in an order. */
function ascending(values: readonly number[]): number[] {
  return values.some(Number.isNaN) ? [] : values.toSorted((a, b) => a - b);
}

function medianOf(sorted: readonly number[]): number {
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? Number.NaN;
  if (!Number.isInteger(middle)) return upper;
  return ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}
