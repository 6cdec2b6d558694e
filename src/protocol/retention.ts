import * as z from "zod";

const duration = z.int().min(0).nullable();

/** The body of `PUT /v1/retention`: how long ended runs are kept, in milliseconds; null for ever. Both must be said. */
export const retentionBody = z.strictObject({ archive_after_ms: duration, delete_after_ms: duration });
