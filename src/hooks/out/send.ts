import type { Attempted } from "./schedule.ts";

/** A receiver that has not answered by then has failed. */
export const SEND_TIMEOUT_MS = 20_000;

/** What came of sending: `error` is why there is no status, a word. */
export interface Sent extends Attempted {
  error: "timeout" | "connection" | null;
}

/**
 * Sends one message. Redirects are not followed, and nothing of the answer's body is read: whatever a receiver sends, it costs
 * us its head.
 */
export async function send(url: string, headers: Record<string, string>, body: string): Promise<Sent> {
  const patience = new AbortController();
  // Not AbortSignal.timeout: its timer would keep the object awake, and billed, for 20 seconds after every answer.
  const timer = setTimeout(() => patience.abort(), SEND_TIMEOUT_MS);
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json", "user-agent": "Baton-Webhooks/1" },
      body,
      redirect: "manual",
      signal: patience.signal,
    });
    // A failure to close what nobody reads is no failure of the delivery.
    void response.body?.cancel().catch(() => undefined);
    return { status: response.status, retryAfter: response.headers.get("retry-after"), error: null };
  } catch {
    return { status: null, retryAfter: null, error: patience.signal.aborted ? "timeout" : "connection" };
  } finally {
    clearTimeout(timer);
  }
}
