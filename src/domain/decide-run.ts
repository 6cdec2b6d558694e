import { isEngineEventType } from "../protocol/event.ts";
import {
  MAX_PAYLOAD_BYTES,
  MAX_REPLACED_RUN_BYTES,
  MAX_RUN_HEADER_BYTES,
  MAX_STEPS_BYTES,
  MAX_STEPS_PER_RUN,
  MAX_TASK_BYTES,
  MAX_TASKS_PER_RUN,
} from "../protocol/limits.ts";
import type { Run, RunHeader } from "../protocol/run.ts";
import type { Task } from "../protocol/task.ts";
import type { CommandOf } from "./command.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { DRIVER, selectNextStep } from "./driver.ts";
import { adoptWorkspace } from "./evolve.ts";
import { jsonTooLarge } from "./json-size.ts";
import { selectionRecorded, validationRecorded } from "./outcome.ts";
import { fieldInvalid, limitExceeded, type Refusal } from "./refusals.ts";
import { isTerminal, withStatus, withStepStatus } from "./run.ts";
import { mergeTodos, statusAfterTodos, whyAfterTodos } from "./todos.ts";
import type { View } from "./view.ts";
import { normalisePath } from "./workspace.ts";

/** Appends a client's event; task events have their own routes (contract 03 §1, 07 D07, D08). */
export function decideAppend(
  command: CommandOf<"append_event">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  if (command.type.trim().toLowerCase().startsWith("context.task.")) {
    return {
      ok: false,
      refusal: {
        code: "TASK_EVENT_APPEND_DISABLED",
        error: "task events must go through the run task endpoints",
      },
    };
  }
  const tooLarge = jsonTooLarge("event_payload_bytes", command.payload, MAX_PAYLOAD_BYTES);
  if (tooLarge !== null) return { ok: false, refusal: tooLarge };
  const draft = new Draft(view.head(), context, commandId);
  const event = draft.event({
    type: command.type,
    status: command.status,
    step_id: command.step_id,
    origin: isEngineEventType(command.type) ? "client" : undefined,
    payload: command.payload,
  });
  return { ok: true, commits: draft.commits, outcome: { op: "append_event", event } };
}

/**
 * Replaces a run by a client's copy (contract 02 §2.4). The tenant and the counters stay the engine's, and lease tokens
 * become fingerprints, so that a copy read here and put back keeps its leases (07 D02, D05, D17, D66).
 */
export function decideReplace(
  command: CommandOf<"replace_run">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const head = view.head();
  const expected = command.expected_revision;
  if (expected !== undefined && expected !== head.run.revision) {
    const error = `run is at revision ${head.run.revision}, not ${expected}`;
    return {
      ok: false,
      refusal: { code: "RUN_REVISION_MISMATCH", error, revision: head.run.revision },
    };
  }
  const { run } = command;
  if (run.run_id !== head.run.run_id) {
    return { ok: false, refusal: fieldInvalid("run_id", "same_as_path", "must be the run id of the path") };
  }
  if (run.steps.length > MAX_STEPS_PER_RUN) return tooManySteps(run.steps.length);
  if (run.tasks.length > MAX_TASKS_PER_RUN) {
    return { ok: false, refusal: limitExceeded("tasks_per_run", MAX_TASKS_PER_RUN, run.tasks.length) };
  }
  const duplicate = firstDuplicate(run.tasks.map((task) => task.id));
  if (duplicate !== null) {
    return { ok: false, refusal: fieldInvalid("tasks", "unique_ids", `has the task id ${duplicate} twice`) };
  }
  const { ended_at_ms: _ended, ...body } = run;
  const replacement: Run = {
    ...body,
    ...(run.ended_at_ms !== undefined && isTerminal(run.status) && { ended_at_ms: run.ended_at_ms }),
    tenant_context: head.run.tenant_context,
    tasks: run.tasks.map((task) => maskTask(task, context)),
  };
  if (isTerminal(run.status)) replacement.ended_at_ms ??= context.nowMs;
  const { tasks, ...header } = replacement;
  const tooLarge =
    jsonTooLarge("replaced_run_bytes", replacement, MAX_REPLACED_RUN_BYTES) ??
    jsonTooLarge("run_header_bytes", header, MAX_RUN_HEADER_BYTES) ??
    firstTooLarge(tasks);
  if (tooLarge !== null) return { ok: false, refusal: tooLarge };

  const draft = new Draft(head, context, commandId);
  const event = draft.event({
    type: "context.run.replaced",
    status: run.status,
    payload: { run: replacement },
  });
  return { ok: true, commits: draft.commits, outcome: { op: "replace_run", event } };
}

/** Merges a todo list into the steps (contract 03 §5). */
export function decideTodos(
  command: CommandOf<"sync_todos">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const head = view.head();
  const steps = mergeTodos(head.run.steps, command.todos, command.replace);
  if (steps.length > MAX_STEPS_PER_RUN) return tooManySteps(steps.length);
  const tooLarge = jsonTooLarge("steps_bytes", steps, MAX_STEPS_BYTES);
  if (tooLarge !== null) return { ok: false, refusal: tooLarge };
  const why_next_step = whyAfterTodos(steps);
  const after = {
    ...withStatus(head.run, statusAfterTodos(head.run, steps), context.nowMs),
    steps,
    why_next_step,
  };
  const draft = new Draft(head, context, commandId);
  const event = draft.event({
    type: "todo_synced",
    status: after.status,
    payload: {
      count: steps.length,
      replace: command.replace,
      source_session_id: command.source_session_id,
      source_run_id: command.source_run_id,
      todos: command.todos.map((todo) => ({
        id: todo.id ?? null,
        content: todo.content,
        status: todo.status ?? null,
      })),
      why_next_step,
      steps,
      run: snapshot(after),
    },
  });
  return { ok: true, commits: draft.commits, outcome: { op: "sync_todos", event } };
}

/** Lets the driver choose the next step; a dry run only tells (contract 03 §6). */
export function decideSelect(
  command: CommandOf<"select_next_step">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const head = view.head();
  const selection = selectNextStep(head.run);
  const selected_step_id = selection.step?.step_id ?? null;
  if (command.dry_run) {
    return {
      ok: true,
      commits: [],
      outcome: {
        op: "select_next_step",
        dry_run: true,
        selected_step_id,
        target_status: selection.status,
        why_next_step: selection.why,
        event: null,
      },
    };
  }
  const steps =
    selected_step_id === null
      ? head.run.steps
      : withStepStatus(head.run.steps, selected_step_id, "in_progress");
  const after = {
    ...withStatus(head.run, selection.status, context.nowMs),
    steps,
    why_next_step: selection.why,
  };
  const draft = new Draft(head, context, commandId);
  const event = draft.event({
    type: "meta_next_step_selected",
    status: selection.status,
    step_id: selected_step_id ?? undefined,
    payload: {
      why_next_step: selection.why,
      selected_step_id,
      selected_step_previous_status: selection.step?.status ?? null,
      driver: DRIVER,
      steps,
      run: snapshot(after),
    },
  });
  return { ok: true, commits: draft.commits, outcome: selectionRecorded(event) };
}

/** Compares an agent's path with the run's workspace: adopt, pause, or nothing (contract 03 §7, 07 D70). */
export function decideWorkspace(
  command: CommandOf<"validate_workspace">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const head = view.head();
  const { run } = head;
  const expected = normalisePath(run.workspace.canonical_path);
  const actual = normalisePath(command.current_path);
  const record = (type: string, after: RunHeader, expectedPath: string): Decision => {
    const draft = new Draft(head, context, commandId);
    const event = draft.event({
      type,
      status: after.status,
      step_id: command.step_id,
      payload: {
        phase: command.phase,
        expected_path: expectedPath,
        actual_path: command.current_path,
        run: snapshot(after),
      },
    });
    return { ok: true, commits: draft.commits, outcome: validationRecorded(event) };
  };

  if (expected === "") {
    if (actual === "") {
      return { ok: false, refusal: fieldInvalid("current_path", "non_blank", "must not be blank") };
    }
    return record("workspace_validated", adoptWorkspace(run, command.current_path), command.current_path);
  }
  if (expected === actual) {
    return {
      ok: true,
      commits: [],
      outcome: { op: "validate_workspace", mismatch: null, run_status: run.status, event: null },
    };
  }
  const last = head.last_mismatch;
  const isRepeat =
    run.status === "paused" &&
    last !== null &&
    last.phase === command.phase &&
    last.current_path === command.current_path &&
    last.step_id === (command.step_id ?? null);
  if (isRepeat || isTerminal(run.status)) {
    const mismatch = { expected_path: run.workspace.canonical_path, actual_path: command.current_path };
    return {
      ok: true,
      commits: [],
      outcome: { op: "validate_workspace", mismatch, run_status: run.status, event: null },
    };
  }
  return record("workspace_mismatch", withStatus(run, "paused", context.nowMs), run.workspace.canonical_path);
}

/** The `run` member of snapshot events: without tasks, whose number must not decide what a commit costs (07 D33). */
function snapshot(run: RunHeader): Run {
  return { ...run, tasks: [] };
}

function maskTask(task: Task, context: Context): Task {
  if (task.lease_token === undefined || /^sha256:[0-9a-f]{32}$/.test(task.lease_token)) return task;
  return { ...task, lease_token: context.maskToken(task.lease_token) };
}

function tooManySteps(count: number): Decision {
  return { ok: false, refusal: limitExceeded("steps_per_run", MAX_STEPS_PER_RUN, count) };
}

function firstTooLarge(tasks: Task[]): Refusal | null {
  for (const task of tasks) {
    const refusal = jsonTooLarge("task_bytes", task, MAX_TASK_BYTES);
    if (refusal !== null) return refusal;
  }
  return null;
}

function firstDuplicate(ids: string[]): string | null {
  const seen = new Set<string>();
  return ids.find((id) => seen.size === seen.add(id).size) ?? null;
}
