import { applyPayloadContract } from "../../domain/contract.ts";
import { runDraft } from "../../domain/run-draft.ts";
import { type BodyOf, nativeBodies } from "../../protocol/bodies.ts";
import { issueForId } from "../../protocol/ids.ts";
import type { Issue } from "../../protocol/issue.ts";
import { MAX_FOR_EACH_ITEMS } from "../../protocol/limits.ts";
import type { MappedTask, Mapping, OnExisting } from "../../protocol/mapping.ts";
import { parseMappingPath } from "../../protocol/mapping-path.ts";
import { hasOutputs } from "../../protocol/mapping-template.ts";
import { readShape } from "../../protocol/shape.ts";
import type { RunStatus } from "../../protocol/status.ts";
import { type ConditionResult, fulfils } from "./filter.ts";
import { lookUp, type Scope } from "./lookup.ts";
import { MappingCutOff, Meter } from "./meter.ts";
import { type Rendered, renderJson, renderText } from "./render.ts";
import type { MappingInput } from "./sample.ts";

/** What marks everything that a sender had a say in. */
export const UNTRUSTED = "untrusted_external";

const DEFAULT_RUN_TYPE = "webhook";
const DEFAULT_EVENT_TYPE = "webhook_received";
/** Issues of one delivery: they are kept in its row, and `for_each` repeats them. */
const MAX_TOLD_ISSUES = 20;

/** Where something comes from, on runs, events and tasks. */
export interface MappedSource {
  hook_id: string;
  delivery_id: string;
  event: string | null;
}

/** What a delivery would do: values only, checked by the rules of the routes that do the same. */
export interface Plan {
  /** Null: the delivery stands for itself. */
  run_key: string | null;
  on_existing: OnExisting;
  /** As `POST /v1/runs` takes it. */
  run: BodyOf<"createRun">;
  source_metadata: MappedSource & { run_key: string | null; trust: string; untrusted_fields: string[] };
  /** As `POST …/events` takes it; the run keeps its status where there is none. */
  event: { type: string; status?: RunStatus; step_id?: string; payload: unknown };
  /** As `POST …/tasks` takes them, without command ids. */
  tasks: BodyOf<"createTasks">["tasks"];
  wake_task_id: string | null;
}

/** Why a delivery cannot be mapped. */
export type MappingError =
  | { code: "MAPPING_INVALID"; error: string }
  | { code: "MAPPING_LIMIT"; error: string; limit_name: string; limit: number };

/** What a mapping makes of a delivery. `conditions`: each part of the filter, outer before inner. */
export type Planned =
  | { verdict: "plan"; plan: Plan; conditions: ConditionResult[] }
  | { verdict: "skip"; reason: string; conditions: ConditionResult[] }
  | { verdict: "error"; error: MappingError; issues: Issue[]; conditions: ConditionResult[] };

/**
 * Maps a delivery. Pure and total: any JSON and any mapping that its schema takes come to one of the three verdicts, in a bounded
 * number of steps.
 */
export function planOf(mapping: Mapping, input: MappingInput): Planned {
  const conditions: ConditionResult[] = [];
  const meter = new Meter();
  try {
    const scope: Scope = { input };
    if (mapping.when !== undefined && !fulfils(mapping.when, scope, meter, conditions)) {
      return { verdict: "skip", reason: "the filter does not take it", conditions };
    }
    const issues: Issue[] = [];
    const plan = rendered(mapping, scope, meter, issues);
    if (plan !== null && issues.length === 0) return { verdict: "plan", plan, conditions };
    const [first] = issues;
    const error = first === undefined ? "the mapping does not fit" : `${first.field}: ${first.message}`;
    const told = issues.slice(0, MAX_TOLD_ISSUES);
    return { verdict: "error", error: { code: "MAPPING_INVALID", error }, issues: told, conditions };
  } catch (error) {
    if (!(error instanceof MappingCutOff)) throw error;
    const told = { code: "MAPPING_LIMIT" as const, error: error.message, ...error.crossed };
    return { verdict: "error", error: told, issues: [], conditions };
  }
}

/** The plan, or null where `issues` say why there is none. */
function rendered(mapping: Mapping, scope: Scope, meter: Meter, issues: Issue[]): Plan | null {
  const { hook_id, delivery_id, event: eventName } = scope.input;
  const source: MappedSource = { hook_id, delivery_id, event: eventName };
  const run_key = mapping.run_key === undefined ? null : keyOf(mapping.run_key, scope, meter, issues);
  const { objective, ...literal } = mapping.run;
  const told = renderText(objective, scope, meter, { marked: true }).text;
  const run = shaped("createRun", { run_type: DEFAULT_RUN_TYPE, ...literal, objective: told }, "run", issues);
  meter.result(run);

  const untrusted: string[] = [];
  const eventInput = renderJson(mapping.event?.input ?? null, scope, meter, untrusted, "input");
  const event = {
    type: mapping.event?.type ?? DEFAULT_EVENT_TYPE,
    ...(mapping.event?.status !== undefined && { status: mapping.event.status }),
    ...(mapping.event?.step_id !== undefined && { step_id: mapping.event.step_id }),
    payload: { input: eventInput, trust: UNTRUSTED, source, untrusted_fields: untrusted },
  };
  meter.result(event);

  const given = new Set<unknown>();
  const rows = (mapping.tasks ?? []).flatMap((task, index) =>
    scopesOf(task, scope, meter, `tasks[${index}].for_each`, issues).flatMap((own) => {
      const row = taskRow(task, own, meter, source, `tasks[${index}]`, issues);
      // A task of the same id is made once, here as by later deliveries.
      if (row.id !== undefined && given.has(row.id)) return [];
      given.add(row.id);
      meter.result(row);
      return [row];
    }),
  );
  // Rows are counted otherwise than the mapping's tasks: what is wrong with those is told first, and alone.
  const isWhole = issues.length === 0;
  const batch =
    rows.length === 0 || !isWhole ? { tasks: [] } : shaped("createTasks", { tasks: rows }, "", issues);
  for (const [index, { task_type, payload, id }] of (batch?.tasks ?? []).entries()) {
    const contracted = applyPayloadContract(task_type, payload, id ?? "");
    if (contracted.ok) continue;
    const { code, error } = contracted.refusal;
    issues.push({ field: `tasks[${index}].payload`, rule: code.toLowerCase(), message: error });
  }
  const wake_task_id =
    mapping.wake_task_id === undefined
      ? null
      : idOf(mapping.wake_task_id, scope, meter, "wake_task_id", issues);
  if (run === null || batch === null) return null;

  const untrusted_fields = hasOutputs(objective) ? ["objective"] : [];
  const source_metadata = { ...source, run_key, trust: UNTRUSTED, untrusted_fields };
  const draft = runDraft(run, "hook-", source_metadata);
  if (!draft.ok)
    issues.push({ field: "run", rule: draft.refusal.code.toLowerCase(), message: draft.refusal.error });
  const on_existing = mapping.on_existing ?? "append_event";
  return { run_key, on_existing, run, source_metadata, event, tasks: batch.tasks, wake_task_id };
}

/** A value as the body of a `/v1` request; null where it is none, and `issues` say why. */
function shaped<Name extends "createRun" | "createTasks">(
  name: Name,
  value: unknown,
  prefix: string,
  issues: Issue[],
): BodyOf<Name> | null {
  const read = readShape(nativeBodies()[name], value, prefix);
  if (read.ok) return read.value as BodyOf<Name>;
  issues.push(...read.issues);
  return null;
}

/** What a task is made once for: each element of its `for_each`, or just so. */
function scopesOf(
  { for_each }: MappedTask,
  scope: Scope,
  meter: Meter,
  field: string,
  issues: Issue[],
): Scope[] {
  if (for_each === undefined) return [scope];
  const read = parseMappingPath(for_each.in);
  const found = read.ok ? lookUp(read.path, scope, meter) : undefined;
  if (found === undefined || found === null) return [];
  if (!Array.isArray(found)) {
    issues.push({ field: `${field}.in`, rule: "array", message: "there is no array at this path" });
    return [];
  }
  if (found.length > MAX_FOR_EACH_ITEMS && for_each.take === undefined) {
    throw new MappingCutOff("for_each_items", MAX_FOR_EACH_ITEMS);
  }
  return found.slice(0, for_each.take).map((value, index) => ({ ...scope, item: { value, index } }));
}

function taskRow(
  task: MappedTask,
  scope: Scope,
  meter: Meter,
  source: MappedSource,
  field: string,
  issues: Issue[],
): Record<string, unknown> {
  const { id, for_each: _forEach, payload, input, depends_on_task_ids, ...literal } = task;
  const untrusted_fields: string[] = [];
  const filled = renderJson(input ?? null, scope, meter, untrusted_fields, "input");
  return {
    ...literal,
    ...(id !== undefined && { id: idOf(id, scope, meter, `${field}.id`, issues) }),
    payload: { ...payload, input: filled, trust: UNTRUSTED, source, untrusted_fields },
    depends_on_task_ids: (depends_on_task_ids ?? []).map((dependency, index) =>
      idOf(dependency, scope, meter, `${field}.depends_on_task_ids[${index}]`, issues),
    ),
  };
}

/** A text that names something: every output must have a value. */
function keyOf(template: string, scope: Scope, meter: Meter, issues: Issue[]): string {
  const { text, vague } = renderText(template, scope, meter);
  requireAll("run_key", vague, issues);
  const key = text.trim();
  if (key === "" && vague.length === 0)
    issues.push({ field: "run_key", rule: "non_blank", message: "comes to nothing" });
  return key;
}

function idOf(template: string, scope: Scope, meter: Meter, field: string, issues: Issue[]): string {
  const { text, vague } = renderText(template, scope, meter);
  requireAll(field, vague, issues);
  const issue = vague.length > 0 ? null : issueForId(field, text.trim());
  if (issue !== null) issues.push(issue);
  return text.trim();
}

function requireAll(field: string, vague: Rendered["vague"], issues: Issue[]): void {
  for (const { path, rule } of vague) {
    const message =
      rule === "missing"
        ? `there is nothing at ${path}, and no default`
        : `the number at ${path} is over 2^53 - 1: different ones read alike`;
    issues.push({ field, rule, message });
  }
}
