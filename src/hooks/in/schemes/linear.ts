import { eventOf, keyOf, type Scheme } from "../scheme.ts";
import { bytesOf, fromHex, isHmac, singleHeader, staleness } from "../signature.ts";

/** Linear recommends a minute. */
const TOLERANCE_MS = 60_000;

/** Linear: `linear-signature`, bare hex, HMAC-SHA-256 over the body, which says when it was sent (`webhookTimestamp`, ms). */
export const linear: Scheme<unknown> = {
  async verify(_config, secrets, received, { nowMs }) {
    if (secrets.length === 0) return "secret_missing";
    const header = singleHeader(received.headers, "linear-signature");
    if (!header.ok) return header.failure;
    const signature = header.value.length === 64 ? fromHex(header.value) : null;
    if (signature === null) return "header_malformed";
    const isGood = await isHmac("SHA-256", secrets.map(bytesOf), received.body, [signature]);
    if (!isGood) return "signature_mismatch";
    const sentAtMs = received.member("webhookTimestamp");
    if (typeof sentAtMs !== "number") return "timestamp_missing";
    return staleness(sentAtMs, nowMs, TOLERANCE_MS);
  },

  about(_config, received) {
    const { headers } = received;
    return {
      key: keyOf(headers.get("linear-delivery")),
      event: eventOf(headers.get("linear-event")) ?? eventOf(received.member("type")),
      handshake: null,
    };
  },
};
