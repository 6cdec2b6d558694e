import { claimStop } from "../domain/claim-stop.ts";
import { claimsOf } from "../domain/outcome.ts";
import { limitExceeded } from "../domain/refusals.ts";
import { isTerminal } from "../domain/run.ts";
import { MAX_PARKED_CLAIM_BYTES, parkedBytes } from "../run/claim-line.ts";
import type { Answer } from "../run/engine.ts";
import type { ClaimSubmission } from "../run/parked-claims.ts";
import { submit } from "../run/run-client.ts";
import { claimOrWait } from "../streams/claim-wait.ts";
import type { Call } from "./call.ts";
import { RequestRefused } from "./problem.ts";
import { seatFor } from "./seat.ts";
import { endOfCredential, refuseEnded } from "./standing.ts";

/**
 * Submits a claim and, when there is nothing for it, waits for so long in the run's object. A run that is over is not waited for;
 * one that is paused is.
 * @throws RequestRefused also when the credential has ended meanwhile: what was claimed by then is given back.
 */
export async function submitOrWait(call: Call, submission: ClaimSubmission, waitMs: number): Promise<Answer> {
  const untilMs = Math.min(Date.now() + waitMs, call.principal.expires_at_ms ?? Number.POSITIVE_INFINITY);
  const first = await submit(call.run(), submission);
  if (waitMs === 0 || !isWorthWaiting(first)) return first;
  const { length } = parkedBytes(submission);
  if (length > MAX_PARKED_CLAIM_BYTES) {
    throw new RequestRefused(limitExceeded("parked_claim_bytes", MAX_PARKED_CLAIM_BYTES, length));
  }
  // Where the client gave none, one is made: a broken line must not lose what was claimed.
  const commandId = submission.commandId ?? `wait-${crypto.randomUUID()}`;
  const seat = await seatFor(call);
  try {
    const parked = { ...submission, commandId };
    const isOver = () =>
      endOfCredential(call).then(
        (why) => why !== null,
        () => true,
      );
    const answer = await claimOrWait(() => call.run(), parked, untilMs, isOver);
    await refuseEnded(call).catch(async (refused: unknown) => {
      await giveBack(call, answer);
      throw refused;
    });
    const isOwn = submission.commandId === undefined && answer.ok;
    return isOwn ? { ...answer, repeat: null } : answer;
  } finally {
    seat?.release();
  }
}

function isWorthWaiting(answer: Answer): boolean {
  if (!answer.ok || answer.repeat !== null || answer.outcome?.op !== "claim_task") return false;
  const { run_status } = answer.outcome;
  return claimsOf(answer.outcome).length === 0 && !(isTerminal(run_status) && claimStop(run_status) !== null);
}

/** Releases what was claimed for somebody who may not have it. */
async function giveBack(call: Call, answer: Answer): Promise<void> {
  // Under its key another may have claimed.
  const isTheirs = answer.ok && answer.repeat?.same !== false;
  for (const { task, lease } of isTheirs ? claimsOf(answer.outcome) : []) {
    await submit(call.run(), {
      command: {
        op: "transition_task",
        task_id: task.id,
        action: "release",
        lease_token: lease?.token,
        strict: true,
      },
    });
  }
}
