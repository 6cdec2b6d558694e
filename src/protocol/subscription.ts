import * as z from "zod/mini";
import { ID_PATTERN } from "./ids.ts";
import { lazy } from "./lazy.ts";
import { MAX_LABEL_LENGTH, MAX_PATH_LENGTH } from "./limits.ts";
import { maxLength, minLength } from "./schema.ts";
import { RUN_STATUSES, type RunStatus } from "./status.ts";

/** Patterns of event types in one subscription, and the length of each, in characters: every event is held against all. */
export const MAX_EVENT_PATTERNS = 50;
export const MAX_PATTERN_LENGTH = 200;

/** Secrets of one subscription that sign at the same time: each is a signature in every delivery. */
export const MAX_ACTIVE_SECRETS = 5;

/** How long a secret goes on signing after it was replaced, unless the request says otherwise, and at most. */
export const DEFAULT_OVERLAP_MS = 24 * 3_600_000;
export const MAX_OVERLAP_MS = 7 * 24 * 3_600_000;

/** Which runs a subscription is about; what is absent chooses all. */
export interface RunChoice {
  run_type?: string | undefined;
  workspace?: string | undefined;
  source?: string | undefined;
  /** Of the run after the event: any of these. */
  status?: RunStatus[] | undefined;
}

/** What deliveries hold: ids and links, or the whole event record. */
export type DeliveryData = "thin" | "full";

/** What a client says of a subscription. */
export interface SubscriptionBody {
  url: string;
  name?: string | undefined;
  /** Patterns of event types, with `*`; absent for all. */
  events?: string[] | undefined;
  run_id?: string | undefined;
  filter?: RunChoice | undefined;
  data?: DeliveryData | undefined;
}

const label = () => z.string().check(minLength(1), maxLength(MAX_LABEL_LENGTH));

const fields = lazy(() => ({
  url: z.string(),
  name: z.optional(label()),
  events: z.optional(
    z
      .array(z.string().check(minLength(1), maxLength(MAX_PATTERN_LENGTH)))
      .check(minLength(1), maxLength(MAX_EVENT_PATTERNS)),
  ),
  run_id: z.optional(z.string().check(z.regex(ID_PATTERN))),
  filter: z.optional(
    z.strictObject({
      run_type: z.optional(label()),
      workspace: z.optional(z.string().check(minLength(1), maxLength(MAX_PATH_LENGTH))),
      source: z.optional(label()),
      status: z.optional(z.array(z.enum(RUN_STATUSES)).check(minLength(1), maxLength(RUN_STATUSES.length))),
    }),
  ),
  data: z.optional(z.enum(["thin", "full"])),
}));

/** The body of `PUT /v1/subscriptions/{subscription_id}`. */
export const subscriptionBody = lazy(() => z.strictObject(fields()));

/** The body of `POST /v1/subscriptions`: also the secret, if it is to be the client's own, and where to begin. */
export const newSubscriptionBody = lazy(() =>
  z.strictObject({
    ...fields(),
    secret: z.optional(z.string()),
    from: z.optional(z.enum(["now", "start"])),
  }),
);

/** The body of `POST …/secrets`. */
export const newSecretBody = lazy(() =>
  z.strictObject({
    secret: z.optional(z.string()),
    overlap_ms: z.optional(z.int().check(z.minimum(0), z.maximum(MAX_OVERLAP_MS))),
  }),
);

/** The body of `POST …/enable`: go on where it stopped, or from now on. */
export const enableBody = lazy(() =>
  z.strictObject({ from: z.optional(z.enum(["where_it_stopped", "now"])) }),
);

const seq = () => z.int().check(z.minimum(1));

/** The body of `POST …/replay`: from a seq on, up to another one or the log's end; both ends included. */
export const replayBody = lazy(() =>
  z.strictObject({
    run_id: z.string().check(z.regex(ID_PATTERN)),
    from_seq: seq(),
    upto_seq: z.optional(seq()),
  }),
);

/** The body of requests that say nothing. */
export const emptyBody = lazy(() => z.strictObject({}));
