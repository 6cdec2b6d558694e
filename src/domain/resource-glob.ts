/**
 * Names of resources: paths of segments, which `/` parts. In a segment, `*` stands for any characters, none included, and `?` for one;
 * a segment `**` stands for any number of segments, none included. There is nothing that takes these meanings away.
 */

/** Stands for any characters of a segment. */
const ANY = "*";
/** Stands for one character. */
const ONE = "?";
/** Stands for any segments. */
const DEEP = "**";

/** How much work comparisons may still be: characters, or segments, held against each other. */
export interface Allowance {
  left: number;
}

/** There was more to compare than the allowance allows. */
export class AllowanceSpent extends Error {
  constructor() {
    super("there is too much to compare");
  }
}

/**
 * Whether some path is meant by both names.
 * @param allowance is used up by it.
 * @throws AllowanceSpent
 */
export function overlap(a: string, b: string, allowance: Allowance): boolean {
  if (a === b) return true;
  if (partBeforeWildcards(a, b) || (!isGlob(a) && !isGlob(b))) return false;
  return meet(a.split("/"), b.split("/"), {
    isMany: (segment) => segment === DEEP,
    fits: (one, other) => segmentsOverlap(one, other, allowance),
    allowance,
  });
}

/** Whether they have different characters at one place with no wildcard before it: most names are told apart by that. */
function partBeforeWildcards(a: string, b: string): boolean {
  for (let place = 0; place < a.length && place < b.length; place += 1) {
    const [one, other] = [a[place], b[place]];
    if (one === ANY || one === ONE || other === ANY || other === ONE) return false;
    if (one !== other) return true;
  }
  return false;
}

function isGlob(name: string): boolean {
  return name.includes(ANY) || name.includes(ONE);
}

function segmentsOverlap(a: string, b: string, allowance: Allowance): boolean {
  if (a === b || a === ANY || b === ANY) return true;
  // By characters, not by UTF-16 units: `?` stands for a whole one.
  return meet([...a], [...b], {
    isMany: (character) => character === ANY,
    fits: (one, other) => one === other || one === ONE || other === ONE,
    allowance,
  });
}

/**
 * Whether two patterns have a sequence in common. `isMany` says of an element that it stands for any number of elements, `fits`
 * whether two others can be the same one. Row by row: whether what is left of `a` from `i` and of `b` from `j` meets.
 */
function meet<T>(
  a: readonly T[],
  b: readonly T[],
  how: { isMany(element: T): boolean; fits(one: T, other: T): boolean; allowance: Allowance },
): boolean {
  const { isMany, fits, allowance } = how;
  allowance.left -= (a.length + 1) * (b.length + 1);
  if (allowance.left < 0) throw new AllowanceSpent();
  let below: boolean[] = [];
  for (let i = a.length; i >= 0; i -= 1) {
    const row: boolean[] = new Array<boolean>(b.length + 1).fill(false);
    for (let j = b.length; j >= 0; j -= 1) {
      const [one, other] = [a[i], b[j]];
      if (one === undefined && other === undefined) row[j] = true;
      // What stands for many ends here, or takes in the next element of the other.
      else if (one !== undefined && isMany(one)) row[j] = below[j] === true || row[j + 1] === true;
      else if (other !== undefined && isMany(other)) row[j] = row[j + 1] === true || below[j] === true;
      else row[j] = one !== undefined && other !== undefined && below[j + 1] === true && fits(one, other);
    }
    below = row;
  }
  return below[0] === true;
}
