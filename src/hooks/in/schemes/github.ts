import { eventOf, keyOf, type Scheme } from "../scheme.ts";
import { bytesOf, fromHex, isHmac, singleHeader } from "../signature.ts";

/**
 * GitHub: HMAC-SHA-256 over the body. No time is signed and neither is the delivery's id: what protects from repeats is the
 * id as long as it is kept, and the mapping's natural keys.
 */
export const github: Scheme<unknown> = {
  async verify(_config, secrets, { headers, body }) {
    if (secrets.length === 0) return "secret_missing";
    const header = singleHeader(headers, "x-hub-signature-256");
    if (!header.ok) return header.failure;
    const signature = fromHex(/^sha256=([0-9a-f]{64})$/.exec(header.value)?.[1] ?? "");
    if (signature === null) return "header_malformed";
    const isGood = await isHmac("SHA-256", secrets.map(bytesOf), body, [signature]);
    return isGood ? null : "signature_mismatch";
  },

  about(_config, { headers }) {
    const event = eventOf(headers.get("x-github-event"));
    return {
      key: keyOf(headers.get("x-github-delivery")),
      event,
      handshake: event === "ping" ? { kind: "ping" } : null,
    };
  },
};
