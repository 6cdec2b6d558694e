import type { Call } from "../call.ts";
import { type Mutation, mutate } from "../command.ts";

export const todos: Mutation<"sync_todos", "syncTodos"> = {
  body: "syncTodos",
  command: (body) => ({
    op: "sync_todos",
    todos: body.todos,
    replace: body.replace ?? true,
    source_session_id: body.source_session_id ?? null,
    source_run_id: body.source_run_id ?? null,
    task_id: body.task_id,
    lock_id: body.lock_id,
    lease_token: body.lease_token,
  }),
  echo: "run",
  context: ({ echo }) => ({ ok: true, ...echo }),
  native: ({ outcome }) => ({ members: { event: outcome.event } }),
  represents: ["run"],
};

/** `POST …/todos/sync` (contract 02 §4.1, 03 §5). */
export const syncTodos = (call: Call) => mutate(todos, call);

export const driver: Mutation<"select_next_step", "selectNextStep"> = {
  body: "selectNextStep",
  bodyMayBeEmpty: true,
  command: (body) => ({ op: "select_next_step", dry_run: body.dry_run ?? false }),
  echo: "run",
  context: ({ outcome: { op: _op, event: _event, ...selection }, echo }, call) => ({
    ok: true,
    run_id: call.id("run_id"),
    ...selection,
    ...echo,
  }),
  native: ({ outcome: { op: _op, event, ...selection } }) => ({
    members: { ...selection, event: event ?? undefined },
  }),
  represents: ["run"],
};

/** `POST …/driver/next` (contract 02 §4.2, 03 §6). */
export const selectNextStep = (call: Call) => mutate(driver, call);

const validation: Mutation<"validate_workspace", "validateWorkspace"> = {
  body: "validateWorkspace",
  command: ({ phase, current_path, step_id }) => ({ op: "validate_workspace", phase, current_path, step_id }),
  context: ({ outcome }) =>
    outcome.mismatch === null
      ? { ok: true, mismatch: false }
      : { ok: false, mismatch: true, status: outcome.run_status },
  native: ({ outcome: { mismatch, run_status, event } }) => {
    if (mismatch === null) return { members: { mismatch: false, event: event ?? undefined } };
    const error = "the agent does not work in the run's workspace";
    return { refusal: { code: "WORKSPACE_MISMATCH", error, ...mismatch, run_status } };
  },
  represents: ["run"],
};

/** `POST …/lease/validate` (contract 02 §4.3, 03 §7). */
export const validateWorkspace = (call: Call) => mutate(validation, call);
