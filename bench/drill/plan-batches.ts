import { byteLength, type PlanTask } from "./plan.ts";

/** The engine's limits for one request. */
const maxBodyBytes = 2 * 1024 * 1024;
const maxBatchRows = 500;

/**
 * Splits rows into bodies that one request may carry: at most 500 rows and 2 MiB each. The order is kept.
 */
export function batchTasks(tasks: readonly PlanTask[]): PlanTask[][] {
  const batches: PlanTask[][] = [];
  let batch: PlanTask[] = [];
  let bytes = 0;
  const emptyBody = byteLength('{"tasks":[]}');
  for (const task of tasks) {
    const size = byteLength(JSON.stringify(task)) + 1;
    if (batch.length === maxBatchRows || (batch.length > 0 && emptyBody + bytes + size > maxBodyBytes)) {
      batches.push(batch);
      batch = [];
      bytes = 0;
    }
    batch.push(task);
    bytes += size;
  }
  if (batch.length > 0) batches.push(batch);
  return batches;
}
