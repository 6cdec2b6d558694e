import { createHash } from "node:crypto";
import type { Converted } from "../domain/reference-import.ts";
import { memoryStateLines } from "../domain/state-lines.ts";
import { EXPORT_VERSION } from "../protocol/export-format.ts";
import { commitHash, initialHash } from "../run/chain.ts";
import { stateDigest } from "../run/state-digest.ts";

/** A converted run as an export, so that it arrives like any other (protocol/export-format.ts); in pieces of whole lines. */
export async function* convertedText({ initial, rows, state }: Converted): AsyncGenerator<string> {
  const hash = createHash("sha256");
  const counted = (line: string): string => {
    hash.update(line);
    return line;
  };
  const header = { baton_export: EXPORT_VERSION, run_id: initial.run_id, initial, created_command: null };
  yield counted(`${JSON.stringify({ ...header, last_event_seq: rows.length })}\n`);
  let log_hash = initialHash(initial, []);
  for (const { event, patch, command_id, receipt } of rows) {
    const commit = { seq: event.seq, prev_hash: log_hash, command_id, receipt, event, patch };
    yield counted(`${JSON.stringify({ commit })}\n`);
    log_hash = commitHash({
      prev_hash: log_hash,
      command_id,
      receipt: receipt && JSON.stringify(receipt),
      event: JSON.stringify(event),
      patch: patch && JSON.stringify(patch),
    });
  }
  const end = {
    lines: rows.length + 1,
    sha256: hash.digest("hex"),
    commits: rows.length,
    log_hash,
    state_sha256: stateDigest(memoryStateLines(state)),
  };
  yield `${JSON.stringify({ end })}\n`;
}
