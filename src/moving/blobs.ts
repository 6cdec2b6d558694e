import { runHolder } from "../artifacts/keys.ts";
import { artifactStore } from "../artifacts/store.ts";
import { contentsOf, type HeldContent } from "../directory/departures.ts";
import type { Env } from "../env.ts";
import type { BlobSource } from "./export.ts";

/** References read at once. */
const PAGE = 1_000;

/** The contents that a run refers to; null when the deployment has no bucket. */
export function artifactBlobs(env: Env, tenant: string, runId: string): BlobSource | null {
  const store = artifactStore(env, tenant);
  if (store === null) return null;
  return {
    list: () => listContents(env, tenant, runHolder(runId)),
    read: async (sha256) => (await store.read(sha256))?.body ?? null,
  };
}

async function* listContents(env: Env, tenant: string, holder: string): AsyncGenerator<HeldContent> {
  for (let after = ""; ; ) {
    const page = await contentsOf(env.DIRECTORY, tenant, holder, after, PAGE);
    yield* page;
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return;
    after = last.sha256;
  }
}
