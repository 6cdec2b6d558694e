import type { RunStatus, WorkStatus } from "../protocol/status.ts";
import type { Task } from "../protocol/task.ts";
import type { Failure } from "../protocol/task-life.ts";
import { claimStop, type RunStop } from "./claim-stop.ts";

/** Who has a task; times are epoch ms, null where a lease was not given by a claim. */
export interface Holder {
  task_id: string;
  agent_id: string;
  fence: number | null;
  expires_at_ms: number | null;
}

/** One thing that must change before a claim can take a task (docs/claims.md). */
export type Wait =
  /** It is done, or failed: nothing will give it out, unless somebody redrives it. */
  | { kind: "over"; status: "done" | "failed"; skipped?: true; dead_letter?: true; failure?: Failure }
  | ({ kind: "holder" } & Omit<Holder, "task_id">)
  /** Somebody has set it aside. */
  | { kind: "blocked" }
  /** `status` is null where the run has no such task yet. */
  | { kind: "dependency"; task_id: string; status: WorkStatus | null }
  | { kind: "retry_at"; at_ms: number }
  | { kind: "concurrency_limit"; key: string; limit: number; holders: Holder[] }
  | { kind: RunStop; run_status: RunStatus };

/** What surrounds a task. */
export interface Surroundings {
  runStatus: RunStatus;
  /** Its dependencies that are missing or not done, some of them where they are many. */
  openDependencies(task: Task): { task_id: string; status: WorkStatus | null }[];
  /** How many tasks may be, and are, worked on under a key. */
  placesOf(key: string): { limit: number; busy: number };
  /** Some of those that take places of a key. */
  holdersOf(key: string): Task[];
}

/** What a task waits for; nothing when a claim can take it now. */
export function waitsFor(task: Task, around: Surroundings, nowMs: number): Wait[] {
  const { status, dead_letter, skipped, failure } = task;
  if (status === "done" || status === "failed") {
    return [
      {
        kind: "over",
        status,
        ...(skipped && { skipped }),
        ...(dead_letter && { dead_letter }),
        ...(failure !== undefined && { failure }),
      },
    ];
  }
  const waits: Wait[] = [];
  const stop = claimStop(around.runStatus);
  if (stop !== null) waits.push({ kind: stop, run_status: around.runStatus });
  if (status === "blocked") waits.push({ kind: "blocked" });
  if (status === "in_progress" || task.lease_owner !== undefined) {
    const { task_id: _id, ...holder } = holderOf(task);
    waits.push({ kind: "holder", ...holder });
    return waits;
  }
  waits.push(
    ...around.openDependencies(task).map((open): Wait => ({ kind: "dependency", ...open })),
    ...retryWaits(task, nowMs),
    ...placeWaits(task, around),
  );
  return waits;
}

function retryWaits({ next_retry_at_ms = 0 }: Task, nowMs: number): Wait[] {
  return next_retry_at_ms > nowMs ? [{ kind: "retry_at", at_ms: next_retry_at_ms }] : [];
}

function placeWaits({ concurrency_key: key }: Task, around: Surroundings): Wait[] {
  if (key === undefined) return [];
  const { limit, busy } = around.placesOf(key);
  if (busy < limit) return [];
  return [{ kind: "concurrency_limit", key, limit, holders: around.holdersOf(key).map(holderOf) }];
}

function holderOf({ id, lease_owner, assigned_agent, fence, lease_expires_at_ms }: Task): Holder {
  return {
    task_id: id,
    agent_id: lease_owner ?? assigned_agent ?? "",
    fence: fence ?? null,
    expires_at_ms: lease_expires_at_ms ?? null,
  };
}
