import type { FeedObject } from "./feed/feed-object.ts";
import type { RunObject } from "./run/run-object.ts";

/** Bindings and variables of a deployment (wrangler.toml). */
export interface Env {
  /** One object per tenant and run. */
  RUNS: DurableObjectNamespace<RunObject>;
  /** One object per tenant, and one per tenant and workspace that anyone follows. */
  FEEDS: DurableObjectNamespace<FeedObject>;
  /** D1: the directory of runs. */
  DIRECTORY: D1Database;
  /** R2: contents of artifacts. A deployment without it refuses them and does everything else. */
  ARTIFACTS?: R2Bucket;
  /** Secret: the one credential. Without it everything but health is refused. */
  BATON_TOKEN?: string;
}
