/** At most this many UTF-16 units per part: at three bytes each, a row of one stays well under the platform's 2 MB. */
const PART_LENGTH = 500_000;

/** Cuts text into parts, never inside a surrogate pair: half a pair cannot be stored as UTF-8. */
export function* inParts(pieces: Iterable<string>): Generator<string> {
  let pending = "";
  for (const piece of pieces) {
    pending += piece;
    while (pending.length > PART_LENGTH) {
      const splitsPair = /[\uD800-\uDBFF]/.test(pending.charAt(PART_LENGTH - 1));
      const end = splitsPair ? PART_LENGTH - 1 : PART_LENGTH;
      yield pending.slice(0, end);
      pending = pending.slice(end);
    }
  }
  if (pending !== "") yield pending;
}
