import * as z from "zod/mini";
import { uint } from "./schema.ts";

const duration = z.nullable(uint);

/** The body of `PUT /v1/retention`: how long ended runs are kept, in milliseconds; null for ever. Both must be said. */
export const retentionBody = z.strictObject({ archive_after_ms: duration, delete_after_ms: duration });
