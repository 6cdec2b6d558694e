import { overloaded, type Refusal } from "../domain/refusals.ts";

/** What the platform sets on errors of a call to an object. */
interface ObjectFault {
  /** More is asked of the object than it can do: the call did not reach it. */
  overloaded?: boolean;
  /** The call may be tried again: it was the way there that failed. */
  retryable?: boolean;
  /** The object was restarted while the call was in it. */
  durableObjectReset?: boolean;
}

/** Of the faults of D1, which it tells by their text alone, those that pass: https://developers.cloudflare.com/d1/observability/debug-d1/ */
const PASSING_D1_FAULT = /^D1_ERROR: .*(overloaded|object to be reset|Network connection lost|timeout)/;

/**
 * A fault of the platform that passes, as a refusal that says to come again; null for any other fault. An object that was
 * restarted may have committed the request: only a repeat under its key tells.
 */
export function passingFault(error: unknown): Refusal | null {
  if (!(error instanceof Error)) return null;
  const fault = error as ObjectFault;
  if (fault.overloaded) return overloaded("more is asked of this object than it can do");
  if (fault.retryable || fault.durableObjectReset) {
    return overloaded(
      "the object was restarted, and may have carried out the request or not: repeat it under the same idempotency key",
    );
  }
  return PASSING_D1_FAULT.test(error.message) ? overloaded("the directory of runs is busy") : null;
}
