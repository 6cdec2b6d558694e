import type { WorkStatus } from "./status.ts";
import type { TaskLife } from "./task-life.ts";

/**
 * A work item on the board (contract 04 §1). Times are epoch milliseconds.
 * `lease_token` holds the token's fingerprint everywhere but in the answer to the claimer (docs/compatibility.md).
 */
export interface Task extends TaskLife {
  id: string;
  task_type: string;
  payload: unknown;
  status: WorkStatus;
  workflow_id?: string;
  workflow_node_id?: string;
  parent_task_id?: string;
  depends_on_task_ids: string[];
  decision_ids: string[];
  artifact_ids: string[];
  assigned_agent?: string;
  /** Larger is earlier. */
  priority: number;
  attempt: number;
  max_attempts: number;
  last_error?: string;
  next_retry_at_ms?: number;
  lease_owner?: string;
  lease_token?: string;
  lease_expires_at_ms?: number;
  /** 1 at creation, +1 per accepted change (I11). */
  task_rev: number;
  created_ts: number;
  updated_ts: number;
}

/** A claim's proof, given to the claimer only. */
export interface Lease {
  token: string;
  owner: string;
  /** Grows with each claim of the task; null for a lease that a PUT made. */
  fence: number | null;
  /** Epoch ms. */
  expires_at_ms: number;
  /** From the moment that gave it to its expiry: for holders that do not share the engine's clock. */
  expires_in_ms: number;
}

/** Why a claim took nothing. */
export const EMPTY_CLAIM_REASONS = [
  "nothing_claimable",
  "locks_held",
  "run_paused",
  "run_cancelled",
  "run_ended",
] as const;
export type EmptyClaimReason = (typeof EMPTY_CLAIM_REASONS)[number];

/** What a heartbeat tells a holder who is to stop. */
export interface Stop {
  reason: Exclude<EmptyClaimReason, "nothing_claimable"> | "task_cancelled";
  /** What was said for it. */
  detail?: string;
  /** When the lease is revoked, epoch ms; null when it is not. */
  revoke_at_ms: number | null;
}

/** Actions of a transition (contract 04 §8). */
export const TASK_ACTIONS = ["heartbeat", "status", "complete", "fail", "release", "retry"] as const;
export type TaskAction = (typeof TASK_ACTIONS)[number];

/** Kinds of task whose payload follows the contract of 04 §3. */
export const TASK_KINDS = ["implementation", "inspection", "research", "validation", "fix_proposal"] as const;
export type TaskKind = (typeof TASK_KINDS)[number];
