/**
 * When a message is sent for the first, second, … time: how long after the attempt before it, in milliseconds. The example
 * of the Standard Webhooks specification; a little over three days in all.
 */
export const SCHEDULE_MS: readonly number[] = [
  0,
  5_000,
  5 * 60_000,
  30 * 60_000,
  2 * 3_600_000,
  5 * 3_600_000,
  10 * 3_600_000,
  14 * 3_600_000,
  20 * 3_600_000,
  24 * 3_600_000,
];

/** Waits are lengthened by up to this share, so that what failed together does not come back together. */
const JITTER = 0.2;

/** No receiver can put us off for longer than this, whatever it asks for. */
export const MAX_RETRY_AFTER_MS = 24 * 3_600_000;

/** A receiver that is overloaded and does not say for how long is left alone for so long. */
const PAUSE_MS = 30_000;

/** A subscription is disabled when nothing has succeeded for so long… */
export const FAILING_TOO_LONG_MS = 5 * 24 * 3_600_000;
/** …and at least so many attempts have failed: one that hears little is not judged by one bad day. */
export const MIN_FAILURES_TO_DISABLE = 10;

/** What an attempt came to: the receiver's status, or null when it gave none in time. */
export interface Attempted {
  status: number | null;
  /** As the receiver sent it. */
  retryAfter: string | null;
}

/** What follows from an attempt. */
export type Verdict =
  | { kind: "delivered" }
  /** The receiver wants no more, ever (410). */
  | { kind: "gone" }
  /**
   * `pauseMs`: how long the whole subscription keeps quiet, 0 when only this message waits. `waitMs`: until its next
   * attempt; null when that was its last.
   */
  | { kind: "failed"; waitMs: number | null; pauseMs: number };

/** The receiver is there and asks for less: everything waits, not only the message that was refused. */
const OVERLOADED: ReadonlySet<number> = new Set([429, 502, 503, 504]);

/**
 * Judges the attempt that was a message's `attempt`-th, counted from 1. Only 2xx is success: a redirect is a failure, because
 * what is signed for one address is not for another.
 * @param chance from 0 up to 1, for the jitter.
 */
export function judge(
  { status, retryAfter }: Attempted,
  attempt: number,
  nowMs: number,
  chance: number,
): Verdict {
  if (status !== null && status >= 200 && status < 300) return { kind: "delivered" };
  if (status === 410) return { kind: "gone" };
  const isOverloaded = status !== null && OVERLOADED.has(status);
  const askedMs = isOverloaded ? retryAfterMs(retryAfter, nowMs) : null;
  const pauseMs = isOverloaded ? (askedMs ?? PAUSE_MS) : 0;
  const scheduledMs = SCHEDULE_MS[attempt];
  if (scheduledMs === undefined) return { kind: "failed", waitMs: null, pauseMs };
  // Never sooner than the schedule: a receiver that always says "in a second" would use up a message's attempts in ten.
  const waitMs = Math.max(Math.ceil(scheduledMs * (1 + JITTER * chance)), pauseMs);
  return { kind: "failed", waitMs, pauseMs };
}

/**
 * How long a `Retry-After` asks to wait, in milliseconds, within bounds: seconds or a date (RFC 9110 §10.2.3). Null when
 * there is none, or none that can be read.
 */
export function retryAfterMs(value: string | null, nowMs: number): number | null {
  const text = value?.trim() ?? "";
  const ms = /^\d+$/.test(text) ? Number(text) * 1_000 : dateMs(text) - nowMs;
  return Number.isNaN(ms) ? null : Math.min(MAX_RETRY_AFTER_MS, Math.max(0, ms));
}

/** A date in HTTP's form; NaN for anything else, however a lenient parser might read it. */
function dateMs(text: string): number {
  return /^[A-Z][a-z]{2,8},? .*GMT$/.test(text) ? Date.parse(text) : Number.NaN;
}

/** Whether a subscription has failed for long enough to be disabled. */
export function isFailingTooLong(failingSinceMs: number | null, failures: number, nowMs: number): boolean {
  return (
    failingSinceMs !== null &&
    failures >= MIN_FAILURES_TO_DISABLE &&
    nowMs - failingSinceMs >= FAILING_TOO_LONG_MS
  );
}
