import * as z from "zod/mini";
import { lazy } from "./lazy.ts";
import {
  MAX_FOR_EACH_ITEMS,
  MAX_LABEL_LENGTH,
  MAX_MAPPING_LENGTH,
  MAX_MAPPING_TASKS,
  MAX_PATH_LENGTH,
} from "./limits.ts";
import { issuesOfCondition, type MappingCondition } from "./mapping-condition.ts";
import { type MappingRoot, parseMappingPath } from "./mapping-path.ts";
import { hasOutputs, parseTemplate, pathsOf } from "./mapping-template.ts";
import type { Workspace } from "./run.ts";
import { maxLength, recordOf } from "./schema.ts";
import { RUN_STATUSES, type RunStatus } from "./status.ts";

/** What a delivery does when the run of its key is there already. */
export const ON_EXISTING = ["append_event", "add_tasks", "wake_task", "new_run", "ignore"] as const;
export type OnExisting = (typeof ON_EXISTING)[number];

/** Statuses that a mapped task may begin in. */
export const MAPPED_TASK_STATUSES = ["pending", "runnable", "blocked"] as const;

/** Names of the presets (hooks/mapping/presets.ts). */
export const MAPPING_PRESETS = [
  "github_issue_opened",
  "github_issue_labelled",
  "github_pr_comment",
  "slack_mention",
  "slack_slash_command",
  "stripe_payment_failed",
  "linear_issue",
  "sentry_alert",
  "plain_json",
] as const;
export type MappingPreset = (typeof MAPPING_PRESETS)[number];

/**
 * How the deliveries of a hook become runs. Fields called template are filled in from the delivery, which is untrusted; all
 * others are literal, and a text with `{{` in it is refused there: what an agent reads as its instructions is the mapping's own.
 */
export interface Mapping {
  /** Which deliveries are mapped; the others are skipped. All, where there is none. */
  when?: MappingCondition | undefined;
  /** Template: deliveries of the same key are about the same run. Where there is none, each delivery makes a run. */
  run_key?: string | undefined;
  /** `append_event` where nothing is said. */
  on_existing?: OnExisting | undefined;
  run: MappedRun;
  /** The event that each delivery leaves in its run. */
  event?: MappedEvent | undefined;
  tasks?: MappedTask[] | undefined;
  /** Template: which task `on_existing: wake_task` makes runnable. */
  wake_task_id?: string | undefined;
}

export interface MappedRun {
  /** Template; begins with a text of its own, and what is filled in is put between ⟪ and ⟫. */
  objective: string;
  run_type?: string | undefined;
  source_client?: string | undefined;
  workspace?: Workspace | undefined;
  model_provider?: string | undefined;
  model_id?: string | undefined;
  mcp_servers?: string[] | undefined;
}

export interface MappedEvent {
  /** `webhook_received` where nothing is said. */
  type?: string | undefined;
  /** The run keeps its status where nothing is said. */
  status?: RunStatus | undefined;
  step_id?: string | undefined;
  /** JSON whose texts are templates. */
  input?: unknown;
}

export interface MappedTask {
  task_type: string;
  /** Template. Later deliveries that give the same id do not make the task again. */
  id?: string | undefined;
  /** One task per element of the array at that path, of the first `take` only if that is given. */
  for_each?: { in: string; take?: number | undefined } | undefined;
  /** Literal members of the task's payload: instructions, `output_target` and the like. */
  payload?: Record<string, unknown> | undefined;
  /** JSON whose texts are templates: the payload's member `input`. */
  input?: unknown;
  status?: (typeof MAPPED_TASK_STATUSES)[number] | undefined;
  workflow_id?: string | undefined;
  /** Templates. */
  depends_on_task_ids?: string[] | undefined;
  priority?: number | undefined;
  max_attempts?: number | undefined;
}

/** Members of a task's payload that applying a mapping sets. */
const RESERVED_MEMBERS = ["input", "trust", "source", "untrusted_fields", "artifact_ref"];
/** Levels of JSON in `input` and `payload`. */
const MAX_DEPTH = 16;
const MAX_I32 = 2 ** 31 - 1;

type Path = (string | number)[];
type Check = z.core.CheckFn<unknown>;

/** Adds what is wrong, in the form of the other schemas. */
function report(
  context: z.core.ParsePayload<unknown>,
  path: Path,
  rule: string,
  message: string,
  limit?: number,
): void {
  const params = { rule, ...(limit !== undefined && { limit }) };
  context.issues.push({ code: "custom", input: context.value, path, message, params });
}

/** A text without outputs. */
const isLiteral: Check = (context) => {
  if (typeof context.value === "string" && hasOutputs(context.value)) {
    report(context, [], "literal", "takes no {{ }}: it would let a delivery choose it");
  }
};

/** What is wrong with a text as a template, or null. */
function templateFault(text: string, takesItem: boolean): string | null {
  const read = parseTemplate(text);
  if (!read.ok) return read.message;
  if (takesItem) return null;
  const isOfItem = (root: MappingRoot) => root === "$item" || root === "$index";
  const strays = read.template.some(
    (part) => typeof part !== "string" && pathsOf(part).some(({ root }) => isOfItem(root)),
  );
  return strays ? "takes $item and $index only in a task with for_each" : null;
}

const isTemplate: Check = (context) => {
  const fault = templateFault(String(context.value), true);
  if (fault !== null) report(context, [], "template", fault);
};

/** Runs over the texts of a JSON value, with their places; tells whether it is no deeper than allowed. */
function eachText(value: unknown, path: Path, visit: (text: string, path: Path) => void): boolean {
  if (typeof value === "string") visit(value, path);
  if (typeof value !== "object" || value === null) return true;
  if (path.length > MAX_DEPTH) return false;
  return Object.entries(value).every(([key, member]) =>
    eachText(member, [...path, Array.isArray(value) ? Number(key) : key], visit),
  );
}

/** JSON all of whose texts are templates. */
const isJsonTemplate: Check = (context) => {
  const isShallow = eachText(context.value, [], (text, path) => {
    const fault = templateFault(text, true);
    if (fault !== null) report(context, path, "template", fault);
  });
  if (!isShallow) report(context, [], "max_depth", `is nested deeper than ${MAX_DEPTH} levels`, MAX_DEPTH);
};

const isLiteralJson: Check = (context) => {
  const isShallow = eachText(context.value, [], (text, path) => {
    if (hasOutputs(text))
      report(context, path, "literal", "takes no {{ }}: what is filled in goes into input");
  });
  if (!isShallow) report(context, [], "max_depth", `is nested deeper than ${MAX_DEPTH} levels`, MAX_DEPTH);
};

const isPayload: Check = (context) => {
  for (const name of RESERVED_MEMBERS) {
    if (Object.hasOwn(context.value as object, name)) {
      report(context, [name], "reserved", "is set by the mapping itself");
    }
  }
};

const isCondition: Check = (context) => {
  for (const { path, rule, message, limit } of issuesOfCondition(context.value)) {
    report(context, path, rule, message, limit);
  }
};

const isArrayPath: Check = (context) => {
  const read = parseMappingPath(String(context.value));
  if (!read.ok) report(context, [], "path", read.message);
  else if (read.path.root === "$item") report(context, [], "path", "takes no $item");
};

/** An objective is read as an instruction: it must not be the sender's from its first word. */
const beginsLiterally: Check = (context) => {
  const read = parseTemplate(String(context.value));
  if (!read.ok) return;
  const [first] = read.template;
  if (typeof first === "string" && first.trim() !== "") return;
  report(context, [], "literal_start", "must begin with a text of its own, before anything filled in");
};

/** What no member can tell alone. */
const fitsTogether: Check = (context) => {
  const mapping = context.value as Mapping;
  const length = JSON.stringify(mapping).length;
  if (length > MAX_MAPPING_LENGTH) {
    const message = `must have at most ${MAX_MAPPING_LENGTH} characters of JSON`;
    report(context, [], "max_length", message, MAX_MAPPING_LENGTH);
  }
  const wakes = mapping.on_existing === "wake_task";
  if (wakes && mapping.wake_task_id === undefined) {
    report(context, ["wake_task_id"], "required", "is required with on_existing wake_task");
  }
  const tasks = mapping.tasks ?? [];
  if (tasks.filter(({ for_each }) => for_each !== undefined).length > 1) {
    report(context, ["tasks"], "one_for_each", "may have for_each in one task only");
  }
  const { tasks: _tasks, when: _when, ...others } = mapping;
  const outside = { ...others, tasks: tasks.map((task) => (task.for_each === undefined ? task : null)) };
  eachText(outside, [], (text, path) => {
    if (templateFault(text, true) !== null) return;
    const fault = templateFault(text, false);
    if (fault !== null) report(context, path, "template", fault);
  });
};

/** A mapping as it is sent and stored; unknown fields are refused. */
export const mappingSchema = lazy(() => {
  const label = z.string().check(maxLength(MAX_LABEL_LENGTH), isLiteral);
  const template = z.string().check(maxLength(MAX_PATH_LENGTH), isTemplate);
  const jsonTemplate = z.optional(z.unknown().check(isJsonTemplate));
  const optionalLabel = z.optional(label);
  const uint = z.int().check(z.minimum(0));
  const workspace = z.strictObject({
    workspace_id: label,
    canonical_path: z.string().check(maxLength(MAX_PATH_LENGTH), isLiteral),
    lease_epoch: uint,
  });
  const task = z.strictObject({
    task_type: label,
    id: z.optional(template),
    for_each: z.optional(
      z.strictObject({
        in: z.string().check(isArrayPath),
        take: z.optional(z.int().check(z.minimum(1), z.maximum(MAX_FOR_EACH_ITEMS))),
      }),
    ),
    payload: z.optional(recordOf(z.string(), z.unknown()).check(isPayload, isLiteralJson)),
    input: jsonTemplate,
    status: z.optional(z.enum(MAPPED_TASK_STATUSES)),
    workflow_id: optionalLabel,
    depends_on_task_ids: z.optional(z.array(template).check(maxLength(MAX_MAPPING_TASKS))),
    priority: z.optional(z.int().check(z.minimum(-MAX_I32 - 1), z.maximum(MAX_I32))),
    max_attempts: z.optional(uint.check(z.maximum(MAX_I32))),
  });
  const condition = z.pipe(
    z.unknown().check(isCondition),
    z.transform((value) => value as MappingCondition),
  );
  return z
    .strictObject({
      when: z.optional(condition),
      run_key: z.optional(template),
      on_existing: z.optional(z.enum(ON_EXISTING)),
      run: z.strictObject({
        objective: template.check(beginsLiterally),
        run_type: optionalLabel,
        source_client: optionalLabel,
        workspace: z.optional(workspace),
        model_provider: optionalLabel,
        model_id: optionalLabel,
        mcp_servers: z.optional(z.array(label).check(maxLength(MAX_MAPPING_TASKS))),
      }),
      event: z.optional(
        z.strictObject({
          type: optionalLabel,
          status: z.optional(z.enum(RUN_STATUSES)),
          step_id: optionalLabel,
          input: jsonTemplate,
        }),
      ),
      tasks: z.optional(z.array(task).check(maxLength(MAX_MAPPING_TASKS))),
      wake_task_id: z.optional(template),
    })
    .check(fitsTogether) satisfies z.ZodMiniType<Mapping>;
});

/** A delivery to try a mapping with. */
export interface MappingSample {
  event?: string | undefined;
  headers?: Record<string, string> | undefined;
  body?: unknown;
}

const sampleSchema = lazy(() =>
  z.strictObject({
    event: z.optional(z.string().check(maxLength(MAX_LABEL_LENGTH))),
    headers: z.optional(recordOf(z.string(), z.string())),
    body: z.optional(z.unknown()),
  }),
);

/** `POST /v1/mappings/test`. The mapping is read by its own schema, after presets were looked up. */
export const mappingTestSchema = lazy(() => z.strictObject({ mapping: z.unknown(), sample: sampleSchema() }));

/** `POST /v1/hooks/{hook_id}/test`: a sample, or a delivery that the hook has had. */
export const hookTestSchema = lazy(() =>
  z.strictObject({
    mapping: z.optional(z.unknown()),
    sample: z.optional(sampleSchema()),
    delivery_id: z.optional(z.string()),
  }),
);
