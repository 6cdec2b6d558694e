import { recordAudit } from "../../directory/audit-events.ts";
import { type Allowance, readAllowance, writeQuotas } from "../../directory/quotas.ts";
import { feedClient } from "../../feed/feed-client.ts";
import { QUOTAS, quotasBody } from "../../protocol/quotas.ts";
import { readBody } from "../body.ts";
import type { Call } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { RequestRefused } from "../problem.ts";

/** `GET /v1/quotas`: what the tenant may have at once, and what it has. */
export async function getQuotas(call: Call): Promise<HttpAnswer> {
  return quotasAnswer(call, await readAllowance(call.env.DIRECTORY, call.tenantKey));
}

/** `PUT /v1/quotas`: the tenant's own limits, by the root credential only: no tenant gives itself more. */
export async function putQuotas(call: Call): Promise<HttpAnswer> {
  if (call.principal.kind !== "root") {
    throw new RequestRefused({ code: "ROOT_REQUIRED", error: "only the root credential sets quotas" });
  }
  const quotas = await readBody(call.request, quotasBody(), { mayBeEmpty: false });
  const db = call.env.DIRECTORY;
  const event = { type: "quotas.changed", subject: call.tenantKey, detail: { ...quotas } };
  const nowMs = Date.now();
  await db.batch([
    writeQuotas(db, call.tenantKey, quotas, nowMs),
    recordAudit(db, call.principal, event, nowMs),
  ]);
  return getQuotas(call);
}

async function quotasAnswer(call: Call, { limits, own, used }: Allowance): Promise<HttpAnswer> {
  const feed = feedClient(call.env.FEEDS, { tenant: call.tenantKey, workspace: null });
  const usedOf = { ...used, streams: await feed.seatsTaken() };
  const quotas = QUOTAS.map((name) => [
    name,
    { limit: limits[name], used: usedOf[name], is_default: own[name] === null },
  ]);
  return jsonAnswer({ quotas: Object.fromEntries(quotas) as Record<string, unknown> });
}
