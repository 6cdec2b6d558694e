import { DEFAULT_GRACE_MS } from "../protocol/limits.ts";
import type { RunHeader } from "../protocol/run.ts";
import type { RunStatus } from "../protocol/status.ts";
import type { Stop, Task } from "../protocol/task.ts";
import { claimStop } from "./claim-stop.ts";
import type { Halt, RunHead } from "./head.ts";
import { isHalted } from "./run.ts";

/** What a request to stop says for itself. */
export interface StopRequest {
  reason?: string | undefined;
  /** How long holders may go on, ms; the run's own grace when absent. */
  grace_ms?: number | undefined;
}

/** How long holders may go on in this run when nobody says, ms. */
export function graceMs({ settings }: RunHeader): number {
  return settings?.grace_ms ?? DEFAULT_GRACE_MS;
}

/**
 * The halt that a commit brings: of an event that pauses or ends a run that was going on, or that was halted without a grace; and of
 * every request to stop. A grace that runs is never made longer.
 * @param asked null for an event that only declares the status.
 */
export function haltBy(
  { run, halt }: RunHead,
  status: RunStatus,
  asked: StopRequest | null,
  nowMs: number,
): Omit<Halt, "seq"> | null {
  if (!isHalted(status)) return null;
  if (asked === null && (halt !== undefined || status === run.status)) return null;
  const wantedMs = nowMs + (asked?.grace_ms ?? graceMs(run));
  const isRunning = halt !== undefined && halt.revoke_at_ms > nowMs;
  const reason = asked?.reason ?? halt?.reason;
  return {
    revoke_at_ms: isRunning ? Math.min(halt.revoke_at_ms, wantedMs) : wantedMs,
    ...(reason !== undefined && { reason }),
  };
}

/** What the holder of a task is to be told: the first moment at which it must have stopped, and why; null when it may go on. */
export function stopOf({ run, halt }: RunHead, { cancellation, fence }: Task): Stop | null {
  const stops: Stop[] = [];
  const reason = claimStop(run.status);
  if (reason !== null) {
    const isRevoked = halt !== undefined && fence !== undefined && fence <= halt.seq;
    const detail = halt?.reason;
    stops.push({
      reason,
      ...(detail !== undefined && { detail }),
      revoke_at_ms: isRevoked ? halt.revoke_at_ms : null,
    });
  }
  if (cancellation !== undefined) {
    const { reason: detail, revoke_at_ms } = cancellation;
    stops.push({ reason: "task_cancelled", ...(detail !== undefined && { detail }), revoke_at_ms });
  }
  return stops.reduce<Stop | null>((first, stop) => (isSooner(stop, first) ? stop : first), null);
}

function isSooner(stop: Stop, other: Stop | null): boolean {
  return other === null || (stop.revoke_at_ms ?? Infinity) < (other.revoke_at_ms ?? Infinity);
}
