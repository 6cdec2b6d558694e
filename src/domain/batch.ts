import { MAX_COMMANDS_PER_BATCH, MAX_TASKS_PER_BATCH } from "../protocol/limits.ts";
import type { Batch } from "./command.ts";
import { fieldInvalid, limitExceeded, type Refusal } from "./refusals.ts";

/** Why a batch is refused before any of its commands is looked at, or null. @param revision the run's. */
export function batchRefusal({ commands, expected_revision }: Batch, revision: number): Refusal | null {
  if (commands.length === 0) return fieldInvalid("commands", "non_empty", "must have at least one command");
  if (commands.length > MAX_COMMANDS_PER_BATCH) {
    return limitExceeded("commands_per_batch", MAX_COMMANDS_PER_BATCH, commands.length);
  }
  const tasks = commands.reduce((sum, each) => sum + (each.op === "create_tasks" ? each.tasks.length : 0), 0);
  if (tasks > MAX_TASKS_PER_BATCH) return limitExceeded("tasks_per_batch", MAX_TASKS_PER_BATCH, tasks);
  const claims = commands.reduce((sum, each) => sum + (each.op === "claim_task" ? (each.max ?? 1) : 0), 0);
  if (claims > MAX_TASKS_PER_BATCH) return limitExceeded("claims_per_batch", MAX_TASKS_PER_BATCH, claims);
  if (expected_revision === undefined || expected_revision === revision) return null;
  const error = `run is at revision ${revision}, not ${expected_revision}`;
  return { code: "RUN_REVISION_MISMATCH", error, revision };
}
