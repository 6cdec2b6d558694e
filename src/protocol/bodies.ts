import * as z from "zod";
import { PATCH_OPS } from "./blackboard.ts";
import { MAX_IDEMPOTENCY_KEY_LENGTH } from "./idempotency-key.ts";
import { isValidId } from "./ids.ts";
import { RUN_STATUSES, WORK_STATUSES } from "./status.ts";

/** The rule of issues about malformed ids, which are refused with a code of their own. */
export const ID_RULE = "id";

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
const text = optional(z.string());
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
  const workspace = object({ workspace_id: z.string(), canonical_path: z.string(), lease_epoch: uint });
  const step = object({ step_id: z.string(), title: z.string(), status: workStatus });
  const idList = z.array(taskId).default([]);
  const textList = z.array(z.string()).default([]);

  const task = object({
    id: taskId,
    task_type: z.string(),
    payload: json,
    status: workStatus,
    workflow_id: text,
    workflow_node_id: text,
    parent_task_id: text,
    depends_on_task_ids: idList,
    decision_ids: textList,
    artifact_ids: textList,
    assigned_agent: text,
    priority: i32.default(0),
    attempt: u32.default(0),
    max_attempts: u32.default(0),
    last_error: text,
    next_retry_at_ms: optional(uint),
    lease_owner: text,
    lease_token: text,
    lease_expires_at_ms: optional(uint),
    task_rev: uint.default(0),
    created_ts: uint,
    updated_ts: uint,
  });

  return {
    /** Contract 02 §2.1. */
    createRun: object({
      objective: z.string(),
      run_id: text,
      run_type: text,
      workspace: optional(workspace),
      source_client: text,
      model_provider: text,
      modelProvider: text,
      model_id: text,
      modelId: text,
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
      run_type: z.string(),
      tenant_context: z.unknown().optional(),
      source_client: text,
      model_provider: text,
      model_id: text,
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
      last_error: text,
      updated_at_ms: uint,
      source_metadata: optional(z.unknown()),
      // What `/v1` shows beside a run, so that what was read can be put back.
      task_counts: z.unknown().optional(),
      blackboard_revision: z.unknown().optional(),
      command_id: commandId,
    }),

    /** Contract 02 §3.2. */
    appendEvent: object({
      type: z.string(),
      status: runStatus,
      step_id: text,
      payload: json,
      command_id: commandId,
    }),

    /** Contract 02 §4.1. */
    syncTodos: object({
      todos: z.array(object({ id: text, content: z.string(), status: text })),
      replace: optional(z.boolean()),
      source_session_id: text,
      source_run_id: text,
      command_id: commandId,
    }),

    /** Contract 02 §4.2. */
    selectNextStep: object({ dry_run: optional(z.boolean()), command_id: commandId }),

    /** Contract 02 §4.3. */
    validateWorkspace: object({
      phase: z.string(),
      current_path: z.string(),
      step_id: text,
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
          task_type: z.string(),
          id: optional(taskId),
          command_id: commandId,
          payload: json,
          status: optional(workStatus),
          workflow_id: text,
          workflow_node_id: text,
          parent_task_id: text,
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
      agent_id: z.string(),
      command_id: commandId,
      task_type: text,
      workflow_id: text,
      lease_ms: optional(uint),
    }),

    /** Contract 02 §5.6. */
    transitionTask: object({
      action: z.string(),
      command_id: commandId,
      expected_task_rev: optional(uint),
      lease_token: text,
      agent_id: text,
      status: optional(workStatus),
      error: text,
      lease_ms: optional(uint),
    }),

    /** Contract 06 §1. */
    createCheckpoint: object({ reason: z.string(), command_id: commandId }),
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
