import * as z from "zod/mini";
import { withoutAbsent } from "../protocol/absent.ts";
import { type Artifact, type Note, PATCH_OPS, type PatchOp } from "../protocol/blackboard.ts";
import { lazy } from "../protocol/lazy.ts";
import type { RunHeader, Step } from "../protocol/run.ts";
import { mapped, optional, someText, uint } from "../protocol/schema.ts";
import { fitting } from "../protocol/shape.ts";
import { RUN_STATUSES, type RunStatus, WORK_STATUSES } from "../protocol/status.ts";
import type { Task } from "../protocol/task.ts";
import { isDeeperThan } from "./json-depth.ts";

/** Shapes of the reference engine's own files (contract 01 §9), read as leniently as it reads them itself. */

const shapes = lazy(() => {
  const text = z.string();
  const or = <T>(type: z.core.$ZodType<T>, otherwise: T) =>
    mapped(z.nullish(type), (value) => value ?? otherwise);
  const texts = or(z.array(text), []);

  const task = mapped(
    z.object({
      id: someText,
      task_type: text,
      payload: z.optional(z.unknown()),
      status: z.enum(WORK_STATUSES),
      workflow_id: optional(text),
      workflow_node_id: optional(text),
      parent_task_id: optional(text),
      depends_on_task_ids: texts,
      decision_ids: texts,
      artifact_ids: texts,
      assigned_agent: optional(text),
      priority: or(z.int(), 0),
      attempt: or(uint, 0),
      max_attempts: or(uint, 0),
      last_error: optional(text),
      next_retry_at_ms: optional(uint),
      lease_owner: optional(text),
      lease_token: optional(text),
      lease_expires_at_ms: optional(uint),
      task_rev: or(uint, 0),
      created_ts: uint,
      updated_ts: uint,
    }),
    (value): Task => withoutAbsent({ ...value, payload: value.payload ?? null }) as Task,
  );

  const step = z.object({ step_id: text, title: text, status: z.enum(WORK_STATUSES) });

  const noWorkspace = { workspace_id: "", canonical_path: "", lease_epoch: 0 };

  const run = mapped(
    z.object({
      run_id: text,
      run_type: or(text, "interactive"),
      source_client: optional(text),
      model_provider: optional(text),
      model_id: optional(text),
      mcp_servers: texts,
      status: z.enum(RUN_STATUSES),
      objective: or(text, ""),
      workspace: or(z.object({ workspace_id: text, canonical_path: text, lease_epoch: uint }), noWorkspace),
      steps: or(z.array(step), []),
      tasks: or(z.array(task), []),
      why_next_step: or<string | null>(text, null),
      revision: or(uint, 1),
      last_event_seq: or(uint, 0),
      created_at_ms: uint,
      started_at_ms: optional(uint),
      ended_at_ms: optional(uint),
      last_error: optional(text),
      updated_at_ms: uint,
      source_metadata: optional(z.unknown()),
    }),
    (value) => withoutAbsent(value) as StoredRun,
  );

  const event = mapped(
    z.object({
      event_id: text,
      seq: optional(uint),
      event_seq: optional(uint),
      ts_ms: uint,
      type: text,
      status: z.enum(RUN_STATUSES),
      revision: or(uint, 0),
      step_id: optional(text),
      task_id: optional(text),
      command_id: optional(text),
      payload: z.optional(z.unknown()),
    }),
    ({ event_seq, ...value }, context): StoredEvent => {
      const seq = value.seq ?? event_seq;
      if (seq === undefined) context.issues.push({ code: "custom", input: value, message: "has no seq" });
      return withoutAbsent({ ...value, seq: seq ?? 0, payload: value.payload ?? null }) as StoredEvent;
    },
  );

  const patch = mapped(
    z.object({
      patch_id: text,
      seq: uint,
      ts_ms: uint,
      source_event_seq: optional(uint),
      op: z.enum(PATCH_OPS),
      payload: z.optional(z.unknown()),
    }),
    (value): StoredPatch => withoutAbsent({ ...value, payload: value.payload ?? null }) as StoredPatch,
  );

  const entry = { id: text, ts_ms: uint, step_id: optional(text), source_event_id: optional(text) };
  const note = mapped(z.object({ ...entry, text }), (value) => withoutAbsent(value) as Note);
  const artifact = mapped(
    z.object({ ...entry, path: text, artifact_type: text }),
    (value) => withoutAbsent(value) as Artifact,
  );

  const blackboard = z.object({
    facts: or(z.array(note), []),
    decisions: or(z.array(note), []),
    open_questions: or(z.array(note), []),
    artifacts: or(z.array(artifact), []),
    summaries: or(z.object({ rolling: or(text, ""), latest_context_pack: or(text, "") }), {
      rolling: "",
      latest_context_pack: "",
    }),
    revision: or(uint, 0),
  });

  const checkpoint = z.object({ checkpoint_id: text, seq: uint, ts_ms: uint, reason: or(text, "") });

  return { task, steps: z.array(step), run, event, patch, blackboard, checkpoint };
});
type Shapes = ReturnType<typeof shapes>;

/** A snapshot, whole; its tenant is not read. */
export type StoredRun = Omit<RunHeader, "tenant_context"> & { tasks: Task[] };

export interface StoredEvent {
  event_id: string;
  seq: number;
  ts_ms: number;
  type: string;
  status: RunStatus;
  revision: number;
  step_id?: string;
  task_id?: string;
  command_id?: string;
  payload: unknown;
}

export interface StoredPatch {
  patch_id: string;
  seq: number;
  ts_ms: number;
  source_event_seq?: number;
  op: PatchOp;
  payload: unknown;
}

export type StoredBoard = z.output<Shapes["blackboard"]>;
export type StoredCheckpoint = z.output<Shapes["checkpoint"]>;

/** A value by its shape; null where it has not that shape. */
function reader<T>(kind: keyof Shapes): (value: unknown) => T | null {
  return (value) => fitting(shapes()[kind] as unknown as z.core.$ZodType<T>, value);
}

export const readRun = reader<StoredRun>("run");
export const readTask = reader<Task>("task");
export const readSteps = reader<Step[]>("steps");
export const readEvent = reader<StoredEvent>("event");
export const readPatchRecord = reader<StoredPatch>("patch");
export const readBoard = reader<StoredBoard>("blackboard");
export const readCheckpointHead = reader<StoredCheckpoint>("checkpoint");

/** What was found in a file of records, one per line. */
export interface LinesFound {
  /** Lines that are not blank. */
  lines: number;
  taken: number;
  /** Lines, from 1, that hold no record: the first of them, and how many there are. */
  unparsable_lines: number[];
  unparsable: number;
  /** Whether the last line was cut off. */
  torn_last_line: boolean;
  /** Records that were found behind the beginning of another that was cut off (contract 07 D22). */
  behind_torn: number;
}

const MAX_LINES_NAMED = 50;
/** A file with more lines that hold no record is none of this kind: each costs more than one that does. */
export const MAX_UNPARSABLE = 100_000;
const MAX_DEPTH = 100;
const MAX_STARTS_TRIED = 200;
/** What is read again of one file's lines to find them, in UTF-16 units: a second's worth of reading. */
const MAX_READ_AGAIN = 32 * 1024 * 1024;

/** The records of a file, in the order of its lines; null where too many lines hold none. */
export function readLines<T>(
  file: string,
  read: (value: unknown) => T | null,
): { records: { line: number; record: T }[]; found: LinesFound } | null {
  const records: { line: number; record: T }[] = [];
  const found: LinesFound = {
    lines: 0,
    taken: 0,
    unparsable_lines: [],
    unparsable: 0,
    torn_last_line: false,
    behind_torn: 0,
  };
  const lines = file.split("\n");
  const allowance = { left: MAX_READ_AGAIN };
  for (const [index, line] of lines.entries()) {
    if (line.trim() === "") continue;
    found.lines += 1;
    let record = read(parsed(line));
    if (record === null) {
      found.unparsable += 1;
      if (found.unparsable > MAX_UNPARSABLE) return null;
      if (found.unparsable_lines.length < MAX_LINES_NAMED) found.unparsable_lines.push(index + 1);
      if (index === lines.length - 1) found.torn_last_line = true;
      record = behindTorn(line, read, allowance);
      if (record !== null) found.behind_torn += 1;
    }
    if (record !== null) records.push({ line: index + 1, record });
  }
  found.taken = records.length;
  return { records, found };
}

/** JSON, or undefined, also where it is nested deeper than anything that a run can hold. */
export function parsed(json: string): unknown {
  try {
    const value: unknown = JSON.parse(json);
    return isDeeperThan(value, MAX_DEPTH) ? undefined : value;
  } catch {
    return undefined;
  }
}

/** A write that was cut off has no line break, so that the next record stands in the same line, behind it. */
function behindTorn<T>(
  line: string,
  read: (value: unknown) => T | null,
  allowance: { left: number },
): T | null {
  let start = line.indexOf("{", 1);
  for (let tried = 0; start !== -1 && tried < MAX_STARTS_TRIED; tried += 1) {
    allowance.left -= line.length - start;
    if (allowance.left < 0) return null;
    const record = read(parsed(line.slice(start)));
    if (record !== null) return record;
    start = line.indexOf("{", start + 1);
  }
  return null;
}
