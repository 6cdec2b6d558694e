import type { Batch, Command } from "../domain/command.ts";
import type { Commit } from "../domain/commit.ts";
import type { Decision } from "../domain/decision.ts";
import { type BatchPart, batchPart, type Outcome, type OutcomeOf } from "../domain/outcome.ts";
import { commitTooLarge, limitExceeded, type Refusal } from "../domain/refusals.ts";
import { MAX_BATCH_LENGTH } from "../protocol/limits.ts";
import type { RunState } from "./run-state.ts";
import { CommitTooLarge } from "./storage/commits.ts";

/** What came of a batch; of a refused one the caller undoes what was done. */
type BatchAnswer = { ok: true; outcome: OutcomeOf<"batch">; repeat: null } | { ok: false; refusal: Refusal };

/**
 * Does the commands of a batch one after the other, inside a transaction, and stores their commits with one receipt. A refusal names
 * its command.
 */
export function doBatch(
  state: RunState,
  { commands, dry_run }: Batch,
  { commandId, fingerprint }: { commandId?: string | undefined; fingerprint?: string | undefined },
  decide: (command: Command) => Decision,
): BatchAnswer {
  state.gather();
  const outcomes: Outcome[] = [];
  const parts: BatchPart[] = [];
  let untold = 0;
  for (const [index, command] of commands.entries()) {
    const decision = decide(command);
    if (!decision.ok) return { ok: false, refusal: { ...decision.refusal, command: index } };
    // What comes of a command without a commit is answered, too: a heartbeat that is held tells of its whole task.
    if (decision.commits.length === 0) untold += JSON.stringify(decision.outcome).length;
    const refusal = taken(state, decision.commits, untold);
    if (refusal !== null) return { ok: false, refusal: { ...refusal, command: index } };
    outcomes.push(decision.outcome);
    parts.push(batchPart(decision.outcome, decision.commits.length));
  }
  const commits = parts.reduce((sum, part) => sum + part.commits, 0);
  if (commandId === undefined) state.storeGathered(null, null);
  else state.storeGathered(commandId, { op: "batch", fingerprint: fingerprint ?? null, commits, parts });
  const { revision } = state.head().run;
  return { ok: true, outcome: { op: "batch", outcomes, revision, dry_run }, repeat: null };
}

/**
 * Takes in the commits of one command.
 * @param untold length of what is answered and no commit tells, in UTF-16 units. @returns why that cannot be, or null.
 */
function taken(state: RunState, commits: Commit[], untold: number): Refusal | null {
  try {
    for (const commit of commits) state.take(commit);
    const length = state.gatheredLength() + untold;
    return length > MAX_BATCH_LENGTH ? limitExceeded("batch_length", MAX_BATCH_LENGTH, length) : null;
  } catch (error) {
    if (error instanceof CommitTooLarge) return commitTooLarge(error.bytes);
    throw error;
  }
}
