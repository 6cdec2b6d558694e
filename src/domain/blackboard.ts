import * as z from "zod/mini";
import { withoutAbsent } from "../protocol/absent.ts";
import type { Artifact, Note, NoteList, PatchOp, Summaries } from "../protocol/blackboard.ts";
import type { Issue } from "../protocol/issue.ts";
import { lazy } from "../protocol/lazy.ts";
import { optional, uint } from "../protocol/schema.ts";
import { readShape } from "../protocol/shape.ts";

/** What a blackboard patch does, once its payload is known to fit (contract 05 §2). */
export type BoardEffect =
  | { kind: "add_note"; list: NoteList; note: Note }
  | { kind: "add_artifact"; artifact: Artifact }
  | { kind: "set_summary"; name: keyof Summaries; text: string };

export type ReadPatch = { ok: true; effect: BoardEffect } | { ok: false; issues: Issue[] };

const shapes = lazy(() => {
  const optionalText = optional(z.string());
  const entry = { id: z.string(), ts_ms: uint, step_id: optionalText, source_event_id: optionalText };
  return {
    note: z.object({ ...entry, text: z.string() }),
    artifact: z.object({ ...entry, path: z.string(), artifact_type: z.string() }),
    summary: z.string(),
  };
});

/** Ops that only the task endpoints may cause (contract 05 §2.1). */
export function isTaskOp(op: PatchOp): boolean {
  return op === "add_task" || op === "update_task_lease" || op === "update_task_state";
}

/**
 * Reads the payload of a note, artifact or summary patch. Unknown members are dropped from the blackboard and stay in
 * the patch (contract 05 §2). A task op has no effect of its own on the board.
 */
export function readPatch(op: PatchOp, payload: unknown): ReadPatch {
  switch (op) {
    case "add_fact":
      return readNote("facts", payload);
    case "add_decision":
      return readNote("decisions", payload);
    case "add_open_question":
      return readNote("open_questions", payload);
    case "add_artifact": {
      const read = readShape(shapes().artifact, payload, "payload");
      if (!read.ok) return read;
      return { ok: true, effect: { kind: "add_artifact", artifact: withoutAbsent(read.value) } };
    }
    case "set_rolling_summary":
      return readSummary("rolling", payload);
    case "set_latest_context_pack":
      return readSummary("latest_context_pack", payload);
    case "add_task":
    case "update_task_lease":
    case "update_task_state":
      return { ok: false, issues: [{ field: "op", rule: "board_op", message: "is a task op" }] };
  }
}

function readNote(list: NoteList, payload: unknown): ReadPatch {
  const read = readShape(shapes().note, payload, "payload");
  if (!read.ok) return read;
  return { ok: true, effect: { kind: "add_note", list, note: withoutAbsent(read.value) } };
}

function readSummary(name: keyof Summaries, payload: unknown): ReadPatch {
  const read = readShape(shapes().summary, payload, "payload");
  if (!read.ok) return read;
  return { ok: true, effect: { kind: "set_summary", name, text: read.value } };
}
