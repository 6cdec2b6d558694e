import { eventOf, keyOf, type Scheme } from "../scheme.ts";
import {
  DEFAULT_TOLERANCE_MS,
  fromBase64,
  isEd25519,
  isHmac,
  joined,
  momentOf,
  singleHeader,
  staleness,
} from "../signature.ts";

/** A symmetric secret is `whsec_` and 24 to 64 bytes in base64; a public key is `whpk_` and 32 bytes in base64. */
const SECRET = "whsec_";
const PUBLIC_KEY = "whpk_";

/** Signatures that are looked at: there are as many as the sender has keys. */
const MAX_SIGNATURES = 16;

/** The bytes of a secret of this scheme; null when it is none. Its prefix says which kind it is. */
export function standardKey(secret: string): { isPublic: boolean; bytes: Uint8Array } | null {
  const isPublic = secret.startsWith(PUBLIC_KEY);
  // A bare one could be either, and whoever knows a public key could sign with it as if it were the secret.
  if (!isPublic && !secret.startsWith(SECRET)) return null;
  const bytes = fromBase64(secret.slice(isPublic ? PUBLIC_KEY.length : SECRET.length));
  if (bytes === null) return null;
  const isWell = isPublic ? bytes.length === 32 : bytes.length >= 24 && bytes.length <= 64;
  return isWell ? { isPublic, bytes } : null;
}

/**
 * Standard Webhooks 1.0 (standardwebhooks.com): `v1`, HMAC-SHA-256, and `v1a`, Ed25519, over `id.timestamp.body`. The
 * headers may also be called `svix-…`, as Svix calls them.
 */
export const standard: Scheme<unknown> = {
  async verify(_config, secrets, { headers, body }, { nowMs }) {
    const keys = secrets.flatMap((secret) => standardKey(secret) ?? []);
    if (keys.length === 0) return "secret_missing";
    const prefix = prefixOf(headers);
    const id = singleHeader(headers, `${prefix}-id`);
    if (!id.ok) return id.failure;
    const timestamp = singleHeader(headers, `${prefix}-timestamp`);
    if (!timestamp.ok) return timestamp.failure;
    const signatures = headers.get(`${prefix}-signature`)?.trim().split(/ +/) ?? [""];
    if (signatures[0] === "") return "header_missing";
    // Two headers come joined by a comma and a blank; the format's own comma ends nothing.
    if (signatures.some((one) => one.endsWith(","))) return "header_duplicated";
    const signedAtMs = momentOf(timestamp.value);
    if (signedAtMs === null) return "header_malformed";

    const made = (version: "v1" | "v1a") =>
      signatures
        .slice(0, MAX_SIGNATURES)
        .flatMap((one) => (one.startsWith(`${version},`) && fromBase64(one.slice(version.length + 1))) || []);
    const content = joined(`${id.value}.${timestamp.value}.`, body);
    const keysThat = (isPublic: boolean) =>
      keys.flatMap((key) => (key.isPublic === isPublic ? [key.bytes] : []));
    const isGood =
      (await isHmac("SHA-256", keysThat(false), content, made("v1"))) ||
      (await isEd25519(keysThat(true), content, made("v1a")));
    if (!isGood) return "signature_mismatch";
    return staleness(signedAtMs, nowMs, DEFAULT_TOLERANCE_MS);
  },

  about(_config, received) {
    const { headers } = received;
    return {
      key: keyOf(headers.get(`${prefixOf(headers)}-id`)?.trim()),
      event: eventOf(received.member("type")),
      handshake: null,
    };
  },
};

function prefixOf(headers: Headers): "webhook" | "svix" {
  return !headers.has("webhook-id") && headers.has("svix-id") ? "svix" : "webhook";
}
