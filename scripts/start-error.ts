/** A reason not to start that its reader can act on: shown as one line, without a stack trace. */
export class StartError extends Error {
  override readonly name = "StartError";
}

/** The one-line text of anything thrown. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.split("\n", 1)[0] ?? text;
}
