import { handoverOf } from "../../domain/handover.ts";
import { agentBlank, fieldInvalid } from "../../domain/refusals.ts";
import { WORK_STATUSES } from "../../protocol/status.ts";
import type { Lease, Task } from "../../protocol/task.ts";
import { checkBound } from "../bounds.ts";
import { type Call, unwrap } from "../call.ts";
import { type Mutation, mutate } from "../command.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer, RawJson } from "../json.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";
import { submitOrWait } from "../waiting-claim.ts";
import { lockMembers } from "./locks.ts";
import { listByReadiness } from "./why.ts";

/** `GET /v1/…/tasks`: pages in list order. */
export async function listTasks(call: Call): Promise<HttpAnswer> {
  const { ready } = call.query({ ready: "bool" });
  if (ready !== undefined) return listByReadiness(call, ready);
  const run = call.run();
  const { status, dead_letter, limit, cursor } = call.query({
    status: "string",
    dead_letter: "bool",
    limit: "uint",
    cursor: "string",
  });
  const workStatus = WORK_STATUSES.find((known) => known === status);
  if (status !== undefined && workStatus === undefined) {
    const message = `status must be one of ${WORK_STATUSES.join(", ")}`;
    refuseIssues("QUERY_INVALID", [{ field: "status", rule: "one_of", message }]);
  }
  const page = unwrap(
    await run.readTasks({
      status: workStatus ?? null,
      deadLetters: dead_letter ?? null,
      afterPos: readCursor(cursor, isWholeNumber) ?? 0,
      limit: pageLimit(limit),
    }),
  );
  return jsonAnswer({ tasks: new RawJson(page.items), ...pageLinks(call, page.nextPos) });
}

/** `GET /v1/…/tasks/{task_id}`. */
export async function getTask(call: Call): Promise<HttpAnswer> {
  const view = unwrap(await call.run().readTask(call.id("task_id")));
  if (view === null) throw new RequestRefused({ code: "TASK_NOT_FOUND", error: "task not found" });
  return jsonAnswer({ ...view }, { headers: { etag: `"${view.task.task_rev}"` } });
}

export const creation: Mutation<"create_tasks", "createTasks"> = {
  body: "createTasks",
  command: ({ tasks, task_id, lock_id, lease_token }, call) => {
    refuseTwoKeys(tasks, call);
    const replace_existing = call.door === "context";
    return {
      op: "create_tasks",
      tasks,
      replace_existing,
      task_types: typesOf(call),
      task_id,
      lock_id,
      lease_token,
    };
  },
  echo: "blackboard",
  context: ({ outcome: { tasks, patches, deduped }, echo }) => ({
    ok: true,
    tasks,
    patches,
    deduped: deduped.length > 0 ? deduped : undefined,
    ...echo,
  }),
  native: ({ outcome: { tasks, deduped, unknown_dependency_ids } }, call) => {
    const [only, ...others] = tasks;
    const location = `/v1/runs/${call.id("run_id")}/tasks/${only?.id}`;
    return {
      members: { tasks, deduped, unknown_dependency_ids },
      status: 201,
      headers: only !== undefined && others.length === 0 ? { location } : {},
    };
  },
  represents: ["run", "blackboard"],
};

/** `POST …/tasks` (contract 02 §5.4, 04 §2). */
export const createTasks = (call: Call) => mutate(creation, call);

/** The first row's commit carries the key of the batch, so rows cannot bring keys of their own beside it. */
function refuseTwoKeys(rows: { command_id?: string | undefined }[], call: Call): void {
  if (!call.request.headers.get("idempotency-key")?.trim()) return;
  const index = rows.findIndex((row) => row.command_id !== undefined);
  if (index === -1) return;
  const message = "cannot be combined with the Idempotency-Key header";
  refuseIssues("HEADER_INVALID", [{ field: `tasks[${index}].command_id`, rule: "one_key", message }]);
}

export const claim: Mutation<"claim_task", "claimTask"> = {
  body: "claimTask",
  command: ({ agent_id, task_type, workflow_id, lease_ms, max, locks }, call) => {
    checkBound(call.principal, "agent_id", agent_id.trim());
    checkBound(call.principal, "task_types", task_type);
    // Before the run is looked up (contract 02 §5.5).
    if (agent_id.trim() === "") throw new RequestRefused(agentBlank);
    if (max !== undefined && locks !== undefined) {
      throw new RequestRefused(fieldInvalid("locks", "one_task", "cannot be taken with several tasks"));
    }
    return { op: "claim_task", agent_id, task_type, workflow_id, lease_ms, max, locks };
  },
  // Who comes back after a while waits less long, and asks for the same.
  asked: ({ command_id: _commandId, wait_ms: _waitMs, ...asked }) => asked,
  submit: (submission, { wait_ms }, call) => submitOrWait(call, submission, wait_ms ?? 0),
  echo: "blackboard",
  context: ({ outcome, echo }) => ({ ok: true, deduped: false, task: outcome.task, ...echo }),
  // Only the same request gets its lease again: the log tells everyone who claimed under which command id.
  contextRepeated: ({ same, outcome, echo }) => {
    const deduped_task = same ? (outcome?.task ?? undefined) : undefined;
    return { ok: true, deduped: true, task: null, deduped_task, ...echo };
  },
  native: ({ outcome }) => {
    const { task, lease, claims, lock, reason, run_status, conflicts } = outcome;
    const claimed =
      claims === undefined ? claimMembers({ task, lease }) : { claims: claims.map(claimMembers) };
    const locked = lock === undefined ? undefined : lockMembers(lock);
    return { members: { ...claimed, lock: locked, reason, run_status, conflicts } };
  },
  represents: ["run", "blackboard"],
};

/** `POST …/tasks/claim` (contract 02 §5.5, 04 §4). */
export const claimTask = (call: Call) => mutate(claim, call);

export const transition: Mutation<"transition_task", "transitionTask"> = {
  body: "transitionTask",
  command: ({ command_id: _commandId, ...body }, call) => {
    checkBound(call.principal, "agent_id", body.agent_id?.trim());
    return {
      op: "transition_task",
      task_id: call.id("task_id"),
      ...body,
      task_types: typesOf(call),
    };
  },
  echo: "blackboard",
  context: ({ outcome: { task, patch }, echo }) => ({ ok: true, task, patch, ...echo }),
  contextRepeated: ({ currentTask, echo }) => ({ ok: true, deduped: true, task: currentTask, ...echo }),
  native: ({ outcome: { task, lease, standing } }) => ({
    members: { task, lease: lease === null ? undefined : leaseMembers(lease), ...standing },
    headers: { etag: `"${task.task_rev}"` },
  }),
  represents: ["run", "blackboard"],
};

/** `POST …/tasks/{task_id}/transition` (contract 02 §5.6, 04 §6). */
export const transitionTask = (call: Call) => mutate(transition, call);

export const cancellation: Mutation<"cancel_task", "cancelTask"> = {
  body: "cancelTask",
  bodyMayBeEmpty: true,
  command: ({ command_id: _commandId, ...asked }, call) => ({
    op: "cancel_task",
    task_id: call.id("task_id"),
    ...asked,
    task_types: typesOf(call),
  }),
  context: ({ outcome: { task } }) => ({ ok: true, task }),
  native: ({ outcome: { task } }) => ({
    members: { task, revoke_at_ms: task.cancellation?.revoke_at_ms ?? null },
    headers: { etag: `"${task.task_rev}"` },
  }),
  represents: ["run", "blackboard"],
};

/** `POST /v1/…/tasks/{task_id}/cancel`. */
export const cancelTask = (call: Call) => mutate(cancellation, call);

export const dependencyChange: Mutation<"change_dependencies", "changeDependencies"> = {
  body: "changeDependencies",
  command: ({ add, remove, expected_task_rev, task_id, lease_token }, call) => ({
    op: "change_dependencies",
    task_id: call.id("task_id"),
    add,
    remove,
    expected_task_rev,
    task_types: typesOf(call),
    proof: { task_id, lease_token },
  }),
  context: ({ outcome: { task } }) => ({ ok: true, task }),
  native: ({ outcome: { task, unknown_dependency_ids } }) => ({
    members: { task, unknown_dependency_ids },
    headers: { etag: `"${task.task_rev}"` },
  }),
  represents: ["run", "blackboard"],
};

/** `POST /v1/…/tasks/{task_id}/dependencies`. */
export const changeDependencies = (call: Call) => mutate(dependencyChange, call);

/** Types of tasks that the caller is bound to. */
function typesOf({ principal }: Call): readonly string[] | undefined {
  return principal.task_types ?? undefined;
}

/** What a claim says of a task that it took; nothing but nulls when it took none. */
function claimMembers({ task, lease }: { task: Task | null; lease: Lease | null }): Record<string, unknown> {
  return { task, lease: leaseMembers(lease), handover: task && handoverOf(task) };
}

function leaseMembers(lease: Lease | null): Record<string, unknown> | null {
  if (lease === null) return null;
  const { token, fence, expires_at_ms, expires_in_ms } = lease;
  return { token, fence, expires_at_ms, expires_in_ms };
}
