import type { Text } from "../../run/text.ts";
import { type Call, unwrap } from "../call.ts";
import { identify } from "../idempotency.ts";
import { jsonAnswer, jsonText, RawJson } from "../json.ts";

/** `POST /context/…/checkpoints`: answers with the whole checkpoint (contract 06 §1). */
export async function createCheckpointContext(call: Call): Promise<Response> {
  const { head } = await createCheckpoint(call);
  const checkpoint = unwrap(await call.run().readCheckpoint(head.seq, true));
  return jsonAnswer({ ok: true, checkpoint: checkpoint === null ? null : new RawJson(checkpoint) });
}

/** `POST /v1/…/checkpoints`. */
export async function createCheckpointNative(call: Call): Promise<Response> {
  const { head, repeated } = await createCheckpoint(call);
  const headers: Record<string, string> = repeated ? { "idempotency-replayed": "true" } : {};
  return jsonAnswer({ checkpoint: head }, { status: 201, headers });
}

async function createCheckpoint(call: Call) {
  const run = call.run();
  const body = await call.body("createCheckpoint");
  const identified = await identify(call.request, body.command_id, ["create_checkpoint", body.reason]);
  return unwrap(await run.createCheckpoint(body.reason, identified));
}

/** `GET /context/…/checkpoints/latest`: whole (contract 06 §1). */
export const latestCheckpointContext = (call: Call) => latestCheckpoint(call, true);

/** `GET /v1/…/checkpoints/latest`: the head; with `Prefer: return=representation` whole. */
export const latestCheckpointNative = (call: Call) =>
  latestCheckpoint(call, call.preferredReturn() === "representation");

async function latestCheckpoint(call: Call, whole: boolean): Promise<Response> {
  const checkpoint = unwrap(await call.run().readCheckpoint(Number.MAX_SAFE_INTEGER, whole));
  return jsonAnswer({ checkpoint: checkpoint === null ? null : new RawJson(checkpoint) });
}

/** `GET /context/…/replay` (contract 06 §3). */
export async function replayContext(call: Call): Promise<Response> {
  return jsonText(['{"ok":true,', await replay(call, true), "}"]);
}

/** `GET /v1/…/replay`: the drift; with `Prefer: return=representation` both states too. */
export async function replayNative(call: Call): Promise<Response> {
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
