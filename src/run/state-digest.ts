import { createHash } from "node:crypto";

/** SHA-256 of the lines of a state (domain/state-lines.ts), each with its line break, in lower-case hex. */
export function stateDigest(lines: Iterable<string>): string {
  const hash = createHash("sha256");
  for (const line of lines) hash.update(`${line}\n`);
  return hash.digest("hex");
}
