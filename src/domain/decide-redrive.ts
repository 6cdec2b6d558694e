import type { CommandOf } from "./command.ts";
import { movedOn, onlyCommit, outOfBounds } from "./decide-task.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { taskOf } from "./outcome.ts";
import { taskNotFound } from "./refusals.ts";
import { redrive } from "./task-actions.ts";
import type { View } from "./view.ts";

/** Puts one dead letter back on the board. */
export function decideRedrive(
  command: CommandOf<"redrive_task">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const task = view.task(command.task_id);
  if (task === null) return { ok: false, refusal: taskNotFound };
  const refusal = outOfBounds(command.task_types, task.task_type) ?? movedOn(task, command.expected_task_rev);
  if (refusal !== null) return { ok: false, refusal };
  if (task.dead_letter !== true) {
    const error = "task is no dead letter";
    return { ok: false, refusal: { code: "TASK_TRANSITION_INVALID", error, current_status: task.status } };
  }
  const draft = new Draft(view.head(), context, commandId);
  draft.task(redrive(task, {}, context.nowMs));
  const { event } = onlyCommit(draft);
  return { ok: true, commits: draft.commits, outcome: { op: "redrive_task", task: taskOf(event) } };
}

/** Puts many back, in list order, all in one; or counts them. */
export function decideRedrives(
  command: CommandOf<"redrive_tasks">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const { limit, preview } = command;
  const matched = view.countDeadLetters(command);
  if (preview) {
    return { ok: true, commits: [], outcome: { op: "redrive_tasks", preview, matched, task_ids: [] } };
  }
  const letters = view.deadLetters(command, limit);
  const draft = new Draft(view.head(), context, commandId);
  for (const task of letters) draft.task(redrive(task, { matched }, context.nowMs));
  const task_ids = letters.map(({ id }) => id);
  return {
    ok: true,
    commits: draft.commits,
    outcome: { op: "redrive_tasks", preview, matched, task_ids },
  };
}
