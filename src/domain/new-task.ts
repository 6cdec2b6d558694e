import type { Task } from "../protocol/task.ts";
import type { TaskRow } from "./command.ts";
import type { TaskChange } from "./task-actions.ts";

const DEFAULT_MAX_ATTEMPTS = 3;

/** The id a row asks for, trimmed; null when it leaves the choice to the engine. */
export function requestedId(row: TaskRow): string | null {
  return row.id?.trim() || null;
}

/** A row's dependencies: trimmed, blanks dropped (contract 04 §1). */
export function dependenciesOf(row: TaskRow): string[] {
  return row.depends_on_task_ids.map((id) => id.trim()).filter((id) => id !== "");
}

/** The task that a row becomes, with its commit (contract 04 §2). `contracted` comes from the payload contract. */
export function createTask(
  row: TaskRow,
  id: string,
  contracted: { task_type: string; payload: unknown },
  nowMs: number,
): TaskChange {
  const task: Task = {
    id,
    task_type: contracted.task_type,
    payload: contracted.payload,
    status: row.status ?? "pending",
    ...optional("workflow_id", row.workflow_id),
    ...optional("workflow_node_id", row.workflow_node_id),
    ...optional("parent_task_id", row.parent_task_id),
    depends_on_task_ids: dependenciesOf(row),
    decision_ids: row.decision_ids,
    artifact_ids: row.artifact_ids,
    priority: row.priority ?? 0,
    attempt: 0,
    max_attempts: row.max_attempts ?? DEFAULT_MAX_ATTEMPTS,
    task_rev: 1,
    created_ts: nowMs,
    updated_ts: nowMs,
  };
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

function optional<K extends string>(key: K, value: string | undefined): { [P in K]?: string } {
  const text = value?.trim() ?? "";
  return (text === "" ? {} : { [key]: text }) as { [P in K]?: string };
}
