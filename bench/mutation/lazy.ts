/**
 * What the rules import as `lazy`: makes the value each time. One that is kept would be of the code as it was when it was
 * first asked for, whichever mutant is on now.
 */
export function lazy<T>(make: () => T): () => T {
  return make;
}
