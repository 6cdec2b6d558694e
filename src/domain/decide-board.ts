import { MAX_PAYLOAD_BYTES } from "../protocol/limits.ts";
import { isTaskOp, readPatch } from "./blackboard.ts";
import type { CommandOf } from "./command.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { jsonTooLarge } from "./json-size.ts";
import { underLease, unprovenLease } from "./lease-proof.ts";
import type { View } from "./view.ts";

/** A blackboard patch: refused before anything is written when its payload does not fit (contract 05 §2). */
export function decideBoard(
  command: CommandOf<"patch_blackboard">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  if (isTaskOp(command.patch_op)) {
    return {
      ok: false,
      refusal: {
        code: "TASK_PATCH_OP_DISABLED",
        error: "task mutations must go through the run task endpoints",
      },
    };
  }
  const unproven = unprovenLease(command, view, context);
  if (unproven !== null) return { ok: false, refusal: unproven };
  const tooLarge = jsonTooLarge("patch_payload_bytes", command.payload, MAX_PAYLOAD_BYTES);
  if (tooLarge !== null) return { ok: false, refusal: tooLarge };
  const read = readPatch(command.patch_op, command.payload);
  if (!read.ok) {
    const error = `payload does not fit ${command.patch_op}`;
    return { ok: false, refusal: { code: "PATCH_PAYLOAD_INVALID", error, issues: read.issues } };
  }
  const draft = new Draft(view.head(), context, commandId, underLease(command, view));
  const { patch } = draft.patch(command.patch_op, command.payload);
  if (patch === null) throw new Error("a patch commit has a patch");
  return { ok: true, commits: draft.commits, outcome: { op: "patch_blackboard", patch } };
}
