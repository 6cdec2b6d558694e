import { dueAtMs, hasFailurePolicy } from "../../domain/clocks.ts";
import { isBusy } from "../../domain/concurrency.ts";
import type { Task } from "../../protocol/task.ts";
import type { Sql } from "./sql.ts";
import { laneHeadOf, queueOf, type TaskRow } from "./task-row.ts";

/**
 * Whether the columns and edges that claims are decided by are those that the stored tasks ask for. Reads the whole
 * board: only a replay asks.
 */
export function isTaskIndexSound(sql: Sql): boolean {
  const rows = sql.all<TaskRow>("SELECT * FROM tasks");
  const tasks = new Map(rows.map((row) => [row.id, JSON.parse(row.doc) as Task]));
  const edges = new Set<string>();
  for (const row of rows) {
    const task = tasks.get(row.id);
    if (task === undefined || task.id !== row.id || !isSound(row, task, tasks)) return false;
    for (const dependency of task.depends_on_task_ids) edges.add(JSON.stringify([dependency, task.id]));
  }
  const stored = sql.all<{ dependency: string; dependent: string }>(
    "SELECT dependency, dependent FROM task_edges",
  );
  return (
    stored.length === edges.size &&
    stored.every((edge) => edges.has(JSON.stringify([edge.dependency, edge.dependent])))
  );
}

/** A clock may be noted early, never late. */
function isDueSound(stored: number | null, task: Task, tasks: ReadonlyMap<string, Task>): boolean {
  const hasFailed =
    hasFailurePolicy(task) && task.depends_on_task_ids.some((id) => tasks.get(id)?.status === "failed");
  const wanted = dueAtMs(task, hasFailed, Number.MAX_SAFE_INTEGER);
  return wanted === null ? stored === null : stored !== null && stored <= wanted;
}

/** Whether a row's columns are those of its task. */
function isSound(row: TaskRow, task: Task, tasks: ReadonlyMap<string, Task>): boolean {
  const lane = laneHeadOf(task, row.pos);
  const open = [...new Set(task.depends_on_task_ids)].filter((id) => tasks.get(id)?.status !== "done").length;
  // A delayed task may be due without having been promoted yet, and one that was promoted stays ready.
  const queues = [queueOf(task, open, Number.MAX_SAFE_INTEGER), queueOf(task, open, 0)];
  return (
    row.task_type === lane.task_type &&
    row.workflow_id === lane.workflow_id &&
    row.priority === lane.priority &&
    row.created_ts === lane.created_ts &&
    row.status === task.status &&
    row.lease_expires_at_ms === (task.lease_expires_at_ms ?? null) &&
    row.open_dependencies === open &&
    row.dead_letter === (task.dead_letter === true ? 1 : 0) &&
    row.busy === (isBusy(task) ? 1 : 0) &&
    row.concurrency_key === lane.concurrency_key &&
    isDueSound(row.due_at_ms, task, tasks) &&
    (row.queue !== "delayed" || row.next_retry_at_ms === (task.next_retry_at_ms ?? null)) &&
    queues.includes(row.queue)
  );
}
