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
    priority: task.priority,
    created_ts: task.created_ts,
    pos,
  };
}
