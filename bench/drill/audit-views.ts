import type { AuditInput } from "./audit.ts";
import type { History } from "./audit-log.ts";
import { asObject } from "./fields.ts";
import type { PlanTask } from "./plan.ts";
import type { AuditTask } from "./records.ts";
import type { Flag, Place } from "./violation.ts";

/** Replaying the log, from its start and from the checkpoint, ends where the live run is. */
export function checkReplay({ replays, events, patches }: AuditInput, flag: Flag): void {
  if (replays.length === 0) flag("replay", "not_replayed", "the log was not replayed");
  for (const replay of replays) {
    const name = replay.from_checkpoint
      ? `replay from the checkpoint at ${replay.checkpoint_seq}`
      : "replay from the start";
    if (replay.drift.length > 0) flag("replay", "drift", `${name}: ${replay.drift.join(", ")}`);
    const eventsLeft = events.filter((event) => event.seq > replay.checkpoint_seq).length;
    const patchesLeft = patches.filter((patch) => patch.seq > replay.checkpoint_seq).length;
    if (replay.events_applied !== eventsLeft || replay.patches_applied !== patchesLeft) {
      const told = `${replay.events_applied} events and ${replay.patches_applied} patches`;
      flag("replay", "replay_incomplete", `${name} applied ${told} of ${eventsLeft} and ${patchesLeft}`);
    }
  }
}

/** Tasks, blackboard and run say what the log says. */
export function checkViews(input: AuditInput, history: History, flag: Flag): void {
  const planned = new Map(input.plan.map((task) => [task.id, task]));
  const listed = new Set<string>();
  for (const task of input.tasks) {
    const at: Place = { task_id: task.id };
    const planTask = planned.get(task.id);
    if (planTask === undefined)
      flag("views", "task_unknown", `${task.id} is listed, but not in the plan`, at);
    if (listed.has(task.id)) flag("views", "task_listed_twice", `${task.id} is listed twice`, at);
    listed.add(task.id);
    const logged = history.tasks.get(task.id)?.task;
    if (planTask === undefined || logged === undefined) continue;
    const differing = differences(comparable(task), comparable(logged));
    if (differing.length > 0) {
      flag("views", "task_unlike_log", `${task.id} differs from the log in ${differing.join(", ")}`, at);
    }
    const changed = differences(asPlanned(task), asPlanned(planTask));
    if (changed.length > 0) {
      flag("views", "task_unlike_plan", `${task.id} differs from the plan in ${changed.join(", ")}`, at);
    }
    if (task.lease_token !== undefined || task.lease_owner !== undefined) {
      flag("views", "lease_left_over", `${task.id} still shows a lease of ${task.lease_owner}`, at);
    }
  }
  for (const id of planned.keys()) {
    if (!listed.has(id)) flag("views", "task_missing", `${id} is not listed`, { task_id: id });
  }

  const added = input.events.flatMap((event) => (event.fact_id === undefined ? [] : [event.fact_id]));
  if (added.join("\n") !== input.facts.join("\n")) {
    const detail = `the blackboard has ${input.facts.length} facts, the log ${added.length}, or in another order`;
    flag("views", "facts_unlike_log", detail);
  }
  const lastPatch = input.patches.at(-1)?.seq ?? 0;
  if (input.blackboardRevision !== lastPatch) {
    const detail = `the blackboard is at revision ${input.blackboardRevision}, the last patch is ${lastPatch}`;
    flag("views", "blackboard_revision", detail);
  }

  const { run, events } = input;
  const counts: Record<string, number> = { total: input.tasks.length };
  for (const { status } of input.tasks) counts[status] = (counts[status] ?? 0) + 1;
  const wrong = [...new Set([...Object.keys(counts), ...Object.keys(run.task_counts)])].filter(
    (name) => (counts[name] ?? 0) !== (run.task_counts[name] ?? 0),
  );
  if (wrong.length > 0) flag("views", "run_counts", `the run miscounts its tasks in ${wrong.join(", ")}`);
  const last = events.at(-1);
  if (run.last_event_seq !== (last?.seq ?? 0) || run.revision !== (last?.revision ?? 1)) {
    const detail = `the run is at seq ${run.last_event_seq} and revision ${run.revision}, the log at ${last?.seq} and ${last?.revision}`;
    flag("views", "run_behind", detail);
  }
  if (run.status !== "completed") flag("views", "run_status", `the run ended as ${run.status}`);
}

/** The list of runs says what the run says. */
export function checkDirectory({ run, directoryRow }: AuditInput, flag: Flag): void {
  if (directoryRow === undefined) {
    flag("directory", "row_missing", `the directory does not list ${run.run_id}`);
    return;
  }
  const differing = differences({ ...directoryRow }, { ...run });
  if (differing.length > 0) flag("directory", "row_differs", `the row differs in ${differing.join(", ")}`);
}

/** What a completed task in a list must share with the last event about it. */
function comparable(task: AuditTask): Record<string, unknown> {
  return { ...task };
}

function asPlanned(task: AuditTask | PlanTask): Record<string, unknown> {
  const { id, task_type, priority, parent_task_id, depends_on_task_ids } = task;
  return { id, task_type, priority, parent_task_id, depends_on_task_ids };
}

/** The members that differ, as `name (left, not right)`. */
function differences(left: Record<string, unknown>, right: Record<string, unknown>): string[] {
  const names = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...names]
    .filter((name) => canonical(left[name]) !== canonical(right[name]))
    .map((name) => `${name} (${canonical(left[name])}, not ${canonical(right[name])})`);
}

/** JSON with sorted members, so that their order never counts as a difference. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const members = asObject(value);
  if (members === undefined) return JSON.stringify(value) ?? "absent";
  const sorted = Object.keys(members).sort();
  return `{${sorted.map((name) => `${JSON.stringify(name)}:${canonical(members[name])}`).join(",")}}`;
}
