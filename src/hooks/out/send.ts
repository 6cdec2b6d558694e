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
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json", "user-agent": "Baton-Webhooks/1" },
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(SEND_TIMEOUT_MS),
    });
    // A failure to close what nobody reads is no failure of the delivery.
    void response.body?.cancel().catch(() => undefined);
    return { status: response.status, retryAfter: response.headers.get("retry-after"), error: null };
  } catch (error) {
    const isTimeout = error instanceof Error && error.name === "TimeoutError";
    return { status: null, retryAfter: null, error: isTimeout ? "timeout" : "connection" };
  }
}
