import { createHash } from "node:crypto";
import type { RunHeader } from "../protocol/run.ts";

/** A commit as it is stored: the very texts that the chain is made of. */
export interface LogRow {
  seq: number;
  /** Hash of the commit before; null in commits of releases that did not chain them. */
  prev_hash: string | null;
  command_id: string | null;
  /** JSON. */
  receipt: string | null;
  /** The event record, JSON. */
  event: string;
  /** The patch record, JSON; null when the commit has none. */
  patch: string | null;
}

/**
 * The hash of a commit, lower-case hex: SHA-256 over the hash of the one before, the command id as JSON, the receipt, the
 * event and the patch, with a line break between them; what is null is empty. None of these texts has a line break, so
 * that two different rows never give the same bytes. The seq is not among them: the event says it.
 */
export function commitHash({ prev_hash, command_id, receipt, event, patch }: Omit<LogRow, "seq">): string {
  const id = command_id === null ? "" : JSON.stringify(command_id);
  // One text at once: five updates cost twice as much as one.
  return createHash("sha256")
    .update(`${prev_hash ?? ""}\n${id}\n${receipt ?? ""}\n${event}\n${patch ?? ""}`)
    .digest("hex");
}

/**
 * What stands before the first commit: SHA-256 over the run as it was created, and the state it began with if that was
 * not empty.
 *
 * @param genesis state lines (domain/state-lines.ts), each with its line break; in pieces that may be cut anywhere.
 */
export function initialHash(initial: RunHeader, genesis: Iterable<string>): string {
  const hash = createHash("sha256").update(`${JSON.stringify(initial)}\n`);
  for (const piece of genesis) hash.update(piece);
  return hash.digest("hex");
}
