import * as z from "zod/mini";
import { withoutAbsent } from "../protocol/absent.ts";
import type { EventRecord } from "../protocol/event.ts";
import { lazy } from "../protocol/lazy.ts";
import { optional, uint } from "../protocol/schema.ts";
import { fitting } from "../protocol/shape.ts";
import { type Counts, counted, countedTool } from "./counts.ts";
import { payloadMember } from "./ledger.ts";

/** A record as a client may report it, and as the engine stores it. */
const records = lazy(() => {
  const optionalText = optional(z.string());
  const optionalUint = optional(uint);

  /** What a producer may say about the prior content of a file (contract 06 §5). */
  const reportedSnapshot = z.object({
    status: z.enum(["inline_text", "not_needed", "too_large", "binary"]),
    content: optionalText,
    byte_count: optionalUint,
  });

  /** What the engine itself says when the prior content lies in the run's artifact space. */
  const storedSnapshot = z.object({
    status: z.literal("stored"),
    sha256: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
    byte_count: uint,
    content_type: z.string(),
    version: uint,
  });

  const recordWith = <Snapshot extends z.core.$ZodType>(rollback_snapshot: Snapshot) =>
    z.object({
      session_id: z.string(),
      message_id: z.string(),
      tool_call_id: optionalText,
      tool: z.string(),
      outcome: z.enum(["succeeded", "failed", "blocked"]),
      file_count: uint,
      changed_file_count: uint,
      workspace_root: optionalText,
      effective_cwd: optionalText,
      files: z.array(
        z.object({
          path: z.string(),
          resolved_path: z.string(),
          existed_before: z.boolean(),
          existed_after: z.boolean(),
          changed: z.boolean(),
          before_hash: optionalText,
          after_hash: optionalText,
          rollback_snapshot,
        }),
      ),
    });

  return {
    reported: recordWith(reportedSnapshot),
    stored: recordWith(z.union([storedSnapshot, reportedSnapshot])),
  };
});

export type RollbackSnapshot =
  | { status: "inline_text" | "not_needed" | "too_large" | "binary"; content?: string; byte_count?: number }
  | { status: "stored"; sha256: string; byte_count: number; content_type: string; version: number };

/** How the tool call ended. */
export const MUTATION_OUTCOMES = ["succeeded", "failed", "blocked"] as const;
export type MutationOutcome = (typeof MUTATION_OUTCOMES)[number];

/** What a mutation did to one file (contract 06 §5). */
export interface MutatedFile {
  path: string;
  resolved_path: string;
  existed_before: boolean;
  existed_after: boolean;
  changed: boolean;
  before_hash?: string;
  after_hash?: string;
  rollback_snapshot: RollbackSnapshot;
}

export interface MutationRecord {
  session_id: string;
  message_id: string;
  tool_call_id?: string;
  tool: string;
  outcome: MutationOutcome;
  file_count: number;
  changed_file_count: number;
  workspace_root?: string;
  effective_cwd?: string;
  files: MutatedFile[];
}

/**
 * The mutation record of an event; null when it is none or does not parse (contract 06 §5). A stored snapshot is the
 * engine's word: a client that could claim one would have any content it knows the hash of written into its run (07 D04).
 */
export function mutationRecordOf(event: EventRecord): MutationRecord | null {
  if (event.type !== "mutation_checkpoint_recorded") return null;
  const schema = event.origin === "client" ? records().reported : records().stored;
  const record = fitting(schema, payloadMember(event, "record"));
  if (record === null) return null;
  const files = record.files.map((file) => ({
    ...withoutAbsent(file),
    rollback_snapshot: withoutAbsent(file.rollback_snapshot) as RollbackSnapshot,
  }));
  return { ...withoutAbsent(record), files };
}

/** What the records of a stretch of the log come to (contract 06 §5). */
export interface MutationSummary {
  record_count: number;
  /** The sum of the records' own figures. */
  changed_file_count: number;
  by_outcome: Counts;
  by_tool: Counts;
  last_seq: number | null;
  last_ts_ms: number | null;
}

export const NO_MUTATIONS: MutationSummary = {
  record_count: 0,
  changed_file_count: 0,
  by_outcome: {},
  by_tool: {},
  last_seq: null,
  last_ts_ms: null,
};

export function withMutation(
  summary: MutationSummary,
  event: EventRecord,
  record: MutationRecord,
): MutationSummary {
  return {
    record_count: summary.record_count + 1,
    changed_file_count: Math.min(
      summary.changed_file_count + record.changed_file_count,
      Number.MAX_SAFE_INTEGER,
    ),
    by_outcome: counted(summary.by_outcome, record.outcome),
    by_tool: countedTool(summary.by_tool, record.tool),
    last_seq: event.seq,
    last_ts_ms: event.ts_ms,
  };
}
