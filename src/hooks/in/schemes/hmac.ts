import type { HmacScheme, Naming } from "../../../protocol/hooks.ts";
import { pointedAt, type Received } from "../received.ts";
import { type About, eventOf, keyOf, type Scheme } from "../scheme.ts";
import {
  bytesOf,
  DEFAULT_TOLERANCE_MS,
  fromBase64,
  fromHex,
  isHmac,
  joined,
  momentOf,
  singleHeader,
  staleness,
} from "../signature.ts";

/** The bytes of a secret as the hook says it is written; null when it is not. */
export function hmacKey(secret: string, encoding: HmacScheme["secret_encoding"]): Uint8Array | null {
  if (encoding === "base64") return fromBase64(secret);
  return encoding === "hex" ? fromHex(secret) : bytesOf(secret);
}

/** HMAC as the hook describes it: most providers are this with other names. */
export const hmac: Scheme<HmacScheme> = {
  async verify(config, secrets, { headers, body }, { nowMs }) {
    const keys = secrets.flatMap((secret) => hmacKey(secret, config.secret_encoding) ?? []);
    if (keys.length === 0) return "secret_missing";
    const header = singleHeader(headers, config.header);
    if (!header.ok) return header.failure;
    if (!header.value.startsWith(config.prefix)) return "header_malformed";
    const written = header.value.slice(config.prefix.length);
    const signature = config.encoding === "hex" ? fromHex(written) : fromBase64(written);
    if (signature === null) return "header_malformed";

    const parts = new Map<string, string | Uint8Array>([["{body}", body]]);
    for (const [part, name] of [
      ["{timestamp}", config.timestamp_header],
      ["{id}", config.id_header],
    ] as const) {
      if (name === undefined || !config.signed.includes(part)) continue;
      const value = singleHeader(headers, name);
      if (!value.ok) return value.failure;
      parts.set(part, value.value);
    }
    const content = joined(
      ...config.signed.split(/(\{(?:body|timestamp|id)\})/).map((piece) => parts.get(piece) ?? piece),
    );
    const hash = config.algorithm === "sha512" ? "SHA-512" : "SHA-256";
    if (!(await isHmac(hash, keys, content, [signature]))) return "signature_mismatch";
    if (config.timestamp_header === undefined) return null;
    const signedAtMs = momentOf(String(parts.get("{timestamp}")), config.timestamp_unit);
    if (signedAtMs === null) return "header_malformed";
    return staleness(signedAtMs, nowMs, config.tolerance_ms ?? DEFAULT_TOLERANCE_MS);
  },

  about: (config, received) => named(config, received),
};

/** What a delivery says about itself, where the hook says that it says so. */
export function named(naming: Naming, received: Received): About {
  const at = (header: string | undefined, pointer: string | undefined): unknown => {
    const value = header === undefined ? undefined : received.headers.get(header)?.trim();
    if (value || pointer === undefined) return value;
    const payload = received.payload();
    return payload.ok ? pointedAt(payload.value, pointer) : undefined;
  };
  return {
    key: keyOf(at(naming.id_header, naming.id_pointer)),
    event: eventOf(at(naming.event_header, naming.event_pointer)),
    handshake: null,
  };
}
