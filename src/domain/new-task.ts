import { nonBlank, withoutAbsent } from "../protocol/absent.ts";
import type { Task } from "../protocol/task.ts";
import { DEFAULT_RETRY, type RetryPolicy, type TaskDefaults } from "../protocol/task-life.ts";
import type { TaskRow } from "./command.ts";
import type { TaskChange } from "./task-actions.ts";

const DEFAULT_MAX_ATTEMPTS = 3;

/** The id a row asks for, trimmed; null when it leaves the choice to the engine. */
export function requestedId(row: TaskRow): string | null {
  return row.id?.trim() || null;
}

/** Dependencies as they are stored: trimmed, blanks dropped (contract 04 §1). */
export function normaliseDependencies(ids: string[]): string[] {
  return ids.map((id) => id.trim()).filter((id) => id !== "");
}

/** What holds for all rows of a batch. */
export interface Terms {
  /** Of the run, for what a row does not say. */
  defaults: TaskDefaults;
  /** Whether a row that names `max_attempts` asks for a retry policy. */
  strict: boolean;
}

/** Those of tasks that the engine makes itself. */
export const NO_TERMS: Terms = { defaults: {}, strict: false };

/** The task that a row becomes, with its commit (contract 04 §2). `contracted` comes from the payload contract. */
export function createTask(
  row: TaskRow,
  id: string,
  contracted: { task_type: string; payload: unknown },
  { defaults, strict }: Terms,
  nowMs: number,
): TaskChange {
  const clocks = row.clocks ?? defaults.clocks ?? {};
  const task: Task = withoutAbsent({
    id,
    task_type: contracted.task_type,
    payload: contracted.payload,
    status: row.status ?? "pending",
    workflow_id: nonBlank(row.workflow_id),
    workflow_node_id: nonBlank(row.workflow_node_id),
    parent_task_id: nonBlank(row.parent_task_id),
    depends_on_task_ids: normaliseDependencies(row.depends_on_task_ids),
    decision_ids: row.decision_ids,
    artifact_ids: row.artifact_ids,
    priority: row.priority ?? 0,
    attempt: 0,
    max_attempts: row.max_attempts ?? defaults.max_attempts ?? DEFAULT_MAX_ATTEMPTS,
    task_rev: 1,
    created_ts: nowMs,
    updated_ts: nowMs,
    retry: policyOf(row, defaults, strict),
    clocks: Object.keys(clocks).length === 0 ? undefined : clocks,
    on_dependency_failure: row.on_dependency_failure ?? defaults.on_dependency_failure,
    concurrency_key: nonBlank(row.concurrency_key),
  });
  return {
    task,
    eventType: "context.task.created",
    eventPayload: {
      task_id: id,
      task_type: task.task_type,
      task_rev: 1,
      workflow_id: task.workflow_id ?? null,
    },
    patchOp: "add_task",
    patchPayload: { ...task },
  };
}

/** The policy that a row's failures are retried by; none where neither the row nor the run asks for one. */
function policyOf(row: TaskRow, defaults: TaskDefaults, strict: boolean): RetryPolicy | undefined {
  const isCapped = (strict && row.max_attempts !== undefined) || defaults.max_attempts !== undefined;
  return row.retry ?? defaults.retry ?? (isCapped ? DEFAULT_RETRY : undefined);
}
