import { createHash, type Hash } from "node:crypto";
import type { RunHead } from "../domain/head.ts";

/**
 * The members of a head that digests are of. Exports and checkpoints carry digests for years, and a later release must
 * come to the same: so this list never changes within a version of the export format (protocol/export-format.ts), and a
 * member that is added to heads is not in it. What the log comes to for an audit is not in it either: it is read off the
 * log, and how it is read may get better.
 */
const DIGESTED: ReadonlySet<string> = new Set<keyof RunHead>([
  "run",
  "blackboard_revision",
  "summaries",
  "last_mismatch",
  "workspace_since_seq",
]);

/** SHA-256 of the lines of a state (domain/state-lines.ts), each with its line break, and the head as `digested`. */
export class StateHash {
  readonly #hash: Hash = createHash("sha256");
  #isHead = true;

  /** @throws Error when the first line is no head. */
  take(line: string): void {
    this.#hash.update(`${this.#isHead ? digested(line) : line}\n`);
    this.#isHead = false;
  }

  /** In lower-case hex. */
  digest(): string {
    return this.#hash.digest("hex");
  }
}

/** The digest of these lines, which begin with a head. */
export function stateDigest(lines: Iterable<string>): string {
  const hash = new StateHash();
  for (const line of lines) hash.take(line);
  return hash.digest();
}

/** The line of a head with those of its members alone that digests are of; their order stays. */
function digested(line: string): string {
  const { head } = JSON.parse(line) as { head: object };
  return JSON.stringify({
    head: Object.fromEntries(Object.entries(head).filter(([member]) => DIGESTED.has(member))),
  });
}
