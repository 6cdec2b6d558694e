import type { Answer } from "./engine.ts";

/**
 * An answer on its way out of the object: its JSON, and behind a line break the text of its echo if it has one. The
 * platform carries a string between objects for much less than any structure.
 */
export type PackedAnswer = string;

export function packAnswer(answer: Answer): PackedAnswer {
  if (!answer.ok || typeof answer.echo !== "string") return JSON.stringify(answer);
  const { echo, ...rest } = answer;
  return `${JSON.stringify(rest)}\n${echo}`;
}

export function unpackAnswer(packed: PackedAnswer): Answer {
  // JSON text has no bare line break.
  const end = packed.indexOf("\n");
  if (end === -1) return JSON.parse(packed) as Answer;
  return { ...(JSON.parse(packed.slice(0, end)) as Answer), echo: packed.slice(end + 1) } as Answer;
}
