import { runObjectName } from "../identity/tenant.ts";

/** How the keys begin under which whatever a run has in R2 lies, contents of artifacts aside: those belong to the tenant. */
export function prefixesOf(tenant: string, runId: string): string[] {
  const name = runObjectName(tenant, runId);
  return [`segments/${name}/`, `checkpoints/${name}/`, archivePrefix(tenant, runId)];
}

/** How the keys of a run's archives begin. */
export function archivePrefix(tenant: string, runId: string): string {
  return `archives/${runObjectName(tenant, runId)}/`;
}

/** Who holds the contents that an archived run refers to. */
export function archiveHolder(runId: string): string {
  return `archive:${runId}`;
}

/** Deletes all objects whose keys begin so, but for those to be kept. Safe to repeat. */
export async function deletePrefix(
  bucket: R2Bucket,
  prefix: string,
  kept: string | null = null,
): Promise<void> {
  for (let cursor: string | undefined; ; ) {
    const page = await bucket.list({ prefix, ...(cursor !== undefined && { cursor }) });
    const keys = page.objects.map(({ key }) => key).filter((key) => key !== kept);
    if (keys.length > 0) await bucket.delete(keys);
    if (!page.truncated) return;
    cursor = page.cursor;
  }
}
