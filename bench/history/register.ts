import type { ServerClock } from "./clock.ts";
import type { Operation, Phase } from "./operation.ts";

/*
 * What a task may do, as far as its lease goes: the sequential rules that a history is held against (claims: one holder at a time,
 * fences grow, a lease lasts its term and no longer). Pure.
 */

/** One task between two operations. */
export interface Register {
  /** `ended`: its lease ran out, or was revoked; whether it may be claimed again, or is over, nobody said. */
  readonly phase: Phase | "ended";
  /** Of the last claim; 0 before the first. */
  readonly fence: number;
  readonly agent: string;
  /** The lease does not run out before this. */
  readonly endsAfterMs: number;
  /** From here on it has run out. */
  readonly endsBeforeMs: number;
  /** A heartbeat that was lost, or asked for less, may have moved the end, to this at the earliest. Infinity without one. */
  readonly looseMs: number;
}

export interface Rules {
  /** Whether a lease is stale the moment it expires; if not, it lasts until somebody notices. */
  readonly isStrict: boolean;
  /** By how much two clocks may differ over the term of a lease, ms. */
  readonly slackMs: number;
  /** By which the server counts terms. */
  readonly clock: ServerClock;
}

export const FRESH: Register = {
  phase: "open",
  fence: 0,
  agent: "",
  endsAfterMs: 0,
  endsBeforeMs: Number.POSITIVE_INFINITY,
  looseMs: Number.POSITIVE_INFINITY,
};

/**
 * Whether an operation takes no choice away: where it can take effect, it may do so at once. A heartbeat is one, because all that
 * can come before it under its lease still can, and what ends the lease must come after it anyhow.
 */
export function isHarmless({ act }: Operation): boolean {
  return act === "refused" || act === "read" || act === "write" || act === "heartbeat";
}

/** The task after an operation that takes effect here; null when it cannot. */
export function after(task: Register, operation: Operation, rules: Rules): Register | null {
  const isFree = task.phase === "open" || task.phase === "ended";
  switch (operation.act) {
    case "claim": {
      if (!isFree || operation.fence <= task.fence) return null;
      const { fence, agent } = operation;
      return { phase: "held", fence, agent, looseMs: Number.POSITIVE_INFINITY, ...termOf(operation, rules) };
    }
    case "heartbeat": {
      if (!holds(task, operation, rules)) return null;
      const { endsAfterMs, endsBeforeMs } = termOf(operation, rules);
      const isLoose = operation.shortens === true || endsBeforeMs === Number.POSITIVE_INFINITY;
      return {
        ...task,
        // Whatever their order, the last of some heartbeats came no sooner than any of them was called.
        endsAfterMs: isLoose ? task.endsAfterMs : Math.max(task.endsAfterMs, endsAfterMs),
        endsBeforeMs: Math.max(task.endsBeforeMs, endsBeforeMs),
        looseMs: isLoose ? Math.min(task.looseMs, endsAfterMs) : task.looseMs,
      };
    }
    case "write":
      return holds(task, operation, rules) ? task : null;
    case "end":
      return holds(task, operation, rules) ? { ...task, phase: operation.to } : null;
    case "refused": {
      const { fence, holder } = operation;
      if (task.phase === "held" && task.fence === fence) return null;
      if (holder === undefined) return task;
      return isNamed(task, holder) ? task : null;
    }
    case "read": {
      const { phase, holder } = operation;
      if (phase === "held") return holder !== null && isNamed(task, holder) ? task : null;
      return task.phase === phase || task.phase === "ended" ? task : null;
    }
    case "revoke": {
      const { fence = task.fence } = operation;
      return task.phase === "held" && task.fence === fence ? { ...task, phase: "ended" } : null;
    }
    case "reopen":
      return task.phase === "over" || task.phase === "ended" ? { ...task, phase: "open" } : null;
    case "close":
      return isFree ? { ...task, phase: "over" } : null;
  }
}

/** The task once its lease ran out; null when that cannot be so by `atMs`. */
export function expired(task: Register, atMs: number, { slackMs }: Rules): Register | null {
  const endsAfterMs = Math.min(task.endsAfterMs, task.looseMs);
  return task.phase === "held" && endsAfterMs - slackMs <= atMs ? { ...task, phase: "ended" } : null;
}

/** A term was told after the command was called and before its answer came: it counts from somewhere between. */
function termOf(operation: Operation & { termMs: number }, { clock }: Rules) {
  return { endsAfterMs: clock.earliestEndMs(operation), endsBeforeMs: clock.latestEndMs(operation) };
}

function holds(task: Register, { fence, calledMs }: Operation & { fence: number }, rules: Rules): boolean {
  if (task.phase !== "held" || task.fence !== fence) return false;
  return !rules.isStrict || calledMs <= task.endsBeforeMs + rules.slackMs;
}

/** Whether an answer may name that holder, or nobody. Whose lease has ended is named until the task is put back. */
function isNamed(task: Register, holder: { agent: string; fence: number } | null): boolean {
  if (holder === null) return task.phase !== "held";
  const isThere = task.phase === "held" || task.phase === "ended";
  return isThere && task.fence === holder.fence && task.agent === holder.agent;
}
