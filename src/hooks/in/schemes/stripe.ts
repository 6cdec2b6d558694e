import { eventOf, keyOf, type Scheme } from "../scheme.ts";
import { bytesOf, DEFAULT_TOLERANCE_MS, fromHex, isHmac, joined, momentOf, staleness } from "../signature.ts";

/** Signatures that are looked at: Stripe sends two while a secret is being replaced. */
const MAX_SIGNATURES = 16;

/** Stripe: `Stripe-Signature: t=…,v1=hex[,v1=hex]`, HMAC-SHA-256 over `t.body`. Other versions, such as `v0`, do not count. */
export const stripe: Scheme<unknown> = {
  async verify(_config, secrets, { headers, body }, { nowMs }) {
    if (secrets.length === 0) return "secret_missing";
    const header = headers.get("stripe-signature")?.trim();
    if (!header) return "header_missing";
    const values = (name: string) =>
      header.split(",").flatMap((pair) => {
        const [key, value] = pair.trim().split("=");
        return key === name && value !== undefined ? [value] : [];
      });
    const [timestamp = "", ...more] = values("t");
    // Two headers come joined, and then there are two times.
    if (more.length > 0) return "header_duplicated";
    const signedAtMs = momentOf(timestamp);
    const signatures = values("v1")
      .slice(0, MAX_SIGNATURES)
      .flatMap((value) => fromHex(value) ?? []);
    if (signedAtMs === null || signatures.length === 0) return "header_malformed";
    const content = joined(`${timestamp}.`, body);
    if (!(await isHmac("SHA-256", secrets.map(bytesOf), content, signatures))) return "signature_mismatch";
    return staleness(signedAtMs, nowMs, DEFAULT_TOLERANCE_MS);
  },

  about(_config, received) {
    return {
      key: keyOf(received.member("id")),
      event: eventOf(received.member("type")),
      handshake: null,
    };
  },
};
