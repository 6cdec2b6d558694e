import { listAudit } from "../../directory/audit-events.ts";
import type { Call } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";

/** `GET /v1/audit`: what was done to the tenant's credentials, hooks and subscriptions, latest first. */
export async function getAuditLog(call: Call): Promise<HttpAnswer> {
  const { limit, cursor } = call.query({ limit: "uint", cursor: "string" });
  const size = pageLimit(limit);
  const before = readCursor(cursor, isWholeNumber) ?? Number.MAX_SAFE_INTEGER;
  const rows = await listAudit(call.env.DIRECTORY, call.tenantKey, before, size + 1);
  const events = rows.slice(0, size);
  return jsonAnswer({
    events,
    ...pageLinks(call, rows.length > size ? (events.at(-1)?.seq ?? null) : null),
  });
}
