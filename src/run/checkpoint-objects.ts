import { createHash } from "node:crypto";
import { runObjectName, tenantKey } from "../identity/tenant.ts";
import type { RunHeader } from "../protocol/run.ts";
import { StateHash } from "./state-digest.ts";

/** Text is hashed and written in pieces of about this size, in UTF-16 units; between two of them others have their turn. */
const PIECE_LENGTH = 1024 * 1024;

/** Below this prefix lies whatever content of a run's checkpoints is in R2. */
export function checkpointPrefix({ tenant_context, run_id }: RunHeader): string {
  return `checkpoints/${runObjectName(tenantKey(tenant_context), run_id)}/`;
}

/** A key of its own for every content: what replaces another never takes its place. */
export function checkpointKey(run: RunHeader, seq: number): string {
  return `${checkpointPrefix(run)}${seq}-${crypto.randomUUID()}`;
}

/** What lines with their line breaks are. */
export interface Measured {
  bytes: number;
  /** Of the bytes, lower-case hex. */
  sha256: string;
  /** Of the state that they tell (state-digest.ts). */
  state_sha256: string;
}

/** Measures the lines of a state. Waits now and then when they are long. */
export async function measure(lines: readonly string[]): Promise<Measured> {
  const hash = createHash("sha256");
  const state = new StateHash();
  let bytes = 0;
  let length = 0;
  for (const line of lines) {
    const text = `${line}\n`;
    hash.update(text);
    state.take(line);
    bytes += Buffer.byteLength(text);
    length += text.length;
    if (length < PIECE_LENGTH) continue;
    length = 0;
    await scheduler.wait(0);
  }
  return { bytes, sha256: hash.digest("hex"), state_sha256: state.digest() };
}

/** Writes lines of so many bytes as one object, which R2 checks against their digest. */
export async function putLines(
  bucket: R2Bucket,
  key: string,
  lines: readonly string[],
  { bytes, sha256, state_sha256 }: Measured,
): Promise<void> {
  // The length is known, so that no upload in parts is needed, which a crash would leave behind unseen.
  const { readable, writable } = new FixedLengthStream(bytes);
  const writer = writable.getWriter();
  const write = async (): Promise<void> => {
    for (const piece of encoded(lines)) await writer.write(piece);
    await writer.close();
  };
  const put = bucket
    .put(key, readable, { sha256, customMetadata: { state_sha256 } })
    .catch((error: unknown) => {
      void writer.abort(error).catch(() => undefined);
      throw error;
    });
  await Promise.all([put, write()]);
}

function* encoded(lines: readonly string[]): Generator<Uint8Array> {
  const utf8 = new TextEncoder();
  let piece: string[] = [];
  let length = 0;
  for (const line of lines) {
    piece.push(line, "\n");
    length += line.length + 1;
    if (length < PIECE_LENGTH) continue;
    yield utf8.encode(piece.join(""));
    piece = [];
    length = 0;
  }
  if (length > 0) yield utf8.encode(piece.join(""));
}
