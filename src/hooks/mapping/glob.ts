import type { Meter } from "./meter.ts";

/**
 * Whether a whole text matches a glob: `*` is any characters, `?` is one, everything else is itself. Going back only to the
 * last `*`, it takes at most the product of both lengths, and the meter counts every comparison.
 */
export function matchesGlob(glob: string, text: string, meter: Meter): boolean {
  let g = 0;
  let t = 0;
  let star = -1;
  let resume = 0;
  while (t < text.length) {
    meter.step();
    if (glob[g] === "*") {
      star = g;
      resume = t;
      g += 1;
    } else if (g < glob.length && (glob[g] === "?" || glob[g] === text[t])) {
      g += 1;
      t += 1;
    } else if (star !== -1) {
      g = star + 1;
      resume += 1;
      t = resume;
    } else {
      return false;
    }
  }
  while (glob[g] === "*") g += 1;
  return g === glob.length;
}
