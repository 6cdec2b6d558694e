import { nonBlank, withoutAbsent } from "../protocol/absent.ts";
import type { Task } from "../protocol/task.ts";
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

/** The task that a row becomes, with its commit (contract 04 §2). `contracted` comes from the payload contract. */
export function createTask(
  row: TaskRow,
  id: string,
  contracted: { task_type: string; payload: unknown },
  nowMs: number,
): TaskChange {
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
    max_attempts: row.max_attempts ?? DEFAULT_MAX_ATTEMPTS,
    task_rev: 1,
    created_ts: nowMs,
    updated_ts: nowMs,
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
