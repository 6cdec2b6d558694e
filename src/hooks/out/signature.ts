/** How secrets of Standard Webhooks begin; the rest is base64. */
const PREFIX = "whsec_";
/** Length of a secret, in bytes, as the specification has it. */
const MIN_SECRET_BYTES = 24;
const MAX_SECRET_BYTES = 64;

const encoder = new TextEncoder();

/** The bytes of a secret; null when it is not one of Standard Webhooks. */
export function secretBytes(secret: string): Uint8Array<ArrayBuffer> | null {
  const base64 = secret.startsWith(PREFIX) ? secret.slice(PREFIX.length) : "";
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64) || base64.length % 4 !== 0) return null;
  const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  return bytes.length >= MIN_SECRET_BYTES && bytes.length <= MAX_SECRET_BYTES ? bytes : null;
}

/** One message as it is signed. */
export interface Signed {
  id: string;
  /** Of the attempt, epoch ms: a repetition is signed anew, or it would be too old to be taken. */
  sentAtMs: number;
  body: string;
}

/** The text that is signed (Standard Webhooks: id, seconds, body). */
export function signedText({ id, sentAtMs, body }: Signed): string {
  return `${id}.${Math.floor(sentAtMs / 1_000)}.${body}`;
}

/**
 * The headers that prove where a message comes from: a signature by each secret, so that receivers may change to a new one
 * whenever they like while both are active.
 */
export async function signatureHeaders(
  message: Signed,
  secrets: readonly string[],
): Promise<Record<string, string>> {
  const signatures = await Promise.all(secrets.map((secret) => signature(message, secret)));
  return {
    "webhook-id": message.id,
    "webhook-timestamp": String(Math.floor(message.sentAtMs / 1_000)),
    "webhook-signature": signatures.join(" "),
  };
}

async function signature(message: Signed, secret: string): Promise<string> {
  const bytes = secretBytes(secret);
  if (bytes === null) throw new Error("a stored secret is not one of Standard Webhooks");
  const hmac = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", bytes, hmac, false, ["sign"]);
  const made = await crypto.subtle.sign(hmac, key, encoder.encode(signedText(message)));
  return `v1,${btoa(String.fromCharCode(...new Uint8Array(made)))}`;
}
