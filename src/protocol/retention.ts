import * as z from "zod/mini";
import { lazy } from "./lazy.ts";
import { uint } from "./schema.ts";

/** The body of `PUT /v1/retention`: how long ended runs are kept, in milliseconds; null for ever. Both must be said. */
export const retentionBody = lazy(() => {
  const duration = z.nullable(uint);
  return z.strictObject({ archive_after_ms: duration, delete_after_ms: duration });
});
