import type { Command, CommandOf, TaskRow } from "../../src/domain/command.ts";
import { decide } from "../../src/domain/decide.ts";
import type { Context } from "../../src/domain/draft.ts";
import { newHead, type RunHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import type { Refusal } from "../../src/domain/refusals.ts";
import { newRun } from "../../src/domain/run.ts";
import type { RunHeader, Step } from "../../src/protocol/run.ts";
import type { WorkStatus } from "../../src/protocol/status.ts";
import type { Task } from "../../src/protocol/task.ts";
import type { RetryPolicy } from "../../src/protocol/task-life.ts";

/** The time at which the runs and tasks of these builders were made, epoch ms. */
export const CREATED = 1_000;

/** The commit time of {@link aContext}, epoch ms. */
export const NOW = 50_000;

/** The fingerprints that stand for lease tokens, see {@link aContext}. */
export const FINGERPRINT = /^sha256:[0-9a-f]{32}$/;

/** A run as creation leaves it, with some members changed. */
export function aRun(members: Partial<RunHeader> = {}): RunHeader {
  const draft = {
    run_id: "r",
    objective: "Ship it",
    run_type: "interactive",
    workspace: { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 1 },
    mcp_servers: [],
  };
  const tenant = { org_id: "local", workspace_id: "local", source: "local_implicit" } as const;
  return { ...newRun(draft, tenant, CREATED), ...members };
}

/** Steps by id and status, in order; each is titled by its id. */
export function stepsOf(statuses: Record<string, WorkStatus>): Step[] {
  return Object.entries(statuses).map(([step_id, status]) => ({
    step_id,
    title: `title of ${step_id}`,
    status,
  }));
}

/** A pending, free-form, unleased task, with some members changed. */
export function aTask(members: Partial<Task> = {}): Task {
  return {
    id: "t",
    task_type: "free",
    payload: null,
    status: "pending",
    depends_on_task_ids: [],
    decision_ids: [],
    artifact_ids: [],
    priority: 0,
    attempt: 0,
    max_attempts: 3,
    task_rev: 1,
    created_ts: CREATED,
    updated_ts: CREATED,
    ...members,
  };
}

/** The lease fields of a task that `agent` holds with this token until `expires` (default: still good at {@link NOW}). */
export function leasedTo(agent: string, token: string, expires = NOW + 1): Partial<Task> {
  return {
    assigned_agent: agent,
    lease_owner: agent,
    lease_token: maskToken(token),
    lease_expires_at_ms: expires,
  };
}

/** A policy whose waits chance does not change. */
export const RETRY: RetryPolicy = {
  base_ms: 100,
  factor: 2,
  max_ms: 1_000,
  jitter: 0,
  non_retryable: ["BAD_INPUT"],
};

/** A task under that policy, held by `ann` since {@link NOW} - 10. */
export function heldTask(members: Partial<Task> = {}): Task {
  return aTask({
    status: "in_progress",
    retry: RETRY,
    ...leasedTo("ann", "lease-1"),
    fence: 7,
    claimed_at_ms: NOW - 10,
    ...members,
  });
}

/** A row of a batch as a client sends it: only what it must say, with some members changed. */
export function aRow(members: Partial<TaskRow> = {}): TaskRow {
  return {
    task_type: "free",
    payload: null,
    depends_on_task_ids: [],
    decision_ids: [],
    artifact_ids: [],
    ...members,
  };
}

/** A run in memory with these header members and tasks, and the head of before it was made. */
export function memoryRun(members: Partial<RunHeader> = {}, tasks: Task[] = []): MemoryRun {
  return new MemoryRun(newHead(aRun(members)), tasks);
}

/** A run in memory from a whole head. */
export function memoryRunOf(head: Partial<RunHead>): MemoryRun {
  return new MemoryRun({ ...newHead(aRun()), ...head });
}

/**
 * Stands for a token: like the engine's, it is of the form `sha256:<32 hex digits>` and the same for the same token.
 * It is no SHA-256; nothing here rests on its strength.
 */
export function maskToken(token: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const char of token)
    hash = BigInt.asUintN(64, (hash ^ BigInt(char.codePointAt(0) ?? 0)) * 0x100000001b3n);
  const hex = hash.toString(16).padStart(16, "0");
  return `sha256:${hex}${[...hex].toReversed().join("")}`;
}

/** Context members that need no clock: counted ids, tokens derived from them. */
export function idSource(): Omit<Context, "nowMs"> {
  let ids = 0;
  return {
    newId: () => {
      ids += 1;
      return `00000000-0000-4000-8000-${ids.toString(16).padStart(12, "0")}`;
    },
    random: () => 0,
    leaseToken: (eventId) => `lease-${eventId.replace(/^evt-/, "")}`,
    maskToken,
  };
}

/** A deterministic context: fixed time, counted ids. */
export function aContext(nowMs = NOW): Context {
  return { nowMs, ...idSource() };
}

/** The accepted decision of a command; throws on a refusal. The view is left as it was. */
export function accepted(command: Command, view: MemoryRun, context = aContext(), commandId?: string) {
  const decision = decide(command, view, context, commandId);
  if (!decision.ok) throw new Error(`refused: ${JSON.stringify(decision.refusal)}`);
  return decision;
}

/** Decides a command, applies its commits to the view and returns them. */
export function committed(command: Command, view: MemoryRun, context = aContext(), commandId?: string) {
  const { commits } = accepted(command, view, context, commandId);
  for (const commit of commits) view.apply(commit);
  return commits;
}

/** The refusal of a command; throws when it is accepted. */
export function refused(command: Command, view: MemoryRun, context = aContext()): Refusal {
  const decision = decide(command, view, context);
  if (decision.ok) throw new Error(`accepted: ${JSON.stringify(decision.commits)}`);
  return decision.refusal;
}

/** A batch as `/context` sends it: idle tasks of the same id give way. */
export function batch(...tasks: TaskRow[]): CommandOf<"create_tasks"> {
  return { op: "create_tasks", tasks, replace_existing: true };
}

/** A transition of the task `t`. */
export function transition(
  action: string,
  members: Partial<CommandOf<"transition_task">> = {},
): CommandOf<"transition_task"> {
  return { op: "transition_task", task_id: "t", action, ...members };
}
