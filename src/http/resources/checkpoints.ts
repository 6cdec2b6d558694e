import { checkpointNotFound } from "../../domain/refusals.ts";
import { contractMembers } from "../../history/checkpoint-json.ts";
import { checkpointLines } from "../../history/checkpoint-lines.ts";
import type { CheckpointHead, ContractCheckpointHead } from "../../protocol/checkpoint.ts";
import type { CheckpointRequest, WholeCheckpoint } from "../../run/checkpoint-keeper.ts";
import { streamedText, type Text } from "../../run/text.ts";
import { type Call, unwrap } from "../call.ts";
import { historyOf } from "../history-source.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { identify } from "../idempotency.ts";
import { jsonAnswer, jsonText } from "../json.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused } from "../problem.ts";

/** `POST /context/…/checkpoints`: answers with the whole checkpoint (contract 06 §1). */
export async function createCheckpointContext(call: Call): Promise<HttpAnswer> {
  const { reason, command_id } = await call.body("createCheckpoint");
  const { head, headers } = await createCheckpoint(call, { reason }, command_id);
  // Checkpoints at one seq hold the same: the content is right even when a later call has replaced this one.
  const stored = unwrap(await call.run().readCheckpoint(String(head.seq)));
  if (stored === null) throw new Error(`the checkpoint at seq ${head.seq} has gone`);
  const pieces = await wholeText(call, contractHead(head), stored);
  return jsonText(['{"ok":true,"checkpoint":', ...pieces, "}"], { headers });
}

/** `POST /v1/…/checkpoints`. */
export async function createCheckpointNative(call: Call): Promise<HttpAnswer> {
  const { reason, name, command_id } = await call.body("createNamedCheckpoint");
  const { head, headers } = await createCheckpoint(call, { reason, name }, command_id);
  return jsonAnswer({ checkpoint: head }, { status: 201, headers });
}

async function createCheckpoint(call: Call, asked: CheckpointRequest, commandId: string | undefined) {
  const identified = await identify(call, commandId, asked);
  const { head, repeated } = unwrap(await call.run().createCheckpoint(asked, identified));
  const headers: Record<string, string> = repeated ? { "idempotency-replayed": "true" } : {};
  return { head, headers };
}

/** `GET /context/…/checkpoints/latest`: whole (contract 06 §1). */
export async function latestCheckpointContext(call: Call): Promise<HttpAnswer> {
  const found = unwrap(await call.run().readCheckpoint("latest"));
  if (found === null) return jsonAnswer({ checkpoint: null });
  return jsonText(['{"checkpoint":', ...(await wholeText(call, contractHead(found.head), found)), "}"]);
}

/** `GET /v1/…/checkpoints/latest`: the head; with `Prefer: return=representation` whole. */
export const latestCheckpointNative = (call: Call) => showCheckpoint(call, "latest");

/** `GET /v1/…/checkpoints/{id, name or seq}`: likewise. */
export const getCheckpoint = (call: Call) => showCheckpoint(call, call.id("checkpoint"));

async function showCheckpoint(call: Call, selector: string): Promise<HttpAnswer> {
  const run = call.run();
  if (call.preferredReturn() !== "representation") {
    const head = unwrap(await run.readCheckpointHead(selector));
    if (head === null && selector !== "latest") throw new RequestRefused(checkpointNotFound);
    return jsonAnswer({ checkpoint: head });
  }
  const found = unwrap(await run.readCheckpoint(selector));
  if (found === null && selector !== "latest") throw new RequestRefused(checkpointNotFound);
  const headers = { "preference-applied": "return=representation" };
  if (found === null) return jsonAnswer({ checkpoint: null }, { headers });
  return jsonText(['{"checkpoint":', ...(await wholeText(call, found.head, found)), "}"], { headers });
}

/** `GET /v1/…/checkpoints`: heads, newest first. */
export async function listCheckpoints(call: Call): Promise<HttpAnswer> {
  const { limit, cursor } = call.query({ limit: "uint", cursor: "string" });
  const beforeSeq = readCursor(cursor, isWholeNumber) ?? Number.MAX_SAFE_INTEGER;
  const page = unwrap(await call.run().readCheckpoints(beforeSeq, pageLimit(limit)));
  return jsonAnswer({ checkpoints: page.checkpoints, ...pageLinks(call, page.nextSeq) });
}

/** What the contract knows of a checkpoint's head. */
function contractHead({ checkpoint_id, run_id, seq, ts_ms, reason }: CheckpointHead): ContractCheckpointHead {
  return { checkpoint_id, run_id, seq, ts_ms, reason };
}

/** A whole checkpoint as JSON text in pieces. */
async function wholeText(call: Call, head: object, stored: WholeCheckpoint): Promise<Text[]> {
  const members = contractMembers(checkpointLines(historyOf(call), stored));
  return [`${JSON.stringify(head).slice(0, -1)},`, await streamedText(members), "}"];
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
  return unwrap(
    await run.replay({
      uptoSeq: upto_seq ?? null,
      fromCheckpoint: from_checkpoint ?? true,
      withStates,
      withDigests: call.door === "native",
    }),
  );
}
