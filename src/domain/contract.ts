import { TASK_KINDS, type TaskKind } from "../protocol/task.ts";
import type { Refusal } from "./refusals.ts";

type JsonObject = Record<string, unknown>;

/** A task's type and payload after the payload contract, or why it does not fit (contract 04 §3). */
export type Contracted = { ok: true; task_type: string; payload: unknown } | { ok: false; refusal: Refusal };

/**
 * Normalises a new task's payload. Tasks of a known kind get `task_kind` and `execution_mode`; an implementation must
 * say where its output goes. Everything else is free-form and stays exactly as sent.
 * @param taskId the id as sent, or "": refusals name it.
 */
export function applyPayloadContract(taskType: string, payload: unknown, taskId: string): Contracted {
  if (payload !== null && !isObject(payload)) {
    return {
      ok: false,
      refusal: {
        code: "TASK_CONTRACT_INVALID",
        error: "task payload must be a JSON object for strict blackboard tasks",
        task_id: taskId,
      },
    };
  }
  const kind = kindOf(payload?.task_kind) ?? kindOf(taskType);
  if (kind === null) return { ok: true, task_type: taskType.trim(), payload };

  const normalised: JsonObject = { ...payload, task_kind: kind };
  if (kind !== "implementation") {
    normalised.execution_mode = "strict_nonwriting";
    delete normalised.write_required;
    return { ok: true, task_type: kind, payload: normalised };
  }
  normalised.execution_mode = "strict_write";
  const target = outputTarget(normalised.output_target);
  if (target === null) {
    return {
      ok: false,
      refusal: {
        code: "TASK_OUTPUT_TARGET_REQUIRED",
        error: "implementation tasks must include payload.output_target.path",
        task_id: taskId,
      },
    };
  }
  normalised.output_target = target;
  return { ok: true, task_type: kind, payload: normalised };
}

function kindOf(value: unknown): TaskKind | null {
  if (typeof value !== "string") return null;
  const word = value.trim();
  if (word === "fix-proposal") return "fix_proposal";
  return TASK_KINDS.find((kind) => kind === word) ?? null;
}

function outputTarget(value: unknown): JsonObject | null {
  if (!isObject(value)) return null;
  const path = firstPresentText(value, ["path", "file", "file_path", "target"]);
  if (path === null) return null;
  const kind = firstPresentText(value, ["kind", "type"]);
  const operation = firstPresentText(value, ["operation", "mode"]);
  return { path, ...(kind !== null && { kind }), ...(operation !== null && { operation }) };
}

/** The first present key decides, even when its value is unusable (contract 04 §3). */
function firstPresentText(object: JsonObject, keys: string[]): string | null {
  const key = keys.find((candidate) => Object.hasOwn(object, candidate));
  const value = key === undefined ? null : object[key];
  const text = typeof value === "string" ? value.trim() : "";
  return text === "" ? null : text;
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
