import {
  MAX_REPLACED_RUN_BYTES,
  MAX_RUN_HEADER_BYTES,
  MAX_STEPS_PER_RUN,
  MAX_TASK_BYTES,
  MAX_TASKS_PER_RUN,
} from "../protocol/limits.ts";
import type { Run } from "../protocol/run.ts";
import type { Task } from "../protocol/task.ts";
import { carriedOver } from "./carry-over.ts";
import type { CommandOf } from "./command.ts";
import { settingsTooLarge } from "./decide-settings.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { cycleAmong } from "./graph.ts";
import { jsonTooLarge } from "./json-size.ts";
import { cycleRefusal, fieldInvalid, limitExceeded, type Refusal, runMovedOn } from "./refusals.ts";
import { isTerminal, withSettings } from "./run.ts";
import type { View } from "./view.ts";

/**
 * Replaces a run by a client's copy (contract 02 §2.4). The tenant, the origin and the counters stay the engine's, and lease tokens
 * become fingerprints, so that a copy read here and put back keeps its leases (07 D02, D05, D17, D66). So does what the contract does not
 * know of a run or task, where the copy leaves it out (carry-over.ts).
 */
export function decideReplace(
  command: CommandOf<"replace_run">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const head = view.head();
  const expected = command.expected_revision;
  const movedOn = expected === undefined ? null : runMovedOn(head.run.revision, expected);
  if (movedOn !== null) return { ok: false, refusal: movedOn };
  const { run } = command;
  if (run.run_id !== head.run.run_id) {
    return { ok: false, refusal: fieldInvalid("run_id", "same_as_path", "must be the run id of the path") };
  }
  if (run.steps.length > MAX_STEPS_PER_RUN) {
    const refusal = limitExceeded("steps_per_run", MAX_STEPS_PER_RUN, run.steps.length);
    return { ok: false, refusal };
  }
  if (run.tasks.length > MAX_TASKS_PER_RUN) {
    return { ok: false, refusal: limitExceeded("tasks_per_run", MAX_TASKS_PER_RUN, run.tasks.length) };
  }
  const duplicate = firstDuplicate(run.tasks.map((task) => task.id));
  if (duplicate !== null) {
    return { ok: false, refusal: fieldInvalid("tasks", "unique_ids", `has the task id ${duplicate} twice`) };
  }
  const cycle = cycleAmong(run.tasks);
  if (cycle !== null) return { ok: false, refusal: cycleRefusal(cycle[0] ?? "", cycle) };
  const { ended_at_ms: _ended, forked_from: _origin, ...body } = run;
  const settings = run.settings ?? head.run.settings;
  const asSent: Run = {
    ...body,
    ...(isTerminal(run.status) && { ended_at_ms: run.ended_at_ms ?? context.nowMs }),
    tenant_context: head.run.tenant_context,
    ...(head.run.forked_from !== undefined && { forked_from: head.run.forked_from }),
    tasks: run.tasks.map((task) => carriedOver(maskTask(task, context), view.task(task.id), context.nowMs)),
  };
  const replacement = withSettings(asSent, settings);
  const { tasks, ...header } = replacement;
  const tooLarge =
    jsonTooLarge("replaced_run_bytes", replacement, MAX_REPLACED_RUN_BYTES) ??
    jsonTooLarge("run_header_bytes", header, MAX_RUN_HEADER_BYTES) ??
    settingsTooLarge(settings ?? {}) ??
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

/**
 * A task of a client's copy, with the fingerprint of its lease token instead of the token: the log never holds one. A
 * fingerprint that was read here is put back as it is.
 */
function maskTask(task: Task, context: Context): Task {
  if (task.lease_token === undefined || /^sha256:[0-9a-f]{32}$/.test(task.lease_token)) return task;
  return { ...task, lease_token: context.maskToken(task.lease_token) };
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
