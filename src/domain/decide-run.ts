import { asciiLowerCase } from "../protocol/ascii.ts";
import { isEngineEventType } from "../protocol/event.ts";
import { MAX_PAYLOAD_BYTES, MAX_STEPS_BYTES, MAX_STEPS_PER_RUN } from "../protocol/limits.ts";
import type { Run, RunHeader } from "../protocol/run.ts";
import type { CommandOf } from "./command.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { DRIVER, selectNextStep } from "./driver.ts";
import { adoptWorkspace } from "./evolve.ts";
import { jsonTooLarge } from "./json-size.ts";
import { underLease, unprovenLease } from "./lease-proof.ts";
import { selectionRecorded, validationRecorded } from "./outcome.ts";
import { payloadWithArtifact } from "./payload-artifact.ts";
import { fieldInvalid, limitExceeded } from "./refusals.ts";
import { isTerminal, withStatus } from "./run.ts";
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
  if (asciiLowerCase(command.type.trim()).startsWith("context.task.")) {
    return {
      ok: false,
      refusal: {
        code: "TASK_EVENT_APPEND_DISABLED",
        error: "task events must go through the run task endpoints",
      },
    };
  }
  const unproven = unprovenLease(command, view, context);
  if (unproven !== null) return { ok: false, refusal: unproven };
  const given = payloadWithArtifact(command.payload, command.payload_artifact, view, "payload");
  if (!given.ok) return given;
  const { payload } = given;
  const tooLarge = jsonTooLarge("event_payload_bytes", payload, MAX_PAYLOAD_BYTES);
  if (tooLarge !== null) return { ok: false, refusal: tooLarge };
  const draft = new Draft(view.head(), context, commandId, underLease(command, view));
  const event = draft.event({
    type: command.type,
    status: command.status ?? view.head().run.status,
    step_id: command.step_id,
    origin: isEngineEventType(command.type) ? "client" : undefined,
    payload,
  });
  return { ok: true, commits: draft.commits, outcome: { op: "append_event", event } };
}

/** Merges a todo list into the steps (contract 03 §5). */
export function decideTodos(
  command: CommandOf<"sync_todos">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const unproven = unprovenLease(command, view, context);
  if (unproven !== null) return { ok: false, refusal: unproven };
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
  const draft = new Draft(head, context, commandId, underLease(command, view));
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
  // By place, not by id: a todo list may have brought the same id twice.
  const steps =
    selection.step === null
      ? head.run.steps
      : head.run.steps.with(head.run.steps.indexOf(selection.step), {
          ...selection.step,
          status: "in_progress",
        });
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
    last !== null &&
    last.expected_path === run.workspace.canonical_path &&
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

function tooManySteps(count: number): Decision {
  return { ok: false, refusal: limitExceeded("steps_per_run", MAX_STEPS_PER_RUN, count) };
}
