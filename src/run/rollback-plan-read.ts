import { mutationRecordOf } from "../domain/mutations.ts";
import { limitExceeded, type Refusal } from "../domain/refusals.ts";
import { type PlannedStep, plannedStep } from "../domain/rollback-plan.ts";
import { MAX_ROLLBACK_LENGTH } from "../protocol/limits.ts";
import { type AuditSource, eventsAt } from "./audit-events.ts";

/** The steps of a rollback, read, or why they cannot be brought along. */
export type ReadPlan = { ok: true; value: PlannedStep[] } | { ok: false; refusal: Refusal };

/**
 * Those of the selected steps that exist, with what undoing them would write. Records never change, so what is read here
 * still holds when the rollback is decided.
 */
export async function readRollbackPlan(source: AuditSource, eventIds: string[]): Promise<ReadPlan> {
  const ids = new Set(eventIds.map((id) => id.trim()));
  const seqs = [...ids].flatMap((id) => source.state.effects.mutation(id)?.seq ?? []);
  const steps: PlannedStep[] = [];
  let length = 0;
  for await (const event of eventsAt(source, seqs)) {
    const record = mutationRecordOf(event);
    const step = record === null ? null : plannedStep(event, record);
    if (step === null) continue;
    length += JSON.stringify(step).length;
    if (length > MAX_ROLLBACK_LENGTH) {
      return { ok: false, refusal: limitExceeded("rollback_length", MAX_ROLLBACK_LENGTH, length) };
    }
    steps.push(step);
  }
  return { ok: true, value: steps };
}
