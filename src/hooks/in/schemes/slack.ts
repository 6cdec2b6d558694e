import { memberOf, type Received } from "../received.ts";
import { eventOf, keyOf, type Scheme } from "../scheme.ts";
import {
  bytesOf,
  DEFAULT_TOLERANCE_MS,
  fromHex,
  isHmac,
  joined,
  momentOf,
  singleHeader,
  staleness,
} from "../signature.ts";

/**
 * Slack: HMAC-SHA-256 over `v0:timestamp:body`. Events are JSON; slash commands are forms, and interactivity is JSON in a
 * form's field `payload`. Events have an `event_id`; what a user does has a `trigger_id`.
 */
export const slack: Scheme<unknown> = {
  async verify(_config, secrets, { headers, body }, { nowMs }) {
    if (secrets.length === 0) return "secret_missing";
    const header = singleHeader(headers, "x-slack-signature");
    if (!header.ok) return header.failure;
    const timestamp = singleHeader(headers, "x-slack-request-timestamp");
    if (!timestamp.ok) return timestamp.failure;
    const signature = fromHex(/^v0=([0-9a-f]{64})$/.exec(header.value)?.[1] ?? "");
    const signedAtMs = momentOf(timestamp.value);
    if (signature === null || signedAtMs === null) return "header_malformed";
    const content = joined(`v0:${timestamp.value}:`, body);
    if (!(await isHmac("SHA-256", secrets.map(bytesOf), content, [signature]))) return "signature_mismatch";
    return staleness(signedAtMs, nowMs, DEFAULT_TOLERANCE_MS);
  },

  about(_config, received) {
    const challenge = received.member("challenge");
    const isChallenge = received.member("type") === "url_verification" && typeof challenge === "string";
    return {
      key: keyOf(received.member("event_id")) ?? keyOf(received.member("trigger_id")),
      event: eventName(received),
      handshake: isChallenge ? { kind: "challenge", challenge } : null,
    };
  },
};

/** `app_mention` and the like for events, `slash_command`, `block_actions` and the like for interactivity. */
function eventName(received: Received): string | null {
  const type = eventOf(received.member("type"));
  if (type === "event_callback") return eventOf(memberOf(received.member("event"), "type")) ?? type;
  if (type === null && received.isForm && received.member("command") !== undefined) return "slash_command";
  return type;
}
