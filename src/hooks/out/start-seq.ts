/**
 * The seq after which a run's events are at or after a moment: for a subscription that begins in the middle of a run. Events
 * never go back in time, so that it is found in about log2 of their number of questions.
 * @param lastSeq of the run's log.
 * @param timeOf tells when the event of a seq was committed, epoch ms.
 */
export async function seqBefore(
  sinceMs: number,
  lastSeq: number,
  timeOf: (seq: number) => Promise<number>,
): Promise<number> {
  let before = 0;
  let atOrAfter = lastSeq + 1;
  // Most often it is one of the last: a subscription is made, and then something happens.
  for (let step = 1; atOrAfter - before > 1; step *= 2) {
    const seq = Math.max(before + 1, atOrAfter - step);
    if ((await timeOf(seq)) < sinceMs) {
      before = seq;
      break;
    }
    atOrAfter = seq;
  }
  while (atOrAfter - before > 1) {
    const seq = Math.floor((before + atOrAfter) / 2);
    if ((await timeOf(seq)) < sinceMs) before = seq;
    else atOrAfter = seq;
  }
  return before;
}
