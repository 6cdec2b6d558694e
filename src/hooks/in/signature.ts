import type { Failure } from "./scheme.ts";

export type HashName = "SHA-256" | "SHA-512";

const encoder = new TextEncoder();

export function bytesOf(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Bytes of lower-case or upper-case hex; null when it is not. */
export function fromHex(text: string): Uint8Array | null {
  if (text.length === 0 || text.length % 2 === 1 || !/^[0-9a-fA-F]+$/.test(text)) return null;
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

/** Bytes of base64 (RFC 4648 §4); null when it is not. */
export function fromBase64(text: string): Uint8Array | null {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return null;
  try {
    return Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  } catch {
    return null;
  }
}

/** Pieces of signed content as one. Texts are UTF-8. */
export function joined(...pieces: (string | Uint8Array)[]): Uint8Array {
  const parts = pieces.map((piece) => (typeof piece === "string" ? bytesOf(piece) : piece));
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}

/**
 * Whether any of these keys made any of these signatures over the content. The platform compares, in a time that does not
 * depend on where they differ; which of the keys it was may show in the time, and helps nobody.
 */
export async function isHmac(
  hash: HashName,
  keys: readonly Uint8Array[],
  content: Uint8Array,
  signatures: readonly Uint8Array[],
): Promise<boolean> {
  for (const bytes of keys) {
    const key = await crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash }, false, ["sign"]);
    // Once for each key, however many signatures are said to be its own: a long body is not read again for each of them.
    const made = new Uint8Array(await crypto.subtle.sign("HMAC", key, content));
    const isMade = (signature: Uint8Array) =>
      signature.length === made.length && crypto.subtle.timingSafeEqual(signature, made);
    if (signatures.some(isMade)) return true;
  }
  return false;
}

/** The same for Ed25519 (RFC 8032), with public keys of 32 bytes. */
export async function isEd25519(
  keys: readonly Uint8Array[],
  content: Uint8Array,
  signatures: readonly Uint8Array[],
): Promise<boolean> {
  for (const bytes of keys) {
    const key = await crypto.subtle.importKey("raw", bytes, "Ed25519", false, ["verify"]);
    for (const signature of signatures) {
      // The platform throws at any other length.
      if (signature.length !== 64) continue;
      if (await crypto.subtle.verify("Ed25519", key, signature, content)) return true;
    }
  }
  return false;
}

/** A header that must be there, once. Repeated ones come joined by commas, which none of these values has. */
export function singleHeader(
  headers: Headers,
  name: string,
): { ok: true; value: string } | { ok: false; failure: Failure } {
  const value = headers.get(name)?.trim();
  if (!value) return { ok: false, failure: "header_missing" };
  if (value.includes(",")) return { ok: false, failure: "header_duplicated" };
  return { ok: true, value };
}

/** What is wrong with the moment at which a delivery was signed; null when it is recent. Bounds are inclusive. */
export function staleness(signedAtMs: number, nowMs: number, toleranceMs: number): Failure | null {
  if (signedAtMs < nowMs - toleranceMs) return "timestamp_stale";
  return signedAtMs > nowMs + toleranceMs ? "timestamp_future" : null;
}

/** A moment in decimal digits, in seconds or ms since the epoch, as ms; null when it is not. */
export function momentOf(text: string, unit: "s" | "ms" = "s"): number | null {
  return /^[0-9]{1,15}$/.test(text) ? Number(text) * (unit === "s" ? 1000 : 1) : null;
}

/** Like the others allow: clocks differ, and a delivery may be on its way for a while. */
export const DEFAULT_TOLERANCE_MS = 300_000;
