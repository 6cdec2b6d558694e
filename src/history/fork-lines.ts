import { createHash } from "node:crypto";
import type { MemoryRun } from "../domain/memory.ts";
import { memoryStateLines } from "../domain/state-lines.ts";
import { EXPORT_VERSION } from "../protocol/export-format.ts";
import { initialHash } from "../run/chain.ts";
import { stateDigest } from "../run/state-digest.ts";
import { toText } from "../run/text.ts";

/** A run that has nothing but a beginning, as the export of it (protocol/export-format.ts): so it arrives in its own object. */
export function forkStream(genesis: MemoryRun): ReadableStream<Uint8Array> {
  const text = toText(forkLines(genesis));
  if (typeof text !== "string") return text;
  const { body } = new Response(text);
  if (body === null) throw new Error("an export has a first line");
  return body;
}

function* forkLines(genesis: MemoryRun): Generator<string> {
  const { run: initial } = genesis.head();
  const hash = createHash("sha256");
  let lines = 0;
  const hashed = (line: string): string => {
    hash.update(`${line}\n`);
    lines += 1;
    return `${line}\n`;
  };
  const header = { baton_export: EXPORT_VERSION, run_id: initial.run_id, initial };
  yield hashed(JSON.stringify({ ...header, created_command: null, last_event_seq: 0 }));
  for (const line of memoryStateLines(genesis)) yield hashed(`{"genesis":${line}}`);
  const end = {
    lines,
    sha256: hash.digest("hex"),
    commits: 0,
    log_hash: initialHash(initial, withBreaks(memoryStateLines(genesis))),
    state_sha256: stateDigest(memoryStateLines(genesis)),
  };
  yield `${JSON.stringify({ end })}\n`;
}

function* withBreaks(lines: Iterable<string>): Generator<string> {
  for (const line of lines) yield `${line}\n`;
}
