import { MAX_SETTLED_AT_ONCE } from "../protocol/limits.ts";
import type { Task } from "../protocol/task.ts";
import { type Due, failedDependency, nextDue } from "./clocks.ts";
import type { CommandOf } from "./command.ts";
import { endRequestedRollback } from "./decide-rollback.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import type { RunHead } from "./head.ts";
import { isHeldUpTo, isStale } from "./lease.ts";
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
  const named = (command.task_ids ?? []).flatMap((id) => view.task(id) ?? []);
  const found = view.dueTasks(nowMs, MAX_SETTLED_AT_ONCE);
  const early: string[] = [];
  const overdue: Overdue[] = [];
  for (const task of together(named, found)) {
    const failedDependencyId = failedDependency(task, view);
    const due = nextDue(task, failedDependencyId !== null, nowMs);
    if (due !== null && due.at_ms <= nowMs) overdue.push({ task, due, failedDependencyId });
    else if (found.some(({ id }) => id === task.id)) early.push(task.id);
  }
  overdue.sort((a, b) => a.due.at_ms - b.due.at_ms || (a.task.id < b.task.id ? -1 : 1));
  for (const { task, due, failedDependencyId } of overdue) {
    endRequestedRollback(draft, view, draft.task(settled(task, due, failedDependencyId, context)));
  }
  const ended = new Set(overdue.map(({ task }) => task.id));
  for (const task of haltedTasks(named, view, nowMs)) {
    if (ended.has(task.id)) continue;
    endRequestedRollback(draft, view, draft.task(takenBack(task, view.head(), context)));
  }
  return {
    ok: true,
    commits: draft.commits,
    outcome: { op: "settle_due", settled: draft.commits.length, early },
  };
}

/** The named ones first, each once. */
function together(named: Task[], found: Task[]): Task[] {
  return [...named, ...found.filter(({ id }) => !named.some((task) => task.id === id))];
}

/** Those that still hold what was given out before the run was halted, when its grace is over. */
function haltedTasks(named: Task[], view: View, nowMs: number): Task[] {
  const { halt } = view.head();
  if (halt === undefined || halt.revoke_at_ms > nowMs) return [];
  const held = named.filter((task) => isHeldUpTo(task, halt.seq));
  return together(held, view.heldUpTo(halt.seq, MAX_SETTLED_AT_ONCE));
}

/** Such a task without its lease. One that had run out before has ended as leases do. */
function takenBack(task: Task, { run, halt }: RunHead, context: Context): TaskChange {
  if (halt !== undefined && isStale(task, halt.revoke_at_ms)) return requeueStale(task, context);
  return revoked(task, `lease was revoked: the run is ${run.status}`, context);
}
