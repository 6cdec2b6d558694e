import type { AuditInput } from "./audit.ts";
import type { AuditClocks, AuditEvent, AuditTask } from "./records.ts";
import type { Flag, Place } from "./violation.ts";

type Clock = keyof AuditClocks;

/** What the clocks of a task count from, epoch milliseconds of the log. */
interface Beginnings {
  /** Its creation, or when it was put back. */
  bornMs: number;
  /** Since then. */
  wasClaimed: boolean;
  /** While it is held: the claim, and the claim or the last report of progress. */
  claimedMs: number | undefined;
  heardMs: number | undefined;
  isOver: boolean;
}

/** What the engine says when it ends something by a clock. */
const clockOfReason: ReadonlyMap<string, Clock> = new Map([
  ["start_deadline", "start_within_ms"],
  ["run_time_limit", "run_within_ms"],
  ["silence_limit", "silent_within_ms"],
  ["total_deadline", "finish_within_ms"],
]);

/** What holders, and who wants to be one, do to a task. */
const acts: ReadonlySet<string> = new Set(["claimed", "heartbeat", "completed", "failed", "requeued"]);

/**
 * What a clock ended was due by then, and nobody claimed, reported, completed or failed what was due: by the times of the log
 * alone. Returns how many times a clock ended something.
 */
export function checkClocks({ events }: AuditInput, flag: Flag): number {
  const tasks = new Map<string, Beginnings>();
  let endings = 0;
  for (const event of events) {
    const { type, task, ts_ms, seq, reason } = event;
    if (task === undefined || !type.startsWith("context.task.")) continue;
    const verb = type.slice("context.task.".length);
    const known = tasks.get(task.id) ?? begun(ts_ms);
    tasks.set(task.id, known);
    const at: Place = { seq, task_id: task.id };
    const dues = duesOf(known, task.clocks);
    const clock = clockOfReason.get(reason ?? "");
    if (clock !== undefined) {
      endings += 1;
      const dueMs = dues.get(clock);
      if (dueMs === undefined) {
        flag("clocks", "ended_by_no_clock", `${task.id} ended by ${reason}, which it does not have`, at);
      } else if (ts_ms < dueMs) {
        flag(
          "clocks",
          "ended_early",
          `${task.id} ended by ${reason} ${dueMs - ts_ms} ms before its time`,
          at,
        );
      }
    } else if (acts.has(verb) && isActOfSomebody(event)) {
      for (const [name, dueMs] of dues) {
        if (ts_ms < dueMs) continue;
        const detail = `${task.id} was ${verb} ${ts_ms - dueMs} ms after its ${name} of ${task.clocks[name]} was over`;
        flag("clocks", "went_on", detail, at);
      }
    }
    follow(known, verb, task, ts_ms);
  }
  return endings;
}

/** What the engine takes back for another reason (a lease that ran out, a stop) may have been due for more than one. */
function isActOfSomebody({ command_id, type, reason }: AuditEvent): boolean {
  if (type === "context.task.failed" || type === "context.task.requeued") {
    return command_id !== undefined && reason === undefined;
  }
  return true;
}

function begun(bornMs: number): Beginnings {
  return { bornMs, wasClaimed: false, claimedMs: undefined, heardMs: undefined, isOver: false };
}

/** When each clock of a task that runs is due. */
function duesOf(known: Beginnings, clocks: AuditClocks): Map<Clock, number> {
  const dues = new Map<Clock, number>();
  const set = (clock: Clock, fromMs: number | undefined): void => {
    const withinMs = clocks[clock];
    if (withinMs !== undefined && fromMs !== undefined) dues.set(clock, fromMs + withinMs);
  };
  if (known.isOver) return dues;
  if (!known.wasClaimed) set("start_within_ms", known.bornMs);
  set("finish_within_ms", known.bornMs);
  set("run_within_ms", known.claimedMs);
  set("silent_within_ms", known.heardMs);
  return dues;
}

function follow(known: Beginnings, verb: string, task: AuditTask, ts_ms: number): void {
  switch (verb) {
    case "redriven":
      Object.assign(known, begun(ts_ms));
      return;
    case "claimed":
      known.wasClaimed = true;
      known.claimedMs = ts_ms;
      known.heardMs = ts_ms;
      break;
    case "heartbeat":
      // Each heartbeat of the drill reports progress.
      known.heardMs = ts_ms;
      break;
  }
  known.isOver = task.status === "done" || task.status === "failed";
  if (task.lease_owner !== undefined) return;
  known.claimedMs = undefined;
  known.heardMs = undefined;
}
