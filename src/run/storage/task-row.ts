import { isBusy } from "../../domain/concurrency.ts";
import type { WorkStatus } from "../../protocol/status.ts";
import type { Task } from "../../protocol/task.ts";
import type { LaneHead } from "./lanes.ts";

/** Where a task stands for claims (schema.ts). */
export type Queue = "ready" | "delayed" | "leased" | null;

/** A row of table `tasks`. */
export interface TaskRow extends LaneHead {
  id: string;
  status: WorkStatus;
  next_retry_at_ms: number | null;
  lease_expires_at_ms: number | null;
  open_dependencies: number;
  queue: Queue;
  due_at_ms: number | null;
  dead_letter: number;
  busy: number;
  doc: string;
}

/** The queue that a task belongs into. */
export function queueOf(task: Task, openDependencies: number, nowMs: number): Queue {
  if (task.status === "in_progress") return task.lease_expires_at_ms === undefined ? null : "leased";
  if (task.status !== "pending" && task.status !== "runnable") return null;
  if (openDependencies > 0) return null;
  return (task.next_retry_at_ms ?? 0) > nowMs ? "delayed" : "ready";
}

/** What orders a task among the claimable ones of its lane. */
export function laneHeadOf(task: Task, pos: number): LaneHead {
  return {
    task_type: task.task_type,
    workflow_id: task.workflow_id ?? "",
    concurrency_key: task.concurrency_key ?? "",
    priority: task.priority,
    created_ts: task.created_ts,
    pos,
  };
}

/** The row of a task. */
export function rowOf(
  task: Task,
  doc: string,
  pos: number,
  indexed: { openDependencies: number; dueAtMs: number | null },
  nowMs: number,
): TaskRow {
  return {
    ...laneHeadOf(task, pos),
    id: task.id,
    status: task.status,
    next_retry_at_ms: task.next_retry_at_ms ?? null,
    lease_expires_at_ms: task.lease_expires_at_ms ?? null,
    open_dependencies: indexed.openDependencies,
    queue: queueOf(task, indexed.openDependencies, nowMs),
    due_at_ms: indexed.dueAtMs,
    dead_letter: task.dead_letter === true ? 1 : 0,
    busy: isBusy(task) ? 1 : 0,
    doc,
  };
}
