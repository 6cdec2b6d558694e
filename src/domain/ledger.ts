import * as z from "zod/mini";
import { withoutAbsent } from "../protocol/absent.ts";
import type { EventRecord } from "../protocol/event.ts";
import { lazy } from "../protocol/lazy.ts";
import { optional } from "../protocol/schema.ts";
import { fitting } from "../protocol/shape.ts";
import { type Counts, counted, countedTool, withTools } from "./counts.ts";

const recordSchema = lazy(() => {
  const optionalText = optional(z.string());
  return z.object({
    session_id: z.string(),
    message_id: z.string(),
    tool_call_id: optionalText,
    tool: z.string(),
    phase: z.enum(["invocation", "outcome"]),
    status: z.enum(["started", "succeeded", "failed", "blocked"]),
    /** Must be there, but may be null. */
    args_summary: z.unknown(),
    result_summary: optional(z.unknown()),
    error: optionalText,
    policy_decision_id: optionalText,
  });
});

/** What a tool did, as the producer of the run's events tells it (contract 06 §4, 02 §9.1). */
export interface LedgerRecord {
  session_id: string;
  message_id: string;
  tool_call_id?: string;
  tool: string;
  phase: "invocation" | "outcome";
  status: "started" | "succeeded" | "failed" | "blocked";
  args_summary: unknown;
  result_summary?: unknown;
  error?: string;
  policy_decision_id?: string;
}

/** The ledger record of an event; null when it is none or does not parse. Type names are matched exactly (06 §4). */
export function ledgerRecordOf(event: EventRecord): LedgerRecord | null {
  if (event.type !== "tool_effect_recorded") return null;
  const record = fitting(recordSchema(), payloadMember(event, "record"));
  return record === null ? null : (withoutAbsent(record) as LedgerRecord);
}

/** A member of a payload that anyone may have written; undefined when there is none. */
export function payloadMember(event: EventRecord, name: string): unknown {
  const { payload } = event;
  if (typeof payload !== "object" || payload === null || !Object.hasOwn(payload, name)) return undefined;
  return (payload as Record<string, unknown>)[name];
}

/** The strings of an array, or nothing. */
export function stringsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((element) => typeof element === "string") : [];
}

/** What the records of a stretch of the log come to (contract 06 §4). */
export interface LedgerSummary {
  record_count: number;
  by_status: Counts;
  by_phase: Counts;
  by_tool: Counts;
  last_seq: number | null;
  last_ts_ms: number | null;
  /** Of the reference engine's later releases; Baton has no such connector, so nothing is ever in it. */
  fintech_connector_proof: never[];
}

export const NO_LEDGER: LedgerSummary = {
  record_count: 0,
  by_status: {},
  by_phase: {},
  by_tool: {},
  last_seq: null,
  last_ts_ms: null,
  fintech_connector_proof: [],
};

export function withLedgerRecord(
  summary: LedgerSummary,
  event: EventRecord,
  record: LedgerRecord,
): LedgerSummary {
  return {
    ...summary,
    record_count: summary.record_count + 1,
    by_status: counted(summary.by_status, record.status),
    by_phase: counted(summary.by_phase, record.phase),
    by_tool: countedTool(summary.by_tool, record.tool),
    last_seq: event.seq,
    last_ts_ms: event.ts_ms,
  };
}

/** Which tools were offered to agents, kept from them, and used: sorted sets, bounded as in counts.ts. */
export interface ToolSets {
  offered: string[];
  hidden: string[];
  used: string[];
}

export const NO_TOOLS: ToolSets = { offered: [], hidden: [], used: [] };

export function withUse(tools: ToolSets, record: LedgerRecord): ToolSets {
  return record.status === "blocked" ? tools : { ...tools, used: withTools(tools.used, [record.tool]) };
}

/** Takes in an event of type `tool_routing_decision`; null for any other (contract 02 §9.1). */
export function withRouting(tools: ToolSets, event: EventRecord): ToolSets | null {
  if (event.type !== "tool_routing_decision") return null;
  const either = (name: string, alias: string) => [
    ...stringsOf(payloadMember(event, name)),
    ...stringsOf(payloadMember(event, alias)),
  ];
  return {
    ...tools,
    offered: withTools(tools.offered, either("offeredTools", "offered_tools")),
    hidden: withTools(tools.hidden, either("hiddenByScope", "hidden_by_scope")),
  };
}

/** Contract 02 §9.1. */
export interface ToolManifest {
  offered: string[];
  used: string[];
  hidden_by_scope: string[];
  used_subset_offered: boolean;
  used_unoffered: string[];
}

export function toolManifest({ offered: told, hidden, used }: ToolSets): ToolManifest {
  const offered = told.length === 0 ? used : told;
  const used_unoffered = used.filter((tool) => !offered.includes(tool));
  return {
    offered,
    used,
    hidden_by_scope: hidden.filter((tool) => !offered.includes(tool)),
    used_subset_offered: used_unoffered.length === 0,
    used_unoffered,
  };
}
