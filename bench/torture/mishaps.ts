import type { Rng } from "../drill/rng.ts";

/** What a bad network does to one connection. */
export interface Mishap {
  /**
   * How it ends, if not by itself. `cut`: both sides are cut once so many bytes have gone that way. `swallow`: what the server
   * answers after so many bytes is read and thrown away, and the connection is closed some time later.
   */
  readonly end?:
    | { readonly kind: "cut"; readonly way: Way; readonly afterBytes: number }
    | { readonly kind: "swallow"; readonly afterBytes: number; readonly closeAfterMs: number };
  /** The share of chunks that are held up, either way, and for how long, in milliseconds. 0 leaves all alone. */
  readonly delayedShare: number;
  readonly delayMs: { readonly min: number; readonly max: number };
}

/** To the server, or back to the client. */
export type Way = "up" | "down";

const spoiltShare = 0.7;
const slowShare = 0.3;
/** A request has some 400 bytes, its answer some 1,000, and one connection carries many: cuts fall into any of them. */
const bytes = { min: 20, max: 100_000 };

/** Draws what befalls the next connection. */
export function drawMishap(rng: Rng): Mishap {
  const isSpoilt = rng.chance(spoiltShare);
  const kind = rng.pick(["cut", "cut", "swallow"]);
  const way = rng.pick<Way>(["up", "down"]);
  // Evenly by magnitude: early and late cuts are as frequent as each other.
  const afterBytes = Math.round(bytes.min * (bytes.max / bytes.min) ** rng.next());
  const closeAfterMs = rng.between(0, 1_500);
  const isSlow = rng.chance(slowShare);
  return {
    ...(isSpoilt && {
      end: kind === "cut" ? { kind, way, afterBytes } : { kind: "swallow", afterBytes, closeAfterMs },
    }),
    delayedShare: isSlow ? 0.2 : 0,
    delayMs: { min: 1, max: 250 },
  };
}
