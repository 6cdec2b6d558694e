import { sha256Hex } from "../../artifacts/sha256.ts";
import type { Subscription } from "../../directory/subscriptions.ts";
import type { EventRecord } from "../../protocol/event.ts";

/** Of a test's message. */
export const PING = "baton.ping";

/** The body of a delivery, JSON: what has happened, when, and ids to ask by, or with `full` the record itself. */
export function messageBody(
  { subscription_id, data, origin }: Pick<Subscription, "subscription_id" | "data" | "origin">,
  event: EventRecord,
): string {
  const { run_id, seq, event_id, ts_ms, type, status, run_status, revision, task_id, step_id } = event;
  const run = `${origin}/v1/runs/${run_id}`;
  const ids = { subscription_id, run_id, seq, event_id, status, run_status, revision, task_id, step_id };
  const links = { run, event: `${run}/events?since_seq=${seq - 1}&limit=1` };
  return JSON.stringify({
    type,
    timestamp: new Date(ts_ms).toISOString(),
    data: { ...ids, links, ...(data === "full" && { event }) },
  });
}

/** The body of a test's delivery. */
export function pingBody(subscriptionId: string, nowMs: number): string {
  const timestamp = new Date(nowMs).toISOString();
  return JSON.stringify({ type: PING, timestamp, data: { subscription_id: subscriptionId } });
}

/** The id of the message about an event: the same whenever it is sent, so that receivers can tell a repetition. */
export function messageId(subscriptionId: string, runId: string, seq: number): string {
  const digest = sha256Hex(new TextEncoder().encode(`${subscriptionId}/${runId}/${seq}`));
  return `msg_${digest.slice(0, 32)}`;
}
