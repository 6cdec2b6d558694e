/**
 * Seeded random numbers. Every agent draws from streams of its own, so what one agent does never shifts the choices of
 * another: with the same seed, agent 5 meets the same crashes in the same order, whatever the timing.
 */
export interface Rng {
  /** A number from 0 (included) to 1 (excluded). */
  next(): number;
  /** True with the given probability (0 to 1). */
  chance(probability: number): boolean;
  /** A whole number from `min` to `max`, both included. */
  between(min: number, max: number): number;
  /** One of the values; the list must not be empty. */
  pick<T>(values: readonly [T, ...T[]]): T;
}

/**
 * Makes one stream of random numbers.
 *
 * @param seed whole number, 0 to 2^32 − 1; the same for all streams of a drill
 * @param stream whole number that tells the streams of one seed apart
 */
export function createRng(seed: number, stream: number): Rng {
  // Consecutive states of mulberry32 differ by a constant, so streams must not start a few steps apart: hash both numbers.
  let state = scramble(scramble(seed) ^ Math.imul(stream + 1, 0x9e3779b1));

  const next = (): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };

  return {
    next,
    chance: (probability) => next() < probability,
    between: (min, max) => min + Math.floor(next() * (max - min + 1)),
    pick: <T>(values: readonly [T, ...T[]]): T => values[Math.floor(next() * values.length)] ?? values[0],
  };
}

/** The finaliser of murmur3: spreads every bit of a 32-bit number over all others. */
function scramble(value: number): number {
  let mixed = value | 0;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
