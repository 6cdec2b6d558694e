import { type Call, unwrap } from "../call.ts";
import { type Mutation, mutate } from "../command.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer, RawJson } from "../json.ts";

/** `GET /context/…/blackboard` (contract 02 §5.1). */
export async function getBlackboardContext(call: Call): Promise<HttpAnswer> {
  return jsonAnswer({ blackboard: new RawJson(unwrap(await call.run().readBlackboard(true))) });
}

/** `GET /v1/…/blackboard`: without the tasks, which have pages of their own. */
export async function getBlackboardNative(call: Call): Promise<HttpAnswer> {
  return jsonAnswer({ blackboard: new RawJson(unwrap(await call.run().readBlackboard(false))) });
}

export const patch: Mutation<"patch_blackboard", "patchBlackboard"> = {
  body: "patchBlackboard",
  command: ({ op, payload, task_id, lock_id, lease_token }) => ({
    op: "patch_blackboard",
    patch_op: op,
    payload,
    task_id,
    lock_id,
    lease_token,
  }),
  echo: "blackboard",
  context: ({ outcome, echo }) => ({ ok: true, patch: outcome.patch, ...echo }),
  native: ({ outcome }) => ({ members: { patch: outcome.patch }, status: 201 }),
  represents: ["run", "blackboard"],
};

/** `POST …/blackboard/patches` (contract 02 §5.3, 05 §2). */
export const patchBlackboard = (call: Call) => mutate(patch, call);
