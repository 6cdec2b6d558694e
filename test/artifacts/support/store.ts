import { env } from "cloudflare:workers";
import { type ArtifactStore, artifactStore } from "../../../src/artifacts/store.ts";

/** SHA-256 of "hello", hex. */
export const HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/** The tests' bucket. */
export function bucket(): R2Bucket {
  if (env.ARTIFACTS === undefined) throw new Error("the tests have a bucket");
  return env.ARTIFACTS;
}

/** The store of a tenant; by default of one that no other test uses. */
export function storeOf(tenant = `test/${crypto.randomUUID()}`): { tenant: string; store: ArtifactStore } {
  const store = artifactStore(env, tenant);
  if (store === null) throw new Error("the tests have a bucket");
  return { tenant, store };
}

/** A content as text; null when there is none. */
export async function textOf(read: { body: ReadableStream } | null): Promise<string | null> {
  return read === null ? null : await new Response(read.body).text();
}

/** Keys of the objects in R2 that hold contents of a tenant, ascending. */
export async function keysOf(tenant: string): Promise<string[]> {
  const keys: string[] = [];
  for (let cursor: string | undefined; ; ) {
    const page: R2Objects = await bucket().list({
      prefix: `artifacts/${tenant}/`,
      ...(cursor !== undefined && { cursor }),
    });
    keys.push(...page.objects.map(({ key }) => key));
    if (!page.truncated) return keys;
    cursor = page.cursor;
  }
}
