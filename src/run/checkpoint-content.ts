import type { MemoryRun } from "../domain/memory.ts";
import { StateReader } from "../domain/state-lines.ts";
import { StateHash } from "./state-digest.ts";
import type { Text } from "./text.ts";

/** The content of a checkpoint: lines of text (domain/state-lines.ts), or the object in R2 that has them, with its digest. */
export type CheckpointContent = { object_key: string; sha256: string | null } | { text: Text };

/** The lines without their line breaks; null when R2 has no such object, or another under its key, or there is no bucket. */
export async function openContent(
  content: CheckpointContent,
  bucket: R2Bucket | null,
): Promise<AsyncIterable<string> | null> {
  if ("text" in content) return lines(content.text);
  const object = (await bucket?.get(content.object_key)) ?? null;
  if (object === null) return null;
  // Written with the object, which R2 has checked against its bytes then (checkpoint-objects.ts).
  if (object.customMetadata?.state_sha256 === content.sha256) return lines(object.body);
  await object.body.cancel();
  return null;
}

async function* lines(text: Text): AsyncGenerator<string> {
  if (typeof text === "string") {
    yield* text.split("\n").slice(0, -1);
    return;
  }
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let pending = "";
  for await (const chunk of text) {
    const parts = (pending + utf8.decode(chunk, { stream: true })).split("\n");
    pending = parts.pop() ?? "";
    yield* parts;
  }
  if (pending !== "") throw new Error("the last line has no line break");
}

/** The run that these lines tell; null when they tell none, or are not those of this digest, where one is asked for. */
export async function readSoundContent(
  content: AsyncIterable<string>,
  sha256: string | null,
): Promise<MemoryRun | null> {
  const hash = new StateHash();
  const reader = new StateReader();
  try {
    for await (const line of content) {
      hash.take(line);
      reader.take(line);
    }
    return sha256 === null || hash.digest() === sha256 ? reader.run() : null;
  } catch {
    // No JSON, no state, or cut off in the middle.
    return null;
  }
}
