import type { Task } from "../protocol/task.ts";
import { withAttempt } from "./attempts.ts";

/**
 * A task of a client's copy of the run, with what only Baton knows of it: a copy that leaves a member of its life out (TASK_LIFE_MEMBERS)
 * does not know it, and leaves it as it is; one that brings it sets it.
 *
 * P1 Fences are the engine's: a lease keeps its own as long as its token stays, and a lease of the copy's making has none.
 * P2 A lease that the copy takes away has ended like any other: what its holder tried and reported is handed over.
 * P3 What says how a task ended goes when it is no longer at that end.
 *
 * @param sent with the fingerprint of its lease token. @param stored null when the run has no such task.
 */
export function carriedOver(sent: Task, stored: Task | null, nowMs: number): Task {
  const { fence: _fence, claimed_at_ms: _claimed, ...own } = sent;
  if (stored === null) return coherent(own);
  const isSameLease = sent.lease_token !== undefined && sent.lease_token === stored.lease_token;
  const attempts = sent.attempts ?? stored.attempts;
  const known: Partial<Task> = {
    ...kept(stored),
    ...(attempts !== undefined && { attempts }),
    ...(isSameLease && leaseOf(stored)),
  };
  if (isSameLease || sent.status === "done" || isTold(attempts, stored.fence)) {
    return coherent({ ...known, ...own });
  }
  const ended = withAttempt({ ...stored, ...known }, { outcome: "revoked" }, nowMs);
  return coherent({
    ...known,
    ...own,
    ...(ended.attempts !== undefined && { attempts: ended.attempts }),
  });
}

/** What of a task's life does not depend on its lease. */
function kept(task: Task): Partial<Task> {
  const {
    retry,
    clocks,
    on_dependency_failure,
    concurrency_key,
    redriven_at_ms,
    dead_letter,
    failure,
    skipped,
    cancellation,
  } = task;
  return {
    ...(retry !== undefined && { retry }),
    ...(clocks !== undefined && { clocks }),
    ...(on_dependency_failure !== undefined && { on_dependency_failure }),
    ...(concurrency_key !== undefined && { concurrency_key }),
    ...(redriven_at_ms !== undefined && { redriven_at_ms }),
    ...(dead_letter !== undefined && { dead_letter }),
    ...(failure !== undefined && { failure }),
    ...(skipped !== undefined && { skipped }),
    ...(cancellation !== undefined && { cancellation }),
  };
}

function leaseOf({ fence, claimed_at_ms, progress }: Task): Partial<Task> {
  return {
    ...(fence !== undefined && { fence }),
    ...(claimed_at_ms !== undefined && { claimed_at_ms }),
    ...(progress !== undefined && { progress }),
  };
}

function isTold(attempts: Task["attempts"], fence: number | undefined): boolean {
  return attempts?.some((one) => one.fence === fence) ?? false;
}

/** Without what another status makes untrue. */
function coherent(task: Task): Task {
  const { dead_letter, failure, skipped, cancellation, progress, ...rest } = task;
  const isOver = task.status === "failed" || task.status === "done";
  const isUnderway = task.status === "in_progress" || task.status === "blocked";
  return {
    ...rest,
    ...(dead_letter !== undefined && task.status === "failed" && { dead_letter }),
    ...(failure !== undefined && task.status === "failed" && { failure }),
    ...(skipped !== undefined && task.status === "done" && { skipped }),
    ...(cancellation !== undefined && !isOver && { cancellation }),
    ...(progress !== undefined && isUnderway && { progress }),
  };
}
