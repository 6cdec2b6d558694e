import type { Env } from "../env.ts";
import type { BlobSource } from "./export.ts";

/** The contents that a run refers to; null when the deployment has no bucket. */
export function artifactBlobs(_env: Env, _tenant: string, _runId: string): BlobSource | null {
  return null;
}
