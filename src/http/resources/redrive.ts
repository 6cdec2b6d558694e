import { MAX_REDRIVEN_AT_ONCE } from "../../protocol/limits.ts";
import type { Call } from "../call.ts";
import { type Mutation, mutate } from "../command.ts";

export const redrive: Mutation<"redrive_task", "redriveTask"> = {
  body: "redriveTask",
  bodyMayBeEmpty: true,
  command: ({ expected_task_rev }, call) => ({
    op: "redrive_task",
    task_id: call.id("task_id"),
    expected_task_rev,
    task_types: call.principal.task_types ?? undefined,
  }),
  context: () => ({}),
  native: ({ outcome: { task } }) => ({ members: { task }, headers: { etag: `"${task.task_rev}"` } }),
  represents: ["run", "blackboard"],
};

/** `POST /v1/…/tasks/{task_id}/redrive`. */
export const redriveTask = (call: Call) => mutate(redrive, call);

export const redrives: Mutation<"redrive_tasks", "redriveTasks"> = {
  body: "redriveTasks",
  bodyMayBeEmpty: true,
  command: ({ command_id: _commandId, limit, preview, ...filter }, call) => ({
    op: "redrive_tasks",
    ...filter,
    limit: limit ?? MAX_REDRIVEN_AT_ONCE,
    preview: preview === true,
    task_types: call.principal.task_types ?? undefined,
  }),
  context: () => ({}),
  native: ({ outcome: { preview, matched, task_ids } }) => ({
    members: { preview, matched, task_ids, remaining: matched - task_ids.length },
  }),
  represents: ["run", "blackboard"],
};

/** `POST /v1/…/tasks/redrive`: dead letters that a filter finds, or how many there are. */
export const redriveTasks = (call: Call) => mutate(redrives, call);
