import * as z from "zod/mini";
import { PATCH_OPS } from "./blackboard.ts";
import { artifactPath } from "./bodies.ts";
import { lazy } from "./lazy.ts";
import { LOCK_MODES } from "./lock.ts";
import type { RunHeader } from "./run.ts";
import { someText, uint } from "./schema.ts";
import { RUN_STATUSES, WORK_STATUSES } from "./status.ts";
import { storedLifeShapes } from "./task-life-shapes.ts";

/**
 * A run as a text that can be kept, moved and read back: NDJSON, each line one JSON document and a line break, in this order.
 *
 *     {"baton_export":1,"run_id":…,"initial":RunHeader,"created_command":…,"last_event_seq":…}
 *     {"genesis":<state line>}            the state the run began with, if not empty (domain/state-lines.ts)
 *     {"commit":{"seq":…,"prev_hash":…,"command_id":…,"receipt":…,"event":…,"patch":…}}
 *     {"checkpoint":CheckpointHead}       behind the commit of its seq: its state is the run's at that place
 *     {"checkpoint_name":{"name":…,"seq":…}}
 *     {"checkpoint_command":{"command_id":…,"fingerprint":…,"head":CheckpointHead}}
 *     {"move_call":{"command_id":…,"fingerprint":…,"answer":…}}    what a call was answered that brought the run
 *     {"blob":{"sha256":…,"bytes":…}}     a content that the run refers to; inline where parts follow
 *     {"blob_part":"<base64>"}
 *     {"end":{"lines":…,"sha256":…,"commits":…,"log_hash":…,"state_sha256":…}}
 *
 * F1 `end.sha256` is that of all bytes before the last line, and the last line is written exactly as JSON.stringify writes it:
 *    so no byte of an export can change unnoticed.
 * F2 `end.state_sha256` is the digest of the run's state after the last commit (run/state-digest.ts), as the exporter had it.
 * F3 A text that is stored is JSON.stringify of what the line holds, so that the hashes of the log stay true.
 */
export const EXPORT_VERSION = 1;

/** A line is as long as a commit can be, with room; heads with all their texts are shorter. In bytes. */
export const MAX_EXPORT_LINE_BYTES = 8 * 1024 * 1024;

/** A part of an inline content, before base64. In bytes; a multiple of 3, so that only the last part is padded. */
export const BLOB_PART_BYTES = 192 * 1024;

/** A longer content is never inline: it is put together in memory when it is read back. In bytes. */
export const MAX_INLINE_BLOB_BYTES = 24 * 1024 * 1024;

/** An object that has one of a shape's members, and no other. */
const oneMember = <Shape extends z.core.$ZodShape>(shape: z.ZodMiniObject<Shape>) =>
  z.partial(shape).check(
    z.refine((line) => Object.keys(line).length === 1, {
      message: "must have exactly one member",
      params: { rule: "one_member" },
    }),
  );

/** The shapes of lines, and of what is in them. They check and never change a value. */
export const exportShapes = lazy(() => {
  const sha256 = z.string().check(z.regex(/^[0-9a-f]{64}$/));
  const optionalText = z.optional(z.string());
  const optionalUint = z.optional(uint);

  const step = z.looseObject({ step_id: z.string(), title: z.string(), status: z.enum(WORK_STATUSES) });

  const tenant = z.looseObject({
    org_id: z.string(),
    workspace_id: z.string(),
    actor_id: optionalText,
    source: z.enum(["local_implicit", "explicit"]),
  });

  /** A stored run without its tasks. These shapes check and never change a value. */
  const storedRunHeader = z.looseObject({
    run_id: z.string(),
    run_type: z.string(),
    tenant_context: tenant,
    source_client: optionalText,
    model_provider: optionalText,
    model_id: optionalText,
    mcp_servers: z.array(z.string()),
    status: z.enum(RUN_STATUSES),
    objective: z.string(),
    workspace: z.looseObject({ workspace_id: z.string(), canonical_path: z.string(), lease_epoch: uint }),
    steps: z.array(step),
    why_next_step: z.nullable(z.string()),
    revision: uint,
    last_event_seq: uint,
    created_at_ms: uint,
    started_at_ms: optionalUint,
    ended_at_ms: optionalUint,
    last_error: optionalText,
    updated_at_ms: uint,
    settings: z.optional(storedLifeShapes().settings),
  });

  /** A stored task. */
  const storedTask = z.looseObject({
    id: someText,
    task_type: z.string(),
    payload: z.unknown(),
    status: z.enum(WORK_STATUSES),
    workflow_id: optionalText,
    workflow_node_id: optionalText,
    parent_task_id: optionalText,
    depends_on_task_ids: z.array(z.string()),
    decision_ids: z.array(z.string()),
    artifact_ids: z.array(z.string()),
    assigned_agent: optionalText,
    priority: z.int(),
    attempt: uint,
    max_attempts: uint,
    last_error: optionalText,
    next_retry_at_ms: optionalUint,
    lease_owner: optionalText,
    lease_token: optionalText,
    lease_expires_at_ms: optionalUint,
    task_rev: uint,
    created_ts: uint,
    updated_ts: uint,
    ...storedLifeShapes().task,
  });

  const note = z.looseObject({ id: z.string(), ts_ms: uint, text: z.string() });

  const fileChange = z.looseObject({
    path: artifactPath(),
    sha256: z.nullable(sha256),
    bytes: uint,
    content_type: z.string(),
  });

  /** One entry of a state (domain/state-lines.ts): exactly one of these members. */
  const storedStateEntry = oneMember(
    z.strictObject({
      head: z.looseObject({
        run: storedRunHeader,
        blackboard_revision: uint,
        summaries: z.looseObject({ rolling: z.string(), latest_context_pack: z.string() }),
        workspace_since_seq: uint,
        // Nobody has held anything yet.
        halt: z.optional(z.never()),
        locks: z.optional(z.never()),
      }),
      task: storedTask,
      facts: note,
      decisions: note,
      open_questions: note,
      artifacts: z.looseObject({ id: z.string(), ts_ms: uint, path: z.string(), artifact_type: z.string() }),
      file: z.extend(fileChange, { version: uint, ts_ms: uint }),
    }),
  );

  const eventRecord = z.looseObject({
    event_id: z.string(),
    run_id: z.string(),
    seq: uint,
    ts_ms: uint,
    type: z.string(),
    status: z.enum(RUN_STATUSES),
    run_status: z.enum(RUN_STATUSES),
    revision: uint,
    step_id: optionalText,
    task_id: optionalText,
    command_id: optionalText,
    origin: z.optional(z.literal("client")),
    halt: storedLifeShapes().halt,
    payload: z.unknown(),
  });

  const patchRecord = z.looseObject({
    patch_id: z.string(),
    run_id: z.string(),
    seq: uint,
    ts_ms: uint,
    source_event_seq: uint,
    op: z.enum(PATCH_OPS),
    payload: z.unknown(),
  });

  const receipt = z.looseObject({
    op: z.string(),
    fingerprint: z.nullable(z.string()),
    commits: z.int().check(z.minimum(1)),
    deduped: z.optional(z.array(z.string())),
    parts: z.optional(
      z.array(
        z.looseObject({
          op: z.string(),
          commits: uint,
          deduped: z.optional(z.array(z.string())),
          outcome: z.optional(z.looseObject({ op: z.string() })),
        }),
      ),
    ),
  });

  const storedLock = z.looseObject({
    lock_id: z.string(),
    agent_id: z.string(),
    fence: uint,
    resources: z.array(z.looseObject({ name: z.string(), mode: z.enum(LOCK_MODES) })),
    expires_at_ms: uint,
  });

  /** What the payload of an engine-written event holds that gives it its meaning (domain/evolve.ts). */
  const payloads = {
    task: z.looseObject({ task: storedTask, lock: z.optional(storedLock) }),
    lock: z.looseObject({ lock: z.optional(storedLock), lock_ids: z.optional(z.array(z.string())) }),
    run: z.looseObject({ run: z.extend(storedRunHeader, { tasks: z.array(storedTask) }) }),
    steps: z.looseObject({ steps: z.optional(z.array(step)), why_next_step: z.nullish(z.string()) }),
    settings: z.looseObject({ settings: storedLifeShapes().settings }),
    files: z.looseObject({ files: z.optional(z.array(fileChange)) }),
    workspace: z.looseObject({
      actual_path: optionalText,
      expected_path: optionalText,
      phase: optionalText,
    }),
  };

  const createdCommand = z.strictObject({ command_id: someText, fingerprint: z.string() });

  const checkpointHead = z.looseObject({
    checkpoint_id: someText,
    run_id: z.string(),
    seq: uint,
    ts_ms: uint,
    reason: z.string(),
    name: optionalText,
    automatic: z.optional(z.boolean()),
    state_sha256: z.nullish(sha256),
    log_hash: z.nullish(sha256),
  });

  const header = z.strictObject({
    baton_export: z.literal(EXPORT_VERSION),
    run_id: z.string(),
    initial: storedRunHeader,
    created_command: z.nullable(createdCommand),
    last_event_seq: uint,
  });

  const line = oneMember(
    z.strictObject({
      genesis: storedStateEntry,
      commit: z.strictObject({
        seq: z.int().check(z.minimum(1)),
        prev_hash: z.nullable(sha256),
        command_id: z.nullable(someText),
        receipt: z.nullable(receipt),
        event: eventRecord,
        patch: z.nullable(patchRecord),
      }),
      checkpoint: checkpointHead,
      checkpoint_name: z.strictObject({ name: someText, seq: uint }),
      checkpoint_command: z.strictObject({
        command_id: someText,
        fingerprint: z.string(),
        head: checkpointHead,
      }),
      move_call: z.strictObject({
        command_id: someText,
        fingerprint: z.string(),
        answer: z.strictObject({ run: storedRunHeader, checks: z.looseObject({}) }),
      }),
      blob: z.strictObject({ sha256, bytes: uint }),
      blob_part: someText,
      end: z.strictObject({
        lines: uint,
        sha256,
        commits: uint,
        log_hash: sha256,
        state_sha256: sha256,
      }),
    }),
  );

  return {
    header,
    /** Every line after the first. */
    line,
    payloads,
  };
});

type Shapes = ReturnType<typeof exportShapes>;
export type StoredPayload = keyof Shapes["payloads"];
export type ExportHeader = Omit<z.output<Shapes["header"]>, "initial"> & { initial: RunHeader };
export type ExportLine = z.output<Shapes["line"]>;
export type ExportEnd = NonNullable<ExportLine["end"]>;

/** What an arrival has proved. */
export interface ExportChecks extends ExportEnd {
  last_event_seq: number;
  checkpoints: number;
  /** Contents that the run refers to, and how many of them came inline. */
  blobs: number;
  inline_blobs: number;
}
