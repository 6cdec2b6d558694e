import type { PatchOp } from "../protocol/blackboard.ts";
import type { WorkStatus } from "../protocol/status.ts";
import type { Task, TaskAction } from "../protocol/task.ts";
import type { Progress } from "../protocol/task-life.ts";
import { afterAttempt, type Moment, withAttempt } from "./attempts.ts";
import { leaseMs, withoutLease } from "./lease.ts";
import { leaseRefusal } from "./lease-proof.ts";
import { fieldInvalid, type Refusal } from "./refusals.ts";

/** What a transition asks for, after the lease was proven (contract 02 §5.6). */
export interface ActionInput {
  agent_id?: string | undefined;
  status?: WorkStatus | undefined;
  error?: string | undefined;
  error_code?: string | undefined;
  /** Of a failure: false says that another attempt makes no sense. */
  retryable?: boolean | undefined;
  /** How far the holder has come. */
  progress?: Omit<Progress, "at_ms"> | undefined;
  lease_ms?: number | undefined;
}

/** The changed task with the event and patch that record it (contract 04 §8.2, §8.3). */
export interface TaskChange {
  task: Task;
  eventType: string;
  eventPayload: Record<string, unknown>;
  patchOp: PatchOp;
  patchPayload: Record<string, unknown>;
}

export type ActionResult = { ok: true; change: TaskChange } | { ok: false; refusal: Refusal };

/** Which status an explicit `status` action may lead to; staying put is always allowed (contract 04 §8.1). */
const STATUS_MATRIX: Readonly<Record<WorkStatus, readonly WorkStatus[]>> = {
  pending: ["pending", "runnable", "blocked"],
  runnable: ["runnable", "blocked"],
  in_progress: ["runnable", "in_progress", "blocked", "done", "failed"],
  blocked: ["runnable", "blocked", "failed"],
  done: ["done"],
  failed: ["runnable", "failed"],
};

/** What a patch says of a task without a lease. */
export const NO_LEASE = { lease_owner: null, lease_token: null, lease_expires_at_ms: null };

/** Applies one action to a task (contract 04 §8). Pure; the caller has checked revision and lease. */
export function applyAction(
  task: Task,
  action: TaskAction,
  input: ActionInput,
  moment: Moment,
): ActionResult {
  switch (action) {
    case "heartbeat":
      return heartbeat(task, input, moment.nowMs);
    case "status":
      return setStatus(task, input, moment);
    case "complete":
      return complete(task, input);
    case "fail":
      return fail(task, input, moment);
    case "release":
      return release(task, input, moment);
    case "retry":
      return retry(task, input, moment);
  }
}

function heartbeat(task: Task, input: ActionInput, nowMs: number): ActionResult {
  if (task.status !== "in_progress") return invalid(task, "heartbeat requires an in_progress task");
  const agent = input.agent_id?.trim() ?? "";
  const owner = agent === "" ? task.lease_owner : agent;
  if (task.lease_owner !== undefined && owner !== task.lease_owner) {
    return { ok: false, refusal: leaseRefusal(task, "TASK_LEASE_INVALID", "lease is held by another agent") };
  }
  const next: Task = {
    ...reported(revised(task, agent === "" ? {} : { agent_id: agent }), input, nowMs),
    ...(owner !== undefined && { lease_owner: owner }),
    lease_expires_at_ms: nowMs + leaseMs(input.lease_ms),
  };
  return { ok: true, change: heartbeatOf(next) };
}

/** The commit of a heartbeat. @param task as it is afterwards. */
export function heartbeatOf(task: Task): TaskChange {
  return {
    task,
    eventType: "context.task.heartbeat",
    eventPayload: { task_id: task.id, task_rev: task.task_rev },
    patchOp: "update_task_lease",
    patchPayload: {
      task_id: task.id,
      ...leaseMembers(task),
      assigned_agent: task.assigned_agent ?? null,
      task_rev: task.task_rev,
      ...(task.progress !== undefined && { progress: task.progress }),
    },
  };
}

function setStatus(task: Task, input: ActionInput, moment: Moment): ActionResult {
  const requested = input.status;
  if (requested === undefined) {
    return { ok: false, refusal: fieldInvalid("status", "required", "is required for action `status`") };
  }
  if (!STATUS_MATRIX[task.status].includes(requested)) {
    return {
      ok: false,
      refusal: {
        code: "TASK_TRANSITION_INVALID",
        error: "invalid task status transition",
        current_status: task.status,
        requested_status: requested,
      },
    };
  }
  // Whoever gives up what is to be cancelled ends it, whatever it should become.
  const givesUp = requested !== "in_progress" && requested !== "blocked" && requested !== "done";
  if (task.cancellation !== undefined && givesUp) return release(task, input, moment);
  const next: Task = {
    ...inStatus(revised(task, input), requested, input, moment),
    ...(input.error !== undefined && { last_error: input.error }),
  };
  return changed(next, input, {
    ...leaseMembers(next),
    assigned_agent: next.assigned_agent ?? null,
    task_rev: next.task_rev,
    error: next.last_error ?? null,
    attempt: next.attempt,
  });
}

/** The task in a status that is asked for by name. */
function inStatus(task: Task, requested: WorkStatus, input: ActionInput, moment: Moment): Task {
  // Blocked work may go on under its lease; every other end of in_progress ends the lease too (07 D56).
  if (requested === "in_progress" || requested === "blocked") return { ...task, status: requested };
  if (requested === "done") return { ...withoutLease(uncancelled(task)), status: requested };
  const outcome = requested === "failed" ? "failed" : "released";
  // Who names the status of work under a policy means it: there is no other attempt.
  if (requested === "failed" && isActive(task) && task.retry !== undefined) {
    return afterAttempt(task, { ...input, outcome, retryable: false }, moment);
  }
  const ended = withAttempt(task, { ...input, outcome }, moment.nowMs);
  return { ...(requested === "failed" ? ended : revived(ended, moment.nowMs)), status: requested };
}

function complete(task: Task, input: ActionInput): ActionResult {
  if (task.status !== "in_progress") return invalid(task, "task must be in_progress before completion");
  const { last_error: _error, ...rest } = withoutLease(uncancelled(revised(task, input)));
  const next: Task = { ...rest, status: "done" };
  return changed(next, input, ended(next));
}

function fail(task: Task, input: ActionInput, moment: Moment): ActionResult {
  if (!isActive(task)) return invalid(task, "task must be active before failure is recorded");
  const next: Task = {
    ...afterAttempt(
      reported(revised(task, input), input, moment.nowMs),
      { ...input, outcome: "failed" },
      moment,
    ),
    ...(input.error !== undefined && { last_error: input.error }),
  };
  return changed(next, input, { ...ended(next), error: next.last_error ?? null, ...comingBack(next) });
}

function release(task: Task, input: ActionInput, moment: Moment): ActionResult {
  if (!isActive(task)) return invalid(task, "task must be active before release");
  const held = reported(revised(task, {}), input, moment.nowMs);
  const next = afterAttempt(held, { outcome: "released", error: input.error }, moment);
  return changed(next, input, ended(next));
}

function retry(task: Task, input: ActionInput, moment: Moment): ActionResult {
  const { nowMs } = moment;
  if (task.status !== "failed" && task.status !== "blocked") {
    return invalid(task, "task must be failed or blocked before retry");
  }
  if (task.cancellation !== undefined) return release(task, input, moment);
  const released = withAttempt(revised(task, {}), { outcome: "released" }, nowMs);
  const { last_error: _error, ...rest } = revived(released, nowMs);
  const next: Task = { ...rest, status: "runnable", attempt: task.attempt + 1, next_retry_at_ms: nowMs };
  return changed(next, input, { ...ended(next), error: null, next_retry_at_ms: nowMs });
}

/** Puts a dead letter back on the board as if it were new: its clocks start now, and what was tried is only told. */
export function redrive(task: Task, eventPayload: Record<string, unknown>, nowMs: number): TaskChange {
  const { last_error: _error, next_retry_at_ms: _retry, ...rest } = unfailed(task);
  const next: Task = {
    ...rest,
    status: "runnable",
    attempt: 0,
    redriven_at_ms: nowMs,
    task_rev: task.task_rev + 1,
  };
  return {
    task: next,
    eventType: "context.task.redriven",
    eventPayload: {
      task_id: next.id,
      task_rev: next.task_rev,
      status: next.status,
      cause: task.failure?.cause ?? null,
      ...eventPayload,
    },
    patchOp: "update_task_state",
    patchPayload: {
      task_id: next.id,
      status: next.status,
      ...ended(next),
      error: null,
      next_retry_at_ms: null,
    },
  };
}

/** Puts a task whose lease ran out back on the board (contract 04 §9). */
export function requeueStale(task: Task, moment: Moment): TaskChange {
  const who = task.lease_owner ?? task.assigned_agent ?? "unknown-agent";
  const error = `task lease expired while assigned to ${who}`;
  const next: Task = {
    ...afterAttempt(task, { outcome: "lease_expired", error }, moment),
    last_error: error,
    task_rev: task.task_rev + 1,
  };
  return {
    task: next,
    eventType: next.status === "failed" ? "context.task.failed" : "context.task.stale_requeued",
    eventPayload: {
      task_id: task.id,
      workflow_id: task.workflow_id ?? null,
      lease_owner: who,
      stale_requeue: true,
    },
    patchOp: "update_task_state",
    patchPayload: {
      task_id: task.id,
      status: next.status,
      ...NO_LEASE,
      task_rev: next.task_rev,
      error,
      attempt: next.attempt,
      ...comingBack(next),
      stale_requeue: true,
    },
  };
}

/** What a claim gives: `maskedToken` is the token's fingerprint, `fence` the claim's seq. Epoch ms. */
export interface NewLease {
  agentId: string;
  maskedToken: string;
  fence: number;
  claimedAtMs: number;
  expiresAtMs: number;
}

/** Gives a claimable task to an agent (contract 04 §4 step 8). */
export function claim(task: Task, lease: NewLease): TaskChange {
  const { agentId } = lease;
  const next: Task = {
    ...task,
    status: "in_progress",
    assigned_agent: agentId,
    lease_owner: agentId,
    lease_token: lease.maskedToken,
    lease_expires_at_ms: lease.expiresAtMs,
    fence: lease.fence,
    claimed_at_ms: lease.claimedAtMs,
    task_rev: task.task_rev + 1,
  };
  return {
    task: next,
    eventType: "context.task.claimed",
    eventPayload: {
      task_id: next.id,
      agent_id: agentId,
      task_rev: next.task_rev,
      workflow_id: next.workflow_id ?? null,
    },
    patchOp: "update_task_state",
    patchPayload: {
      task_id: next.id,
      status: "in_progress",
      assigned_agent: agentId,
      ...leaseMembers(next),
      task_rev: next.task_rev,
    },
  };
}

/** The task with its holder's report. */
function reported(task: Task, { progress }: ActionInput, nowMs: number): Task {
  return progress === undefined ? task : { ...task, progress: { ...progress, at_ms: nowMs } };
}

/** The task without what says how it failed for good. */
function unfailed({ dead_letter: _letter, failure: _failure, ...task }: Task): Task {
  return task;
}

/** The task, given another chance where it had failed: with clocks that have run out it would fail again at once. */
function revived(task: Task, nowMs: number): Task {
  const isLate = task.status === "failed" && task.clocks !== undefined;
  return { ...unfailed(task), ...(isLate && { redriven_at_ms: nowMs }) };
}

/** The task without a request to stop: it came to its end before. */
function uncancelled({ cancellation: _cancellation, ...task }: Task): Task {
  return task;
}

function isActive(task: Task): boolean {
  return task.status === "in_progress" || task.status === "blocked";
}

/** One revision on, assigned to the request's agent if it names one. */
function revised(task: Task, input: ActionInput): Task {
  const agent = input.agent_id === undefined ? {} : { assigned_agent: input.agent_id };
  return { ...task, ...agent, task_rev: task.task_rev + 1 };
}

function changed(task: Task, input: ActionInput, patch: Record<string, unknown>): ActionResult {
  return {
    ok: true,
    change: {
      task,
      eventType: EVENT_OF_STATUS[task.status],
      eventPayload: {
        task_id: task.id,
        task_rev: task.task_rev,
        status: task.status,
        error: input.error ?? null,
        ...(input.error_code !== undefined && { error_code: input.error_code }),
      },
      patchOp: "update_task_state",
      patchPayload: { task_id: task.id, status: task.status, ...patch },
    },
  };
}

const EVENT_OF_STATUS: Readonly<Record<WorkStatus, string>> = {
  in_progress: "context.task.started",
  done: "context.task.completed",
  failed: "context.task.failed",
  blocked: "context.task.blocked",
  runnable: "context.task.requeued",
  pending: "context.task.requeued",
};

/** When a task can be claimed again, where it can. */
export function comingBack(task: Task): Record<string, unknown> {
  if (task.dead_letter === true) return { dead_letter: true };
  return task.status === "runnable" ? { next_retry_at_ms: task.next_retry_at_ms ?? null } : {};
}

function ended(task: Task): Record<string, unknown> {
  return {
    ...NO_LEASE,
    assigned_agent: task.assigned_agent ?? null,
    task_rev: task.task_rev,
    attempt: task.attempt,
  };
}

function leaseMembers(task: Task): Record<string, unknown> {
  return {
    lease_owner: task.lease_owner ?? null,
    lease_token: task.lease_token ?? null,
    lease_expires_at_ms: task.lease_expires_at_ms ?? null,
  };
}

function invalid(task: Task, error: string): ActionResult {
  return { ok: false, refusal: { code: "TASK_TRANSITION_INVALID", error, current_status: task.status } };
}
