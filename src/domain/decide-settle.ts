import { MAX_SETTLED_AT_ONCE } from "../protocol/limits.ts";
import type { Task } from "../protocol/task.ts";
import { type Due, failedDependency, nextDue } from "./clocks.ts";
import type { CommandOf } from "./command.ts";
import { endRequestedRollback } from "./decide-rollback.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { isStale } from "./lease.ts";
import { revoked, settled } from "./settle.ts";
import { requeueStale, type TaskChange } from "./task-actions.ts";
import type { View } from "./view.ts";

/** A task whose clock has run out. */
interface Overdue {
  task: Task;
  due: Due;
  failedDependencyId: string | null;
}

/**
 * Does what clocks, cancellations, failed dependencies and the halt of a run have come to: of each kind so many at once at most, the
 * longest overdue first. What it leads to in turn is due then, and the next time's.
 */
export function decideSettle(command: CommandOf<"settle_due">, view: View, context: Context): Decision {
  const { nowMs } = context;
  const draft = new Draft(view.head(), context);
  const early: string[] = [];
  const overdue: Overdue[] = [];
  for (const task of candidates(command, view, nowMs)) {
    const failedDependencyId = failedDependency(task, view);
    const due = nextDue(task, failedDependencyId !== null, nowMs);
    if (due !== null && due.at_ms <= nowMs) overdue.push({ task, due, failedDependencyId });
    else if (task.id !== command.task_id) early.push(task.id);
  }
  overdue.sort((a, b) => a.due.at_ms - b.due.at_ms || (a.task.id < b.task.id ? -1 : 1));
  for (const { task, due, failedDependencyId } of overdue) {
    endRequestedRollback(draft, view, draft.task(settled(task, due, failedDependencyId, context)));
  }
  const ended = new Set(overdue.map(({ task }) => task.id));
  for (const task of haltedTasks(view, nowMs)) {
    if (ended.has(task.id)) continue;
    endRequestedRollback(draft, view, draft.task(afterHalt(task, view, context)));
  }
  return {
    ok: true,
    commits: draft.commits,
    outcome: { op: "settle_due", settled: draft.commits.length, early },
  };
}

function candidates({ task_id }: CommandOf<"settle_due">, view: View, nowMs: number): Task[] {
  const due = view.dueTasks(nowMs, MAX_SETTLED_AT_ONCE);
  const named = task_id === undefined ? null : view.task(task_id);
  return named === null || due.some(({ id }) => id === named.id) ? due : [named, ...due];
}

/** What becomes of a task whose grace is over; here, too, what came first counts (settle.ts, S1). */
function afterHalt(task: Task, view: View, context: Context): TaskChange {
  const { run, halt } = view.head();
  if (halt !== undefined && isStale(task, halt.revoke_at_ms)) return requeueStale(task, context);
  return revoked(task, `lease was revoked: the run is ${run.status}`, context);
}

/** Those that still hold what was given out before the run was halted, when its grace is over. */
function haltedTasks(view: View, nowMs: number): Task[] {
  const { halt } = view.head();
  return halt === undefined || halt.revoke_at_ms > nowMs ? [] : view.heldUpTo(halt.seq, MAX_SETTLED_AT_ONCE);
}
