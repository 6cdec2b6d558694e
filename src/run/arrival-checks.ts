import type { Commit } from "../domain/commit.ts";
import { isDeeperThan } from "../domain/json-depth.ts";
import { bytesOver } from "../domain/json-size.ts";
import { tenantKey } from "../identity/tenant.ts";
import { type ExportHeader, exportShapes, type StoredPayload } from "../protocol/export-format.ts";
import { MAX_COMMIT_BYTES } from "../protocol/limits.ts";
import type { RunHeader, Tenant } from "../protocol/run.ts";
import { readShape } from "../protocol/shape.ts";
import { ArrivalFault } from "./arrival-fault.ts";
import type { LogRow } from "./chain.ts";
import type { Line } from "./line-reader.ts";

/** A task must leave room for itself in its event, and in its patch. */
export const MAX_ARRIVING_TASK_BYTES = MAX_COMMIT_BYTES / 2;
/** A row with everything that is in it. */
const MAX_ROW_BYTES = 1_990_000;
/** Deeper than any request can make it. */
const MAX_DEPTH = 100;

/** A line's value, unchanged; its shape checked. */
export function parsed(line: Line, schema: ReturnType<typeof exportShapes>["header" | "line"]): unknown {
  let value: unknown;
  try {
    value = JSON.parse(line.text);
  } catch {
    throw new ArrivalFault(line.number, "", "json", "is not JSON");
  }
  if (isDeeperThan(value, MAX_DEPTH)) {
    throw new ArrivalFault(line.number, "", "max_depth", "is nested too deeply", { limit: MAX_DEPTH });
  }
  const read = readShape(schema, value);
  if (read.ok) return value;
  const [first] = read.issues;
  throw new ArrivalFault(
    line.number,
    first?.field ?? "",
    first?.rule ?? "shape",
    first?.message ?? "has not the shape of this format",
  );
}

export function checkSize(line: number, path: string, value: unknown, limit: number): void {
  const actual = bytesOver(JSON.stringify(value), limit);
  if (actual === null) return;
  throw new ArrivalFault(line, path, "max_bytes", `must have at most ${limit} bytes`, { limit, actual });
}

export function checkRow(line: number, { event, patch, receipt, command_id }: LogRow): void {
  const limits: [string, string, number][] = [
    ["commit", event + (patch ?? ""), MAX_COMMIT_BYTES],
    ["commit", event + (patch ?? "") + (receipt ?? "") + (command_id ?? ""), MAX_ROW_BYTES],
  ];
  for (const [path, text, limit] of limits) {
    const actual = bytesOver(text, limit);
    if (actual === null) continue;
    throw new ArrivalFault(line, path, "max_bytes", `must have at most ${limit} bytes`, { limit, actual });
  }
}

/** That the records of a commit belong together, and what gives them their meaning can be read. */
export function checkRecords(
  line: number,
  { event, patch }: Commit,
  seq: number,
  header: ExportHeader,
): void {
  const records = patch === null ? { event } : { event, patch };
  for (const [name, record] of Object.entries(records)) {
    if (record.seq !== seq)
      throw new ArrivalFault(line, `commit.${name}.seq`, "contiguous", "is not the seq of the commit");
    if (record.run_id !== header.run_id)
      throw new ArrivalFault(line, `commit.${name}.run_id`, "same_run", "is of another run");
  }
  const shape = payloadShapeOf(event);
  if (shape === null) return;
  const read = readShape(exportShapes().payloads[shape], event.payload);
  const [first] = read.ok ? [] : read.issues;
  if (first !== undefined) {
    const path = ["commit.event.payload", first.field].filter(Boolean).join(".");
    throw new ArrivalFault(line, path, first.rule, first.message);
  }
  if (shape === "task") checkSize(line, "commit.event.payload.task", taskIn(event), MAX_ARRIVING_TASK_BYTES);
  if (shape === "run") {
    const { run } = event.payload as { run: RunHeader };
    if (run.run_id !== header.run_id || !isSameTenant(run.tenant_context, header.initial.tenant_context))
      throw new ArrivalFault(line, "commit.event.payload.run", "same_run", "is another run, or another's");
  }
}

/** What evolve reads of an event's payload. */
export function payloadShapeOf({ type, origin }: Commit["event"]): StoredPayload | null {
  if (origin === "client") return null;
  if (type.startsWith("context.task.")) return "task";
  if (type.startsWith("context.lock.")) return "lock";
  switch (type) {
    case "context.run.replaced":
    case "context.run.imported":
      return "run";
    case "context.run.settings_set":
      return "settings";
    case "todo_synced":
    case "meta_next_step_selected":
      return "steps";
    case "workspace_validated":
    case "workspace_mismatch":
      return "workspace";
    case "context.artifact.added":
    case "context.artifact.removed":
    case "rollback_execution_applied":
      return "files";
    default:
      return null;
  }
}

function taskIn(event: Commit["event"]): unknown {
  return (event.payload as { task: unknown }).task;
}

export function isSameTenant(a: Tenant, b: Tenant): boolean {
  return tenantKey(a) === tenantKey(b);
}
