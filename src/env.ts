import type { FeedObject } from "./feed/feed-object.ts";
import type { SubscriptionObject } from "./hooks/out/subscription-object.ts";
import type { RunObject } from "./run/run-object.ts";

/** Bindings and variables of a deployment (wrangler.toml). */
export interface Env {
  /** One object per tenant and run. */
  RUNS: DurableObjectNamespace<RunObject>;
  /** One object per tenant, and one per tenant and workspace that anyone follows. */
  FEEDS: DurableObjectNamespace<FeedObject>;
  /** One object per subscription: sends what its runs have committed to its receiver. */
  SUBSCRIPTIONS: DurableObjectNamespace<SubscriptionObject>;
  /** D1: the directory of runs. */
  DIRECTORY: D1Database;
  /** R2: contents of artifacts. A deployment without it refuses them and does everything else. */
  ARTIFACTS?: R2Bucket;
  /** Secret: the root credential, an operator of every tenant. Without it everything but health is refused. */
  BATON_TOKEN?: string;
  /**
   * Secret: what tokens are signed with and secrets of hooks are encrypted with, at least 32 characters; several are
   * separated by blanks, the newest first. BATON_TOKEN when absent (identity/keyring.ts).
   */
  BATON_KEYS?: string;
  /** Which browser pages may read answers: `*`, the default, or origins separated by blanks or commas (http/cors.ts). */
  CORS_ORIGINS?: string;
  /** Which requests leave a line in the log: `all`, the default, `problems` or `none` (http/request-log.ts). */
  REQUEST_LOG?: string;
  /** Rates of requests (http/rate.ts, RATES in protocol/limits.ts). Without a binding its rate is not limited. */
  TOKEN_RATE?: RateLimit;
  TENANT_RATE?: RateLimit;
  NETWORK_RATE?: RateLimit;
  HOOK_RATE?: RateLimit;
  /**
   * `any`: deliveries may go to any http or https address, also on this machine. Set by the local start alone; a deployment
   * that sets it lets its operators reach whatever the platform lets it reach.
   */
  WEBHOOK_TARGETS?: string;
  /** JSON: issuers whose tokens are accepted beside those minted here (protocol/issuers.ts, docs/identity.md). */
  BATON_ISSUERS?: string;
}
