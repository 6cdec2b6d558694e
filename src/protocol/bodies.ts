import * as z from "zod";
import { PATCH_OPS } from "./blackboard.ts";
import { MAX_IDEMPOTENCY_KEY_LENGTH } from "./idempotency-key.ts";
import { isValidId } from "./ids.ts";
import { MAX_ERROR_LENGTH, MAX_LABEL_LENGTH, MAX_PATH_LENGTH } from "./limits.ts";
import { RUN_STATUSES, WORK_STATUSES } from "./status.ts";

/** The rule of issues about malformed ids, which are refused with a code of their own. */
export const ID_RULE = "id";
/** The rule of issues about texts over a limit of the engine; they carry the `limit` and the `actual` length. */
export const LENGTH_RULE = "max_length";

const MAX_I32 = 2 ** 31 - 1;
const MAX_U32 = 2 ** 32 - 1;

const uint = z.int().min(0);
const u32 = uint.max(MAX_U32);
const i32 = z
  .int()
  .min(-MAX_I32 - 1)
  .max(MAX_I32);

/** An optional field also takes null, as "absent" (contract 02 §1.3). */
const optional = <T extends z.ZodType>(type: T) => type.nullish().transform((value) => value ?? undefined);

/** A text of at most so many UTF-16 units. */
const upTo = (limit: number) =>
  z.string().check((context) => {
    const actual = context.value.length;
    if (actual <= limit) return;
    const message = `must have at most ${limit} characters`;
    const params = { rule: LENGTH_RULE, limit, actual };
    context.issues.push({ code: "custom", input: context.value, message, params });
  });
const label = upTo(MAX_LABEL_LENGTH);
const path = upTo(MAX_PATH_LENGTH);
const optionalLabel = optional(label);
const optionalText = optional(z.string());
const optionalError = optional(upTo(MAX_ERROR_LENGTH));
/** Free JSON; absent counts as null. */
const json = z
  .unknown()
  .optional()
  .transform((value) => value ?? null);
const runStatus = z.enum(RUN_STATUSES);
const workStatus = z.enum(WORK_STATUSES);

/** Client-chosen idempotency key; a blank one counts as absent (contract 07 D45). */
const commandId = z
  .string()
  .refine((id) => id.length <= MAX_IDEMPOTENCY_KEY_LENGTH, {
    message: `must be at most ${MAX_IDEMPOTENCY_KEY_LENGTH} characters`,
    params: { rule: ID_RULE, limit: MAX_IDEMPOTENCY_KEY_LENGTH },
  })
  .nullish()
  .transform((id) => (id == null || id.trim() === "" ? undefined : id));

/** A task's id, or a reference to one: checked after trimming, because it is stored trimmed. */
const taskId = z.string().refine((id) => id.trim() === "" || isValidId(id.trim()), {
  message: "must be 1 to 200 of the characters A-Z a-z 0-9 . _ : - and not . or ..",
  params: { rule: ID_RULE },
});

/** Either spelling of a field, not both (contract 02 §1.3). */
function eitherOf<T>(
  name: string,
  value: T | undefined,
  alias: T | undefined,
  context: z.RefinementCtx,
): T | undefined {
  if (value !== undefined && alias !== undefined) {
    context.addIssue({ code: "custom", path: [name], message: "is given twice, under both of its names" });
  }
  return value ?? alias;
}

/** Makes an object schema: one that ignores unknown fields, or one that refuses them. */
type ObjectMaker = typeof z.object;

function makeBodies(object: ObjectMaker, { runNeedsTasks }: { runNeedsTasks: boolean }) {
  const workspace = object({ workspace_id: label, canonical_path: path, lease_epoch: uint });
  const step = object({ step_id: label, title: z.string(), status: workStatus });
  const idList = z.array(taskId).default([]);
  const textList = z.array(z.string()).default([]);

  const task = object({
    id: taskId,
    task_type: label,
    payload: json,
    status: workStatus,
    workflow_id: optionalLabel,
    workflow_node_id: optionalLabel,
    parent_task_id: optionalLabel,
    depends_on_task_ids: idList,
    decision_ids: textList,
    artifact_ids: textList,
    assigned_agent: optionalLabel,
    priority: i32.default(0),
    attempt: u32.default(0),
    max_attempts: u32.default(0),
    last_error: optionalError,
    next_retry_at_ms: optional(uint),
    lease_owner: optionalLabel,
    lease_token: optionalLabel,
    lease_expires_at_ms: optional(uint),
    task_rev: uint.default(0),
    created_ts: uint,
    updated_ts: uint,
  });

  return {
    /** Contract 02 §2.1. */
    createRun: object({
      objective: z.string(),
      run_id: optionalText,
      run_type: optionalLabel,
      workspace: optional(workspace),
      source_client: optionalLabel,
      model_provider: optionalLabel,
      modelProvider: optionalLabel,
      model_id: optionalLabel,
      modelId: optionalLabel,
      mcp_servers: optional(z.array(z.string())),
      mcpServers: optional(z.array(z.string())),
      command_id: commandId,
    }).transform(({ modelProvider, modelId, mcpServers, ...body }, context) => ({
      ...body,
      model_provider: eitherOf("model_provider", body.model_provider, modelProvider, context),
      model_id: eitherOf("model_id", body.model_id, modelId, context),
      mcp_servers: eitherOf("mcp_servers", body.mcp_servers, mcpServers, context),
    })),

    /** Contract 02 §2.4. Tenant and counters are the engine's and are not read. */
    replaceRun: object({
      run_id: z.string(),
      run_type: label,
      tenant_context: z.unknown().optional(),
      source_client: optionalLabel,
      model_provider: optionalLabel,
      model_id: optionalLabel,
      mcp_servers: textList,
      status: runStatus,
      objective: z.string(),
      workspace,
      steps: z.array(step).default([]),
      tasks: runNeedsTasks ? z.array(task) : z.array(task).default([]),
      why_next_step: z.string().nullable().default(null),
      revision: uint,
      last_event_seq: uint.default(0),
      created_at_ms: uint,
      started_at_ms: optional(uint),
      ended_at_ms: optional(uint),
      last_error: optionalError,
      updated_at_ms: uint,
      source_metadata: optional(z.unknown()),
      // What `/v1` shows beside a run, so that what was read can be put back.
      task_counts: z.unknown().optional(),
      blackboard_revision: z.unknown().optional(),
      command_id: commandId,
    }),

    /** Contract 02 §3.2. */
    appendEvent: object({
      type: label,
      status: runStatus,
      step_id: optionalLabel,
      payload: json,
      command_id: commandId,
    }),

    /** Contract 02 §4.1. */
    syncTodos: object({
      todos: z.array(object({ id: optionalText, content: z.string(), status: optionalText })),
      replace: optional(z.boolean()),
      source_session_id: optionalLabel,
      source_run_id: optionalLabel,
      command_id: commandId,
    }),

    /** Contract 02 §4.2. */
    selectNextStep: object({ dry_run: optional(z.boolean()), command_id: commandId }),

    /** Contract 02 §4.3. */
    validateWorkspace: object({
      phase: label,
      current_path: path,
      step_id: optionalLabel,
      command_id: commandId,
    }),

    /** Contract 02 §5.3. The payload must be there, but may be null. */
    patchBlackboard: object({
      op: z.enum(PATCH_OPS),
      payload: z.unknown(),
      command_id: commandId,
    }),

    /** Contract 02 §5.4, 04 §2. */
    createTasks: object({
      tasks: z.array(
        object({
          task_type: label,
          id: optional(taskId),
          command_id: commandId,
          payload: json,
          status: optional(workStatus),
          workflow_id: optionalLabel,
          workflow_node_id: optionalLabel,
          parent_task_id: optionalLabel,
          depends_on_task_ids: idList,
          decision_ids: textList,
          artifact_ids: textList,
          priority: optional(i32),
          max_attempts: optional(u32),
        }),
      ),
    }),

    /** Contract 02 §5.5. */
    claimTask: object({
      agent_id: label,
      command_id: commandId,
      task_type: optionalLabel,
      workflow_id: optionalLabel,
      lease_ms: optional(uint),
    }),

    /** Contract 02 §5.6. */
    transitionTask: object({
      action: label,
      command_id: commandId,
      expected_task_rev: optional(uint),
      lease_token: optionalLabel,
      agent_id: optionalLabel,
      status: optional(workStatus),
      error: optionalError,
      lease_ms: optional(uint),
    }),

    /** Contract 06 §1. */
    createCheckpoint: object({ reason: upTo(MAX_ERROR_LENGTH), command_id: commandId }),
  };
}

/** Request bodies of `/context`: unknown fields are ignored. */
export const contextBodies = makeBodies(z.object, { runNeedsTasks: false });

/**
 * Request bodies of `/v1`: unknown fields are refused. A run to be put must say its tasks, because the run that `/v1`
 * shows has none, and an absent list would empty the board.
 */
export const nativeBodies = makeBodies(z.strictObject as ObjectMaker, { runNeedsTasks: true });

export type Bodies = typeof contextBodies;
export type BodyName = keyof Bodies;
export type BodyOf<Name extends BodyName> = z.output<Bodies[Name]>;
