import type { RunStatus } from "../protocol/status.ts";
import type { EmptyClaimReason } from "../protocol/task.ts";

/** The reasons that a run's status has for it. */
export type RunStop = Exclude<EmptyClaimReason, "nothing_claimable" | "locks_held">;

/** Why a run of this status gives out no work by the strict rules; null when it does. */
export function claimStop(status: RunStatus): RunStop | null {
  switch (status) {
    case "paused":
      return "run_paused";
    case "cancelled":
      return "run_cancelled";
    case "completed":
    case "failed":
      return "run_ended";
    default:
      return null;
  }
}
