import { createHash } from "node:crypto";
import { BLOB_PART_BYTES, MAX_INLINE_BLOB_BYTES } from "../protocol/export-format.ts";
import type { ExportStart } from "../run/export-start.ts";
import type { RunClient } from "../run/run-client.ts";
import type { Result } from "../run/run-object.ts";
import type { ExtraList } from "../run/storage/checkpoints.ts";

/** Commits are asked for in pages of about this size, in UTF-16 units. */
const PAGE_LENGTH = 512 * 1024;

/** A content that an export names. */
export interface NamedBlob {
  sha256: string;
  bytes: number;
}

/** Where the contents of a run come from. */
export interface BlobSource {
  /** What the run refers to, in order of the digests. */
  list(): AsyncIterable<NamedBlob>;
  read(sha256: string): Promise<ReadableStream<Uint8Array> | null>;
}

/** What goes into an export beside the log. */
export interface ExportOptions {
  /** Null when there is no bucket, and so nothing to name. */
  blobs: BlobSource | null;
  /** Whether contents come inline. */
  inline: boolean;
}

/**
 * A run as a text, in pieces of whole lines (protocol/export-format.ts), of the moment that `start` tells. It is read from the
 * run as it is taken from here, page by page; what is committed meanwhile is not in it.
 *
 * @throws when the run is gone before it is read.
 */
export async function* exportText(
  run: RunClient,
  start: ExportStart,
  { blobs, inline }: ExportOptions,
): AsyncGenerator<string> {
  const hash = createHash("sha256");
  let lines = 0;
  const counted = (text: string, count: number): string => {
    hash.update(text);
    lines += count;
    return text;
  };
  yield counted(`${JSON.stringify(start.header)}\n`, 1);
  for await (const line of genesisLines(run, start.genesis_parts)) {
    yield counted(`{"genesis":${line}}\n`, 1);
  }
  const lastSeq = start.header.last_event_seq;
  const heads = extrasOf(run, "heads", -1);
  let head = await heads.next();
  const headsAt = async (seq: number): Promise<string[]> => {
    const lines: string[] = [];
    for (; !head.done && head.value.key === seq; head = await heads.next())
      lines.push(`${head.value.line}\n`);
    return lines;
  };
  for (const line of await headsAt(0)) yield counted(line, 1);
  for (let afterSeq = 0; afterSeq < lastSeq; ) {
    const { rows } = must(await run.readCommits({ afterSeq, uptoSeq: lastSeq, maxLength: PAGE_LENGTH }));
    let text = "";
    let count = 0;
    for (const { seq, prev_hash, command_id, receipt, event, patch } of rows) {
      const members = `"seq":${seq},"prev_hash":${JSON.stringify(prev_hash)},"command_id":${JSON.stringify(command_id)}`;
      text += `{"commit":{${members},"receipt":${receipt},"event":${event},"patch":${patch}}}\n`;
      count += 1;
      for (const line of await headsAt(seq)) {
        text += line;
        count += 1;
      }
    }
    const last = rows.at(-1)?.seq;
    if (last === undefined) throw new Error(`the log ends at ${afterSeq}, not at ${lastSeq}`);
    yield counted(text, count);
    afterSeq = last;
  }
  for (const list of ["names", "calls", "moves"] as const) {
    for await (const { line } of extrasOf(run, list, "")) yield counted(`${line}\n`, 1);
  }
  for await (const blob of blobs?.list() ?? []) {
    const { sha256, bytes } = blob;
    yield counted(`${JSON.stringify({ blob: { sha256, bytes } })}\n`, 1);
    if (!inline || bytes > MAX_INLINE_BLOB_BYTES) continue;
    const body = await blobs?.read(sha256);
    if (!body) throw new Error(`content ${sha256} is gone`);
    for await (const part of inPartsOf(body, BLOB_PART_BYTES)) {
      yield counted(`${JSON.stringify({ blob_part: part.toString("base64") })}\n`, 1);
    }
  }
  const { log_hash, state_sha256 } = start;
  const end = { lines, sha256: hash.digest("hex"), commits: lastSeq, log_hash, state_sha256 };
  yield `${JSON.stringify({ end })}\n`;
}

/** Text or bytes as a stream of bytes, made as it is read. */
export function streamOf(pieces: AsyncGenerator<string | Uint8Array>): ReadableStream<Uint8Array> {
  const utf8 = new TextEncoder();
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      const next = await pieces.next();
      if (next.done) {
        controller.close();
        controller.byobRequest?.respond(0);
      } else controller.enqueue(typeof next.value === "string" ? utf8.encode(next.value) : next.value);
    },
    async cancel() {
      await pieces.return(undefined);
    },
  });
}

async function* extrasOf(
  run: RunClient,
  list: ExtraList,
  first: string | number,
): AsyncGenerator<{ key: string | number; line: string }> {
  for (let after: string | number | undefined = first; after !== undefined; ) {
    const page: { key: string | number; line: string }[] = must(await run.readExtras({ list, after }));
    yield* page;
    after = page.at(-1)?.key;
  }
}

async function* genesisLines(run: RunClient, parts: number): AsyncGenerator<string> {
  let pending = "";
  for (let part = 1; part <= parts; part += 1) {
    const lines = (pending + must(await run.readGenesis(part))).split("\n");
    pending = lines.pop() ?? "";
    yield* lines;
  }
}

/** A stream cut into parts of this size; the last may be shorter. */
async function* inPartsOf(stream: ReadableStream<Uint8Array>, size: number): AsyncGenerator<Buffer> {
  let pending: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream) {
    pending.push(chunk);
    length += chunk.length;
    if (length < size) continue;
    const joined = Buffer.concat(pending);
    const whole = length - (length % size);
    for (let offset = 0; offset < whole; offset += size) yield joined.subarray(offset, offset + size);
    pending = [joined.subarray(whole)];
    length -= whole;
  }
  if (length > 0) yield Buffer.concat(pending);
}

function must<T>(result: Result<T>): T {
  if (!result.ok) throw new Error(`the run is gone: ${result.refusal.code}`);
  return result.value;
}
