import type { Text } from "../../run/text.ts";
import { type Call, unwrap } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { identify } from "../idempotency.ts";
import { jsonAnswer, jsonText, RawJson } from "../json.ts";

/** `POST /context/…/checkpoints`: answers with the whole checkpoint (contract 06 §1). */
export async function createCheckpointContext(call: Call): Promise<HttpAnswer> {
  const { head, headers } = await createCheckpoint(call);
  // Checkpoints at one seq hold the same: the content is right even when a later call has replaced this one.
  const content = unwrap(await call.run().readCheckpointContent(head.seq));
  const start = `{"ok":true,"checkpoint":${JSON.stringify(head).slice(0, -1)},`;
  return jsonText([start, content, "}}"], { headers });
}

/** `POST /v1/…/checkpoints`. */
export async function createCheckpointNative(call: Call): Promise<HttpAnswer> {
  const { head, headers } = await createCheckpoint(call);
  return jsonAnswer({ checkpoint: head }, { status: 201, headers });
}

async function createCheckpoint(call: Call) {
  const run = call.run();
  const body = await call.body("createCheckpoint");
  const identified = await identify(call.request, body.command_id, ["create_checkpoint", body.reason]);
  const { head, repeated } = unwrap(await run.createCheckpoint(body.reason, identified));
  const headers: Record<string, string> = repeated ? { "idempotency-replayed": "true" } : {};
  return { head, headers };
}

/** `GET /context/…/checkpoints/latest`: whole (contract 06 §1). */
export const latestCheckpointContext = (call: Call) => latestCheckpoint(call, true);

/** `GET /v1/…/checkpoints/latest`: the head; with `Prefer: return=representation` whole. */
export const latestCheckpointNative = (call: Call) =>
  latestCheckpoint(call, call.preferredReturn() === "representation");

async function latestCheckpoint(call: Call, whole: boolean): Promise<HttpAnswer> {
  const checkpoint = unwrap(await call.run().readCheckpoint(Number.MAX_SAFE_INTEGER, whole));
  return jsonAnswer({ checkpoint: checkpoint === null ? null : new RawJson(checkpoint) });
}

/** `GET /context/…/replay` (contract 06 §3). */
export async function replayContext(call: Call): Promise<HttpAnswer> {
  return jsonText(['{"ok":true,', await replay(call, true), "}"]);
}

/** `GET /v1/…/replay`: the drift; with `Prefer: return=representation` both states too. */
export async function replayNative(call: Call): Promise<HttpAnswer> {
  if (call.preferredReturn() !== "representation") {
    return jsonText(["{", await replay(call, false), "}"]);
  }
  const headers = { "preference-applied": "return=representation" };
  return jsonText(["{", await replay(call, true), "}"], { headers });
}

async function replay(call: Call, withStates: boolean): Promise<Text> {
  const run = call.run();
  const { upto_seq, from_checkpoint } = call.query({ upto_seq: "uint", from_checkpoint: "bool" });
  const query = { uptoSeq: upto_seq ?? null, fromCheckpoint: from_checkpoint ?? true, withStates };
  return unwrap(await run.replay(query));
}
