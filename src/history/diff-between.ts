import { type Diff, diff, momentOf } from "../domain/diff.ts";
import type { Result } from "../run/run-object.ts";
import type { Place } from "./answers.ts";
import { digestOf, type HistorySource, stateAt } from "./state-at.ts";

export interface DiffBetween {
  from: Place;
  to: Place;
  diff: Diff;
}

/** What changed between two places of a run's log; from a later one to an earlier one, what would have to be undone. */
export async function diffBetween(
  source: HistorySource,
  from: number,
  to: number,
): Promise<Result<DiffBetween>> {
  const early = await stateAt(source, Math.min(from, to));
  if (!early.ok) return early;
  const earlyMoment = momentOf(early.value.state);
  const earlyPlace = { seq: early.value.seq, state_sha256: digestOf(early.value) };
  const late = await stateAt(source, Math.max(from, to), early.value);
  if (!late.ok) return late;
  const lateMoment = momentOf(late.value.state);
  const latePlace = { seq: late.value.seq, state_sha256: digestOf(late.value) };
  const value =
    from <= to
      ? { from: earlyPlace, to: latePlace, diff: diff(earlyMoment, lateMoment) }
      : { from: latePlace, to: earlyPlace, diff: diff(lateMoment, earlyMoment) };
  return { ok: true, value };
}
