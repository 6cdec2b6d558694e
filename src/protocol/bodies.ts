import * as z from "zod/mini";
import { withoutAbsent } from "./absent.ts";
import { issueForArtifactPath } from "./artifact-path.ts";
import { awaited } from "./awaited.ts";
import { PATCH_OPS } from "./blackboard.ts";
import { MAX_IDEMPOTENCY_KEY_LENGTH } from "./idempotency-key.ts";
import { issueForId, MAX_ID_LENGTH } from "./ids.ts";
import { lazy } from "./lazy.ts";
import {
  MAX_CLAIMS,
  MAX_COMMANDS_PER_BATCH,
  MAX_DEPENDENCIES_PER_TASK,
  MAX_ERROR_LENGTH,
  MAX_GRACE_MS,
  MAX_LABEL_LENGTH,
  MAX_LOCKED_RESOURCES,
  MAX_MCP_SERVERS,
  MAX_MUTATED_FILES,
  MAX_PARTS,
  MAX_PATH_LENGTH,
  MAX_REDRIVEN_AT_ONCE,
  MAX_REFERENCES_PER_TASK,
  MAX_ROLLBACK_STEPS,
  MAX_STEPS_PER_RUN,
  MAX_TASKS_PER_BATCH,
  MAX_TASKS_REPLACED,
  MAX_TYPES_AWAITED,
  MAX_WAIT_MS,
} from "./limits.ts";
import { LOCK_MODES } from "./lock.ts";
import { faultOfResourceName } from "./resource-name.ts";
import { json, listOf, mapped, minLength, type ObjectMaker, optional, uint, upTo } from "./schema.ts";
import { RUN_STATUSES, WORK_STATUSES } from "./status.ts";
import { FAILURE_CAUSES } from "./task-life.ts";
import { taskLifeShapes } from "./task-life-shapes.ts";

/** The rule of issues about malformed ids, which are refused with a code of their own. */
export const ID_RULE = "id";

const ID_MESSAGE = "must be 1 to 200 of the characters A-Z a-z 0-9 . _ : - and not . or ..";

const MAX_I32 = 2 ** 31 - 1;
const MAX_U32 = 2 ** 32 - 1;

/** Counters that the engine goes on counting keep room to stay within their range (contract 01 §2, 07 D108). */
const MAX_ATTEMPT_PUT = MAX_U32 - 1_000_000;
const MAX_TASK_REV_PUT = Number.MAX_SAFE_INTEGER - 2 ** 40;

/** An id, trimmed, because it is stored trimmed. */
const trimmedId = (mayBeBlank: boolean) =>
  z.string().check(z.trim(), (context) => {
    const issue = mayBeBlank && context.value === "" ? null : issueForId("id", context.value);
    if (issue === null) return;
    const params = { rule: ID_RULE, ...(issue.limit !== undefined && { limit: issue.limit }) };
    context.issues.push({ code: "custom", input: context.value, message: ID_MESSAGE, params });
  });

/** Either spelling of a field, not both (contract 02 §1.3). */
function eitherOf<T>(
  name: string,
  value: T | null | undefined,
  alias: T | null | undefined,
  context: z.core.ParsePayload,
): T | undefined {
  if (value !== undefined && alias !== undefined) {
    const message = "is given twice, under both of its names";
    const params = { rule: "one_spelling" };
    context.issues.push({ code: "custom", input: context.value, path: [name], message, params });
  }
  return value ?? alias ?? undefined;
}

/** A path of the artifact space. */
export const artifactPath = lazy(() =>
  z.string().check((context) => {
    const issue = issueForArtifactPath("path", context.value);
    if (issue === null) return;
    const { rule, limit, actual } = issue;
    const params = { rule, ...(limit !== undefined && { limit }), ...(actual !== undefined && { actual }) };
    context.issues.push({ code: "custom", input: context.value, message: issue.message, params });
  }),
);

interface BodyOptions {
  runNeedsTasks: boolean;
  /** Whether there are the fields that the reference engine does not have; where not, they are unknown ones. */
  ownFields: boolean;
}

function makeBodies(object: ObjectMaker, { runNeedsTasks, ownFields }: BodyOptions) {
  /** A field that the reference engine does not have. */
  const own = <T extends z.core.$ZodType>(type: T) =>
    ownFields ? optional(type) : mapped(z.optional(z.unknown()), (): z.output<T> | undefined => undefined);
  const u32 = uint.check(z.maximum(MAX_U32));
  const i32 = z.int().check(z.minimum(-MAX_I32 - 1), z.maximum(MAX_I32));
  const label = upTo(MAX_LABEL_LENGTH);
  const path = upTo(MAX_PATH_LENGTH);
  const optionalLabel = optional(label);
  const optionalText = optional(z.string());
  const optionalError = optional(upTo(MAX_ERROR_LENGTH));
  const runStatus = z.enum(RUN_STATUSES);
  const workStatus = z.enum(WORK_STATUSES);

  /** Client-chosen idempotency key; a blank one counts as absent (contract 07 D45). */
  const commandId = mapped(
    z.nullish(
      z.string().check(
        z.refine((id) => id.length <= MAX_IDEMPOTENCY_KEY_LENGTH, {
          message: `must be at most ${MAX_IDEMPOTENCY_KEY_LENGTH} characters`,
          params: { rule: ID_RULE, limit: MAX_IDEMPOTENCY_KEY_LENGTH },
        }),
      ),
    ),
    (id) => (id == null || id.trim() === "" ? undefined : id),
  );

  const id = trimmedId(false);
  const idOrBlank = trimmedId(true);

  /** A checkpoint's name stands in a path like an id, beside seqs, ids of checkpoints and words of routes. */
  const checkpointName = id.check(
    z.refine((name) => !/^(?:[0-9]+|cp-.*|latest|mutations)$/.test(name), {
      message: "must not be a number, begin with cp-, or be latest or mutations",
      params: { rule: "checkpoint_name" },
    }),
  );

  /** SHA-256 in hex. */
  const sha256 = mapped(
    z.string().check(z.regex(/^[0-9a-fA-F]{64}$/, { message: "must be 64 hex digits" })),
    (hex) => hex.toLowerCase(),
  );

  const payloadArtifact = own(object({ path: artifactPath(), version: optional(uint) }));
  /** The lease that a write is made under: a task's, or a lock's. */
  const underLease = {
    task_id: own(mapped(idOrBlank, (taskId) => taskId || undefined)),
    lock_id: own(mapped(idOrBlank, (lockId) => lockId || undefined)),
    lease_token: own(mapped(label, (token) => (token.trim() === "" ? undefined : token.trim()))),
  };
  const grace = uint.check(z.maximum(MAX_GRACE_MS));
  const resourceName = mapped(z.string(), (name, context) => {
    const normal = name.normalize("NFC");
    const fault = faultOfResourceName(normal);
    if (fault !== null) {
      const { message, ...params } = fault;
      context.issues.push({ code: "custom", input: name, message, params });
    }
    return normal;
  });
  const resources = listOf(object({ name: resourceName, mode: z.enum(LOCK_MODES) }), MAX_LOCKED_RESOURCES);
  const workspace = object({ workspace_id: label, canonical_path: path, lease_epoch: uint });
  const step = object({ step_id: z.string(), title: z.string(), status: workStatus });
  const dependencies = z._default(
    mapped(listOf(idOrBlank, MAX_DEPENDENCIES_PER_TASK), (ids) =>
      ids.filter((dependency) => dependency !== ""),
    ),
    [],
  );
  const references = z._default(listOf(z.string(), MAX_REFERENCES_PER_TASK), []);
  const names = listOf(z.string(), MAX_MCP_SERVERS);

  const life = taskLifeShapes(object);
  /** One of a run that is put back: both doors show it, but one knows no such field, so that nothing in it is wrong there. */
  const shownLife = <T extends z.core.$ZodType>(type: T) =>
    ownFields ? optional(type) : z.catch(optional(type), undefined);

  const task = object({
    id,
    task_type: label,
    payload: json,
    status: workStatus,
    workflow_id: optionalLabel,
    workflow_node_id: optionalLabel,
    parent_task_id: optionalLabel,
    depends_on_task_ids: dependencies,
    decision_ids: references,
    artifact_ids: references,
    assigned_agent: optionalLabel,
    priority: z._default(i32, 0),
    attempt: z._default(u32.check(z.maximum(MAX_ATTEMPT_PUT)), 0),
    max_attempts: z._default(u32, 0),
    last_error: optionalError,
    next_retry_at_ms: optional(uint),
    lease_owner: optionalLabel,
    lease_token: optionalLabel,
    lease_expires_at_ms: optional(uint),
    task_rev: z._default(uint.check(z.maximum(MAX_TASK_REV_PUT)), 0),
    created_ts: uint,
    updated_ts: uint,
    retry: shownLife(life.task.retry),
    clocks: shownLife(life.task.clocks),
    on_dependency_failure: shownLife(life.task.on_dependency_failure),
    concurrency_key: shownLife(life.task.concurrency_key),
    redriven_at_ms: shownLife(life.task.redriven_at_ms),
    fence: shownLife(life.task.fence),
    claimed_at_ms: shownLife(life.task.claimed_at_ms),
    progress: shownLife(life.task.progress),
    attempts: shownLife(life.task.attempts),
    dead_letter: shownLife(life.task.dead_letter),
    failure: shownLife(life.task.failure),
    skipped: shownLife(life.task.skipped),
    cancellation: shownLife(life.task.cancellation),
  });

  const replacedTasks = listOf(task, MAX_TASKS_REPLACED);

  return {
    /** Contract 02 §2.1. */
    createRun: mapped(
      object({
        objective: z.string(),
        run_id: optionalText,
        run_type: optionalLabel,
        workspace: optional(workspace),
        source_client: optionalLabel,
        model_provider: z.nullish(label),
        modelProvider: z.nullish(label),
        model_id: z.nullish(label),
        modelId: z.nullish(label),
        mcp_servers: z.nullish(names),
        mcpServers: z.nullish(names),
        settings: own(life.settings),
        command_id: commandId,
      }),
      ({ modelProvider, modelId, mcpServers, ...body }, context) => ({
        ...body,
        model_provider: eitherOf("model_provider", body.model_provider, modelProvider, context),
        model_id: eitherOf("model_id", body.model_id, modelId, context),
        mcp_servers: eitherOf("mcp_servers", body.mcp_servers, mcpServers, context),
      }),
    ),

    /** Contract 02 §2.4. Tenant, origin and counters are the engine's and are not read. */
    replaceRun: object({
      run_id: z.string(),
      run_type: label,
      tenant_context: z.optional(z.unknown()),
      source_client: optionalLabel,
      model_provider: optionalLabel,
      model_id: optionalLabel,
      mcp_servers: z._default(names, []),
      status: runStatus,
      objective: z.string(),
      workspace,
      steps: z._default(listOf(step, MAX_STEPS_PER_RUN), []),
      tasks: runNeedsTasks ? replacedTasks : z._default(replacedTasks, []),
      why_next_step: z._default(z.nullable(z.string()), null),
      revision: uint,
      last_event_seq: z._default(uint, 0),
      created_at_ms: uint,
      started_at_ms: optional(uint),
      ended_at_ms: optional(uint),
      last_error: optionalText,
      updated_at_ms: uint,
      source_metadata: optional(z.unknown()),
      settings: shownLife(life.settings),
      forked_from: z.optional(z.unknown()),
      // What `/v1` shows beside a run, so that what was read can be put back.
      task_counts: z.optional(z.unknown()),
      blackboard_revision: z.optional(z.unknown()),
      log_hash: z.optional(z.unknown()),
      halt: z.optional(z.unknown()),
      command_id: commandId,
    }),

    /** Contract 02 §3.2. */
    appendEvent: object({
      type: label,
      status: runStatus,
      step_id: optionalLabel,
      payload: json,
      payload_artifact: payloadArtifact,
      ...underLease,
      command_id: commandId,
    }),

    /** Contract 02 §4.1. */
    syncTodos: object({
      todos: listOf(
        object({ id: optionalText, content: z.string(), status: optionalText }),
        MAX_STEPS_PER_RUN,
      ),
      replace: optional(z.boolean()),
      source_session_id: optionalLabel,
      source_run_id: optionalLabel,
      ...underLease,
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
      ...underLease,
      command_id: commandId,
    }),

    /** Contract 02 §5.4, 04 §2. */
    createTasks: object({
      tasks: listOf(
        object({
          task_type: label,
          id: optional(idOrBlank),
          command_id: commandId,
          payload: json,
          payload_artifact: payloadArtifact,
          status: optional(workStatus),
          workflow_id: optionalLabel,
          workflow_node_id: optionalLabel,
          parent_task_id: optionalLabel,
          depends_on_task_ids: dependencies,
          decision_ids: references,
          artifact_ids: references,
          priority: optional(i32),
          max_attempts: optional(ownFields ? life.maxAttempts : u32),
          retry: own(life.row.retry),
          clocks: own(life.row.clocks),
          on_dependency_failure: own(life.row.on_dependency_failure),
          concurrency_key: own(life.row.concurrency_key),
        }),
        MAX_TASKS_PER_BATCH,
      ),
      ...underLease,
    }),

    /** Contract 02 §5.5. */
    claimTask: object({
      agent_id: label,
      command_id: commandId,
      task_type: optionalLabel,
      workflow_id: optionalLabel,
      lease_ms: optional(uint),
      max: own(uint.check(z.minimum(1), z.maximum(MAX_CLAIMS))),
      locks: own(resources),
      wait_ms: own(uint.check(z.maximum(MAX_WAIT_MS))),
    }),

    /** `/v1` only: just one of a task's status, the run's, and an event. */
    waitFor: object({
      for: mapped(
        object({
          task_id: optional(id),
          status: optional(z.array(workStatus).check(minLength(1))),
          run_status: optional(z.array(runStatus).check(minLength(1))),
          event: optional(
            object({
              types: optional(listOf(label, MAX_TYPES_AWAITED)),
              task_id: optional(id),
              since_seq: optional(uint),
            }),
          ),
        }),
        awaited,
      ),
      wait_ms: optional(uint.check(z.maximum(MAX_WAIT_MS))),
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
      retryable: own(z.boolean()),
      error_code: own(life.errorCode),
      progress: own(life.report),
    }),

    /** `/v1` only, and the next two. */
    acquireLock: object({ agent_id: label, resources, lease_ms: optional(uint), command_id: commandId }),
    heartbeatLock: object({ lease_token: label, lease_ms: optional(uint), command_id: commandId }),
    releaseLock: object({ lease_token: label, command_id: commandId }),

    /** `/v1` only. */
    redriveTask: object({ expected_task_rev: optional(uint), command_id: commandId }),

    /** `/v1` only. */
    redriveTasks: object({
      task_type: optionalLabel,
      workflow_id: optionalLabel,
      cause: optional(z.enum(FAILURE_CAUSES)),
      error_code: optionalLabel,
      limit: optional(z.int().check(z.minimum(1), z.maximum(MAX_REDRIVEN_AT_ONCE))),
      preview: optional(z.boolean()),
      command_id: commandId,
    }),

    /** `/v1` only. */
    putSettings: mapped(
      object({ ...life.settingsFields, command_id: commandId }),
      ({ command_id, ...settings }) => ({ command_id, settings: withoutAbsent(settings) }),
    ),
    /** `/v1` only. What each command holds is checked by the schema of its route. */
    commands: object({
      commands: listOf(z.looseObject({ op: z.string() }), MAX_COMMANDS_PER_BATCH),
      expected_revision: optional(uint),
      dry_run: optional(z.boolean()),
      command_id: commandId,
    }),

    /** `/v1` only. `task_id` and `lease_token` are those of the caller's own task. */
    changeDependencies: object({
      add: z._default(listOf(id, MAX_DEPENDENCIES_PER_TASK), []),
      remove: z._default(listOf(id, MAX_DEPENDENCIES_PER_TASK), []),
      expected_task_rev: optional(uint),
      ...underLease,
      command_id: commandId,
    }),

    /** `/v1` only. */
    cancelTask: object({
      reason: optionalLabel,
      grace_ms: optional(grace),
      expected_task_rev: optional(uint),
      command_id: commandId,
    }),

    /** To pause or cancel a run, `/v1` only. */
    haltRun: object({ reason: optionalLabel, grace_ms: optional(grace), command_id: commandId }),

    /** `/v1` only. */
    resumeRun: object({ reason: optionalLabel, command_id: commandId }),

    /** Contract 06 §9. `executor` is read on `/v1` only. */
    executeRollback: object({
      confirm: label,
      event_ids: z._default(listOf(upTo(MAX_ID_LENGTH), MAX_ROLLBACK_STEPS), []),
      policy_ack: optionalLabel,
      executor: optional(z.enum(["artifacts", "agent"])),
      command_id: commandId,
    }),

    /** A mutation of the artifact space, `/v1` only. Versions are null where a path held nothing. */
    recordMutation: object({
      session_id: label,
      message_id: label,
      tool: label,
      tool_call_id: optionalLabel,
      outcome: z.enum(["succeeded", "failed", "blocked"]),
      workspace_root: optional(path),
      effective_cwd: optional(path),
      files: listOf(
        object({
          path: z.string(),
          before_version: z.nullable(uint),
          after_version: z.nullable(uint),
        }),
        MAX_MUTATED_FILES,
      ),
      ...underLease,
      command_id: commandId,
    }),

    /** Contract 06 §1. */
    createCheckpoint: object({ reason: upTo(MAX_ERROR_LENGTH), command_id: commandId }),

    /** The same on `/v1`, where checkpoints may have names. */
    createNamedCheckpoint: object({
      reason: upTo(MAX_ERROR_LENGTH),
      name: optional(checkpointName),
      command_id: commandId,
    }),

    /** `/v1` only. */
    forkRun: object({
      at_seq: optional(uint),
      run_id: optionalText,
      objective: optionalText,
      command_id: commandId,
    }),

    /** Contract 05 §6. The content may be any JSON, but must be there. */
    appendArtifact: object({
      path: optional(artifactPath()),
      artifact_type: label,
      content: z
        .unknown()
        .check(z.refine((content) => content !== undefined, { params: { rule: "required" } })),
      id: optionalLabel,
      step_id: optionalLabel,
      source_event_id: optionalLabel,
      expected_version: optional(uint),
      task_id: optionalLabel,
      lock_id: optionalLabel,
      lease_token: optionalLabel,
      command_id: commandId,
    }),

    startUpload: object({
      path: artifactPath(),
      artifact_type: optionalLabel,
      content_type: optionalLabel,
      sha256: optional(sha256),
      id: optionalLabel,
      step_id: optionalLabel,
      source_event_id: optionalLabel,
      expected_version: optional(uint),
      task_id: optionalLabel,
      lease_token: optionalLabel,
      command_id: commandId,
    }),

    completeUpload: object({
      parts: optional(listOf(object({ part: uint, sha256 }), MAX_PARTS)),
      sha256: optional(sha256),
      lease_token: optionalLabel,
      command_id: commandId,
    }),
  };
}

/** Request bodies of `/context`: unknown fields are ignored. */
export const contextBodies = lazy(() => makeBodies(z.object, { runNeedsTasks: false, ownFields: false }));

/**
 * Request bodies of `/v1`: unknown fields are refused. A run to be put must say its tasks, because the run that `/v1`
 * shows has none, and an absent list would empty the board.
 */
export const nativeBodies = lazy(() =>
  makeBodies(z.strictObject as ObjectMaker, { runNeedsTasks: true, ownFields: true }),
);

export type Bodies = ReturnType<typeof contextBodies>;
export type BodyName = keyof Bodies;
export type BodyOf<Name extends BodyName> = z.output<Bodies[Name]>;
