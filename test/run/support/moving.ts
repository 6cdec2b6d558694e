import { createHash } from "node:crypto";
import { expect } from "vitest";
import { LOCAL_TENANT } from "../../../src/identity/tenant.ts";
import { exportText } from "../../../src/moving/export.ts";
import type { ExportEnd, ExportLine } from "../../../src/protocol/export-format.ts";
import type { ArrivalRequest, Arrived } from "../../../src/run/arrival.ts";
import type { Result } from "../../../src/run/run-object.ts";
import { accepted, claimed, creation, inObject, note, row, type TestRun } from "./test-run.ts";

/** Fills a run with something of everything that a log can hold. */
export async function fill(run: TestRun): Promise<void> {
  await accepted(run, creation(row("a"), row("b", { depends_on_task_ids: ["a"] }), row("c")), "create-1");
  const { id, token } = await claimed(run);
  await accepted(run, { op: "transition_task", task_id: id, action: "complete", lease_token: token });
  await claimed(run);
  const fact = { id: "f1", ts_ms: 1, text: "a fäct 😀" };
  await accepted(run, { op: "patch_blackboard", patch_op: "add_fact", payload: fact });
  await accepted(run, { op: "patch_blackboard", patch_op: "set_rolling_summary", payload: "so far" });
  const call = { commandId: "checkpoint-1", fingerprint: "f" };
  expect((await run.client.createCheckpoint({ reason: "halfway", name: "half" }, call)).ok).toBe(true);
  expect((await run.client.createCheckpoint({ reason: "again", name: "middle" }, null)).ok).toBe(true);
  await accepted(run, note({ deep: [{ "1": 1, b: null }], text: 'quote " and \\ line\nbreak' }), "note-1");
  const todos = [{ id: "s1", content: "first", status: "pending" }];
  await accepted(run, {
    op: "sync_todos",
    todos,
    replace: true,
    source_session_id: null,
    source_run_id: null,
  });
  await accepted(run, { op: "select_next_step", dry_run: false });
}

/** The run's export. */
export async function exported(run: TestRun): Promise<string> {
  const start = await run.client.startExport();
  if (!start.ok) throw new Error(start.refusal.code);
  let text = "";
  for await (const piece of exportText(run.client, start.value, { blobs: null, inline: false }))
    text += piece;
  return text;
}

/** Bytes as a stream; one that fails at its end if so asked. */
export function streamOf(bytes: Uint8Array, options: { chunk?: number; fails?: boolean } = {}) {
  const { chunk = 16_384, fails = false } = options;
  let offset = 0;
  return new ReadableStream({
    type: "bytes",
    pull(controller) {
      if (offset < bytes.length) {
        controller.enqueue(bytes.slice(offset, offset + chunk));
        offset += chunk;
      } else if (fails) controller.error(new Error("the line was cut"));
      else {
        controller.close();
        controller.byobRequest?.respond(0);
      }
    },
  });
}

export const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

/** Sends an export to a run's object. */
export function arrive(
  run: TestRun,
  text: string | Uint8Array,
  options: Partial<ArrivalRequest> & { chunk?: number; fails?: boolean } = {},
): Promise<Result<Arrived>> {
  const { chunk, fails, ...request } = options;
  const bytes = typeof text === "string" ? bytesOf(text) : text;
  const whole = { tenant: LOCAL_TENANT, run_id: run.id, command: null, ...request };
  const stream = () => streamOf(bytes, { chunk: chunk ?? 16_384, fails: fails ?? false });
  // A stream that fails on its way between objects would be reported as a fault of the test.
  return fails
    ? inObject(run, (object) => object.arrive(stream(), whole))
    : run.client.arrive(stream(), whole);
}

/** An export's lines, parsed. */
export function linesIn(text: string): Record<string, unknown>[] {
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** An export of these lines, with an end that fits them but for what is said. */
export function sealed(lines: readonly object[], end: Partial<ExportEnd>): string {
  const text = lines.map((line) => `${JSON.stringify(line)}\n`).join("");
  const sums = {
    lines: lines.length,
    sha256: createHash("sha256").update(text).digest("hex"),
    commits: lines.filter((line) => "commit" in line).length,
  };
  const whole = { ...sums, log_hash: "", state_sha256: "", ...end };
  return `${text}${JSON.stringify({ end: whole })}\n`;
}

/** The end of an export. */
export function endOf(text: string): ExportEnd {
  return (linesIn(text).at(-1) as { end: ExportEnd }).end;
}

export type CommitLine = { commit: NonNullable<ExportLine["commit"]> };
