import { MAX_DEPENDENCIES_PER_TASK, MAX_SEARCHED_PER_BATCH } from "../protocol/limits.ts";
import type { Task } from "../protocol/task.ts";
import type { CommandOf } from "./command.ts";
import { closesCycle, movedOn, onlyCommit, outOfBounds } from "./decide-task.ts";
import type { Decision } from "./decision.ts";
import { duplicateDependency, unknownDependencies } from "./dependencies.ts";
import { type Context, Draft } from "./draft.ts";
import { underLease, unprovenLease } from "./lease-proof.ts";
import { dependenciesOutcome } from "./outcome.ts";
import { fieldInvalid, limitExceeded, type Refusal, taskNotFound } from "./refusals.ts";
import type { TaskChange } from "./task-actions.ts";
import type { View } from "./view.ts";

/**
 * Adds and removes edges of a task that nobody works on yet. What follows is as if it had been so from the start: a dependency that is
 * done or has failed counts at once, one that does not exist yet is waited for.
 */
export function decideDependencies(
  command: CommandOf<"change_dependencies">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const task = view.task(command.task_id);
  if (task === null) return { ok: false, refusal: taskNotFound };
  const proof = { ...command.proof, strict: command.strict };
  const refusal =
    outOfBounds(command.task_types, task.task_type) ??
    movedOn(task, command.expected_task_rev) ??
    unprovenLease(proof, view, context) ??
    refusalOf(task, command, view);
  if (refusal !== null) return { ok: false, refusal };
  const draft = new Draft(view.head(), context, commandId, underLease(proof, view));
  draft.task(changed(task, command, view));
  return { ok: true, commits: draft.commits, outcome: dependenciesOutcome(onlyCommit(draft).event) };
}

function refusalOf(
  task: Task,
  { add, remove }: CommandOf<"change_dependencies">,
  view: View,
): Refusal | null {
  const { id, status, depends_on_task_ids: before } = task;
  if (status !== "pending" && status !== "runnable" && status !== "blocked") {
    const error = "dependencies change only while a task waits";
    return { code: "TASK_TRANSITION_INVALID", error, current_status: status };
  }
  if (add.length + remove.length === 0) {
    return fieldInvalid("add", "required", "or `remove` must have at least one id");
  }
  const unknown = remove.findIndex((dependency) => !before.includes(dependency));
  if (unknown !== -1) return fieldInvalid(`remove[${unknown}]`, "present", "is no dependency of the task");
  const kept = before.filter((dependency) => !remove.includes(dependency));
  return (
    duplicateDependency(remove, [], "remove") ??
    duplicateDependency(add, before, "add") ??
    (kept.length + add.length > MAX_DEPENDENCIES_PER_TASK
      ? limitExceeded("dependencies_per_task", MAX_DEPENDENCIES_PER_TASK, kept.length + add.length)
      : null) ??
    closesCycle(graphOf(view), id, add, { left: MAX_SEARCHED_PER_BATCH })
  );
}

function graphOf(view: View) {
  return {
    dependenciesOf: (id: string) => view.task(id)?.depends_on_task_ids ?? [],
    dependentsOf: (id: string) => view.dependentsOf(id),
  };
}

function changed(before: Task, { add, remove }: CommandOf<"change_dependencies">, view: View): TaskChange {
  const kept = before.depends_on_task_ids.filter((dependency) => !remove.includes(dependency));
  const task: Task = {
    ...before,
    depends_on_task_ids: [...kept, ...add],
    task_rev: before.task_rev + 1,
  };
  const { id, status, depends_on_task_ids, task_rev, workflow_id = null } = task;
  return {
    task,
    eventType: "context.task.updated",
    eventPayload: {
      task_id: id,
      task_rev,
      workflow_id,
      status,
      dependencies_added: add,
      dependencies_removed: remove,
      ...unknownDependencies(add, (dependency) => view.task(dependency) !== null),
    },
    patchOp: "update_task_state",
    patchPayload: { task_id: id, status, task_rev, depends_on_task_ids },
  };
}
