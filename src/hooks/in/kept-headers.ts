import type { SchemeConfig } from "../../protocol/hooks.ts";
import { MAX_KEPT_HEADERS_LENGTH } from "../../protocol/limits.ts";

/** Headers by which senders say what they send. */
const TELLING =
  /^(content-type|user-agent|idempotency-key|request-id|(x|webhook|svix|linear|sentry-hook|ce|stripe)-.+)$/;

/** What proves, or could be used to prove, who somebody is; and where the request came by. */
const KEPT_BACK =
  /signature|hmac|secret|token|auth|password|credential|cookie|session|assertion|jwt|(?<!idempotency-)key|forwarded|^x-(real-ip|envoy)/;

/** Headers that the hook itself names. */
function namedHeaders(scheme: SchemeConfig): unknown[] {
  const { id_header, event_header, timestamp_header }: Record<string, unknown> = scheme;
  return [id_header, event_header, timestamp_header];
}

/**
 * The headers of a delivery that are kept with it, for mappings and people: those that tell something, and none that proves
 * anything. Names are lower case. What is over the bound is left out.
 */
export function keptHeaders(scheme: SchemeConfig, headers: Headers): Record<string, string> {
  const kept: Record<string, string> = {};
  let length = 0;
  // The proof itself may have any name.
  const proof = "header" in scheme ? scheme.header : null;
  const named = namedHeaders(scheme);
  for (const [name, value] of headers) {
    const isTelling = TELLING.test(name) || named.includes(name);
    if (!isTelling || KEPT_BACK.test(name) || name === proof) continue;
    const room = MAX_KEPT_HEADERS_LENGTH - length;
    if (name.length + value.length > room) continue;
    length += name.length + value.length;
    kept[name] = value;
  }
  return kept;
}
