import { asciiLowerCase } from "../protocol/ascii.ts";
import {
  MAX_CLAIMED_LENGTH,
  MAX_PAYLOAD_BYTES,
  MAX_PROGRESS_DATA_BYTES,
  MAX_SEARCHED_PER_BATCH,
  MAX_TASKS_PER_BATCH,
  MAX_TASKS_PER_RUN,
} from "../protocol/limits.ts";
import type { Lock } from "../protocol/lock.ts";
import { type Stop, TASK_ACTIONS, type Task, type TaskAction } from "../protocol/task.ts";
import { claimStop } from "./claim-stop.ts";
import { isOverdue } from "./clocks.ts";
import type { CommandOf, TaskRow } from "./command.ts";
import { applyPayloadContract } from "./contract.ts";
import { releasedEvent } from "./decide-lock.ts";
import { endRequestedRollback } from "./decide-rollback.ts";
import type { Decision } from "./decision.ts";
import { duplicateDependency, unknownDependencies } from "./dependencies.ts";
import { type Context, Draft } from "./draft.ts";
import { findCycle, type Graph, type SearchAllowance, SearchExhausted } from "./graph.ts";
import { jsonTooLarge } from "./json-size.ts";
import { isStale, leaseMs, needsToken } from "./lease.ts";
import { underLease, unprovenLease, unprovenLeaseOf } from "./lease-proof.ts";
import { expiredLocks, obstacleTo } from "./locks.ts";
import { createTask, normaliseDependencies, requestedId } from "./new-task.ts";
import { claimedOutcome, createdOutcome, emptyClaim, transitionedOutcome } from "./outcome.ts";
import { payloadWithArtifact } from "./payload-artifact.ts";
import {
  agentBlank,
  cycleRefusal,
  fieldInvalid,
  limitExceeded,
  type Refusal,
  taskNotFound,
  tokenBound,
} from "./refusals.ts";
import { stopOf } from "./stop.ts";
import { applyAction, claim, heartbeatOf, requeueStale, type TaskChange } from "./task-actions.ts";
import type { View } from "./view.ts";

/**
 * Adds a batch of tasks, all or none (contract 04 §2, 07 D21). Rows whose command id is used, in the run or earlier in
 * the batch, are left out and named.
 */
export function decideCreate(command: CommandOf<"create_tasks">, view: View, context: Context): Decision {
  const { tasks: rows } = command;
  if (rows.length === 0) {
    return { ok: false, refusal: fieldInvalid("tasks", "non_empty", "must have at least one row") };
  }
  if (rows.length > MAX_TASKS_PER_BATCH) {
    return { ok: false, refusal: limitExceeded("tasks_per_batch", MAX_TASKS_PER_BATCH, rows.length) };
  }
  const unproven = unprovenLease(command, view, context);
  if (unproven !== null) return { ok: false, refusal: unproven };
  const board = new BoardInTheMaking(view);
  const terms = {
    defaults: view.head().run.settings?.task_defaults ?? {},
    strict: command.strict === true,
  };
  const draft = new Draft(view.head(), context, undefined, underLease(command, view));
  const used = new Set<string>();
  const deduped: string[] = [];
  // Rows may come in any order: a later one is as good as one that is there.
  const coming = new Set(rows.map(requestedId));
  const isKnown = (id: string) => coming.has(id) || board.has(id);

  for (const [index, row] of rows.entries()) {
    if (row.task_type.trim() === "") {
      return {
        ok: false,
        refusal: fieldInvalid(`tasks[${index}].task_type`, "non_blank", "must not be blank"),
      };
    }
    const commandId = row.command_id?.trim() ? row.command_id : undefined;
    if (commandId !== undefined) {
      if (used.has(commandId) || view.isCommandUsed(commandId)) {
        deduped.push(commandId);
        continue;
      }
      used.add(commandId);
    }
    const given = payloadWithArtifact(row.payload, row.payload_artifact, view, `tasks[${index}].payload`);
    if (!given.ok) return { ok: false, refusal: withRow(given.refusal, index) };
    const contracted = applyPayloadContract(row.task_type, given.payload, row.id ?? "");
    if (!contracted.ok) return { ok: false, refusal: withRow(contracted.refusal, index) };
    const id = requestedId(row) ?? `task-${context.newId()}`;
    const refusal =
      outOfBounds(command.task_types, row.task_type) ??
      // It may take the place of a task that is there.
      (command.task_types && outOfBounds(command.task_types, view.task(id)?.task_type)) ??
      jsonTooLarge("task_payload_bytes", contracted.payload, MAX_PAYLOAD_BYTES) ??
      (command.strict === true ? repeatedDependency(row, index) : null) ??
      board.refusalOf(id, row, command.replace_existing);
    if (refusal !== null) return { ok: false, refusal: withRow(refusal, index) };
    const change = createTask(row, id, contracted, terms, context.nowMs);
    if (command.strict === true) {
      Object.assign(change.eventPayload, unknownDependencies(change.task.depends_on_task_ids, isKnown));
    }
    board.put(draft.task(change, { commandId }));
  }
  return { ok: true, commits: draft.commits, outcome: createdOutcome(command, draft.commits, deduped) };
}

/**
 * Gives the next claimable task, or the next ones, to an agent (contract 04 §4; claims: several). Stale leases were requeued
 * before.
 */
export function decideClaim(
  command: CommandOf<"claim_task">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const agentId = command.agent_id.trim();
  if (agentId === "") return { ok: false, refusal: agentBlank };
  const { status } = view.head().run;
  const stop = command.strict === true ? claimStop(status) : null;
  const tasks = stop === null ? nextTasks(command, view, context.nowMs) : [];
  if (tasks.length === 0) {
    return { ok: true, commits: [], outcome: emptyClaim(command, stop ?? "nothing_claimable", status) };
  }
  const { locks: resources = [] } = command;
  const { conflicts, refusal } = obstacleTo(
    resources,
    view.head().locks,
    context.nowMs,
    context.lockComparisons,
  );
  if (refusal !== null) return { ok: false, refusal };
  if (conflicts.length > 0) {
    return { ok: true, commits: [], outcome: emptyClaim(command, "locks_held", status, conflicts) };
  }
  const draft = new Draft(view.head(), context);
  for (const [index, task] of tasks.entries()) {
    const eventId = `evt-${context.newId()}`;
    const lease = {
      agentId,
      maskedToken: context.maskToken(context.leaseToken(eventId)),
      fence: draft.nextSeq(),
      claimedAtMs: context.nowMs,
      expiresAtMs: context.nowMs + leaseMs(command.lease_ms),
    };
    // The first commit bears the command's id for all of them.
    const change = claim(task, lease);
    if (resources.length > 0) {
      const lock_id = `lock-${context.newId()}`;
      const { fence, expiresAtMs: expires_at_ms } = lease;
      const lock: Lock = { lock_id, agent_id: agentId, fence, resources, task_id: task.id, expires_at_ms };
      change.eventPayload.lock = lock;
    }
    draft.task(change, { eventId, commandId: index === 0 ? commandId : undefined });
  }
  const events = draft.commits.map(({ event }) => event);
  return { ok: true, commits: draft.commits, outcome: claimedOutcome(command, events, context) };
}

/** What a claim takes: as much as it asks for, as long as one answer can hold it. */
function nextTasks(command: CommandOf<"claim_task">, view: View, nowMs: number): Task[] {
  const { max = 1 } = command;
  if (max === 1) {
    const task = view.nextClaimable(command, nowMs);
    return task === null || isOverdue(task, nowMs) ? [] : [task];
  }
  const tasks: Task[] = [];
  let length = 0;
  for (const task of view.claimables(command, nowMs)) {
    // What is overdue was settled before; where that was too much at once, it is about to be.
    if (isOverdue(task, nowMs)) break;
    length += JSON.stringify(task).length;
    if (tasks.length > 0 && length > MAX_CLAIMED_LENGTH) break;
    tasks.push(task);
    if (tasks.length === max) break;
  }
  return tasks;
}

/** Applies one action to a task; the order of checks is the contract's (04 §6). */
export function decideTransition(
  command: CommandOf<"transition_task">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const task = view.task(command.task_id);
  if (task === null) return { ok: false, refusal: taskNotFound };
  const beyond = outOfBounds(command.task_types, task.task_type);
  if (beyond !== null) return { ok: false, refusal: beyond };
  const stale = movedOn(task, command.expected_task_rev);
  if (stale !== null) return { ok: false, refusal: stale };
  const word = asciiLowerCase(command.action.trim());
  const action = TASK_ACTIONS.find((known) => known === word) ?? null;
  const unproven = leaseProblem(task, action, command, context);
  if (unproven !== null) return { ok: false, refusal: unproven };
  if (action === null) {
    const message = `must be one of ${TASK_ACTIONS.join(", ")}`;
    return { ok: false, refusal: fieldInvalid("action", "one_of", message) };
  }
  const misplaced = misplacedField(command, action);
  if (misplaced !== null) return { ok: false, refusal: misplaced };
  const result = applyAction(task, action, command, context);
  if (!result.ok) return result;
  const stop = command.strict === true && action === "heartbeat" ? stopOf(view.head(), task) : null;
  const draft = new Draft(view.head(), context, commandId, underLease(command, view));
  const changed = draft.task(stop === null ? result.change : withStop(result.change, stop));
  const { event, patch } = onlyCommit(draft);
  endRequestedRollback(draft, view, changed);
  if (patch === null) throw new Error("a task commit has a patch");
  return { ok: true, commits: draft.commits, outcome: transitionedOutcome(command, event, patch, context) };
}

/** Records heartbeats that were answered before. The view tells of their progress; a lease that has ended since stays so. */
export function decideHeartbeats(
  command: CommandOf<"record_heartbeats">,
  view: View,
  context: Context,
): Decision {
  const draft = new Draft(view.head(), context);
  for (const { task_id, task_rev, expires_at_ms } of command.reports) {
    const task = view.task(task_id);
    if (task === null || task.task_rev !== task_rev || task.status !== "in_progress") continue;
    const recordedMs = task.lease_expires_at_ms ?? 0;
    const expiresAtMs = isStale(task, context.nowMs) ? recordedMs : Math.max(recordedMs, expires_at_ms);
    draft.task(heartbeatOf({ ...task, task_rev: task_rev + 1, lease_expires_at_ms: expiresAtMs }));
  }
  const recorded = draft.commits.length;
  return { ok: true, commits: draft.commits, outcome: { op: "record_heartbeats", recorded } };
}

/** Puts every task whose lease ran out back on the board, in list order (contract 04 §9). */
export function decideRequeue(view: View, context: Context): Decision {
  const draft = new Draft(view.head(), context);
  const stale = view.staleLeases(context.nowMs);
  for (const task of stale) draft.task(requeueStale(task, context));
  const { locks, run } = draft.head();
  const expired = expiredLocks(locks, context.nowMs).map(({ lock_id }) => lock_id);
  if (expired.length > 0) draft.event({ ...releasedEvent(expired, "expired"), status: run.status });
  return { ok: true, commits: draft.commits, outcome: { op: "requeue_stale", requeued: stale.length } };
}

/** The refusal of a command that expected another revision of the task. */
export function movedOn(task: Task, expected: number | undefined): Refusal | null {
  if (expected === undefined || expected === task.task_rev) return null;
  return { code: "TASK_REV_MISMATCH", error: "task revision mismatch", task_rev: task.task_rev };
}

/** A heartbeat's event tells what its answer does, so that a repeat gets the same. */
function withStop(change: TaskChange, stop: Stop): TaskChange {
  return { ...change, eventPayload: { ...change.eventPayload, stop } };
}

/** A caller that is bound to types of tasks has nothing to do with others. */
export function outOfBounds(
  allowed: readonly string[] | undefined,
  type: string | undefined,
): Refusal | null {
  if (allowed === undefined || type === undefined || allowed.includes(type)) return null;
  return tokenBound("task_types", [...allowed]);
}

function repeatedDependency({ depends_on_task_ids }: TaskRow, row: number): Refusal | null {
  const ids = normaliseDependencies(depends_on_task_ids);
  return duplicateDependency(ids, [], `tasks[${row}].depends_on_task_ids`);
}

/** A refusal that says which row of the batch it is about. */
function withRow(refusal: Refusal, row: number): Refusal {
  return { ...refusal, row };
}

/** Fields that say something of one kind of action only: elsewhere they would be lost, and nobody would know. */
function misplacedField(command: CommandOf<"transition_task">, action: TaskAction): Refusal | null {
  const { progress, retryable, error_code, status } = command;
  const isFailure = action === "fail" || (action === "status" && status === "failed");
  const reports = action === "heartbeat" || action === "fail" || action === "release";
  if (retryable !== undefined && action !== "fail") {
    return fieldInvalid("retryable", "only_with_fail", "goes with the action `fail` only");
  }
  if (error_code !== undefined && !isFailure) {
    return fieldInvalid("error_code", "only_with_fail", "goes with a failure only");
  }
  if (progress === undefined) return null;
  if (!reports) {
    const message = "goes with the actions `heartbeat`, `fail` and `release` only";
    return fieldInvalid("progress", "only_while_held", message);
  }
  return jsonTooLarge("progress_data_bytes", progress.data ?? null, MAX_PROGRESS_DATA_BYTES);
}

/** Contract 04 §7. By the strict rules, who sends a token says that it works under that lease, needed or not. */
function leaseProblem(
  task: Task,
  action: TaskAction | null,
  command: CommandOf<"transition_task">,
  context: Context,
): Refusal | null {
  const isNamed = command.strict === true && command.lease_token !== undefined;
  if (!isNamed && !needsToken(task, action, command.status ?? null, context.nowMs)) return null;
  return unprovenLeaseOf(task, command, context);
}

export function onlyCommit(draft: Draft) {
  const [commit] = draft.commits;
  if (commit === undefined) throw new Error("a task change makes one commit");
  return commit;
}

/** The refusal of dependencies that would make a task wait for itself, or that are too many to tell; null when they are neither. */
export function closesCycle(
  graph: Graph,
  id: string,
  dependencies: string[],
  allowance: SearchAllowance,
): Refusal | null {
  try {
    const cycle = findCycle(graph, id, dependencies, allowance);
    return cycle === null ? null : cycleRefusal(id, cycle);
  } catch (error) {
    if (!(error instanceof SearchExhausted)) throw error;
    const limit = MAX_SEARCHED_PER_BATCH;
    return limitExceeded("tasks_searched_for_cycles", limit, limit + 1);
  }
}

/** The board with the rows of a batch so far put onto it: later rows see earlier ones. */
class BoardInTheMaking implements Graph {
  readonly #view: View;
  readonly #added = new Map<string, Task>();
  readonly #dependents = new Map<string, string[]>();
  readonly #allowance: SearchAllowance = { left: MAX_SEARCHED_PER_BATCH };
  #count: number;

  constructor(view: View) {
    this.#view = view;
    this.#count = view.taskCount();
  }

  has(id: string): boolean {
    return this.#task(id) !== null;
  }

  /** Why a row cannot become the task `id`, or null. */
  refusalOf(id: string, row: TaskRow, replaceExisting: boolean): Refusal | null {
    const existing = this.#task(id);
    if (existing !== null && !(replaceExisting && isIdle(existing))) {
      return { code: "TASK_EXISTS", error: "task already exists", task_id: id };
    }
    if (existing === null && this.#count >= MAX_TASKS_PER_RUN) {
      return limitExceeded("tasks_per_run", MAX_TASKS_PER_RUN, this.#count + 1);
    }
    const dependencies = normaliseDependencies(row.depends_on_task_ids);
    // A task that keeps its edges, or loses some, closes no cycle.
    const kept = existing?.depends_on_task_ids ?? [];
    if (dependencies.every((dependency) => kept.includes(dependency))) return null;
    return closesCycle(this, id, dependencies, this.#allowance);
  }

  put(task: Task): void {
    const before = this.#task(task.id);
    if (before === null) this.#count += 1;
    for (const dependency of before?.depends_on_task_ids ?? []) {
      const dependents = this.#dependents.get(dependency);
      if (dependents !== undefined) {
        this.#dependents.set(
          dependency,
          dependents.filter((id) => id !== task.id),
        );
      }
    }
    this.#added.set(task.id, task);
    for (const dependency of task.depends_on_task_ids) {
      const dependents = this.#dependents.get(dependency);
      if (dependents === undefined) this.#dependents.set(dependency, [task.id]);
      else dependents.push(task.id);
    }
  }

  dependenciesOf(id: string): string[] {
    return this.#task(id)?.depends_on_task_ids ?? [];
  }

  dependentsOf(id: string): string[] {
    const stored = this.#view.dependentsOf(id).filter((dependent) => !this.#added.has(dependent));
    return [...stored, ...(this.#dependents.get(id) ?? [])];
  }

  #task(id: string): Task | null {
    return this.#added.get(id) ?? this.#view.task(id);
  }
}

/** Whether nobody works on a task and its work is not done: only then may a new one take its place (07 D50). */
function isIdle(task: Task): boolean {
  return task.status !== "in_progress" && task.status !== "done" && task.lease_token === undefined;
}
