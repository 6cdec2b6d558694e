/** Run statuses, exact wire strings (contract 01 §3). */
export const RUN_STATUSES = [
  "queued",
  "planning",
  "running",
  "awaiting_approval",
  "paused",
  "blocked",
  "failed",
  "completed",
  "cancelled",
] as const;
export type RunStatus = (typeof RUN_STATUSES)[number];

/** Step and task statuses share one set of wire strings (contract 01 §3). */
export const WORK_STATUSES = ["pending", "runnable", "in_progress", "blocked", "done", "failed"] as const;
export type WorkStatus = (typeof WORK_STATUSES)[number];
