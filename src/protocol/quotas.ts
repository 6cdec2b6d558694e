import * as z from "zod/mini";
import { lazy } from "./lazy.ts";
import { MAX_STREAMS } from "./limits.ts";
import { uint } from "./schema.ts";

/** What a tenant may have only so much of at once. */
export const QUOTAS = ["runs", "artifact_bytes", "streams", "deliveries", "tokens"] as const;

export type QuotaName = (typeof QUOTAS)[number];

/** A tenant's own limits; null where the default holds. */
export type Quotas = Record<QuotaName, number | null>;

/** The body of `PUT /v1/quotas`. All of them must be said; null for the default. */
export const quotasBody = lazy(() => {
  const limit = z.nullable(uint);
  return z.strictObject({
    runs: limit,
    artifact_bytes: limit,
    streams: z.nullable(uint.check(z.maximum(MAX_STREAMS))),
    deliveries: limit,
    tokens: limit,
  });
});
