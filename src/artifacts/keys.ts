/** Who holds a content: a run, by its id. */
export function runHolder(runId: string): string {
  return `run:${runId}`;
}

/** The run that a holder is; null when it is something else. */
export function runOfHolder(holder: string): string | null {
  return holder.startsWith("run:") ? holder.slice("run:".length) : null;
}

/** A fresh key in R2 for a content of this tenant. Never the content's digest: a key is not used twice. */
export function newContentKey(tenant: string): string {
  return `artifacts/${tenant}/${crypto.randomUUID()}`;
}
