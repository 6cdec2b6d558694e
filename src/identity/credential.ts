import { createHash, timingSafeEqual } from "node:crypto";

/**
 * The credential a request carries: the first non-blank of `x-agent-token`, `x-tandem-token` and a bearer
 * `Authorization`; no other is tried when it is wrong (contract 02 §1.1). Null when there is none.
 */
export function credentialOf(headers: Headers): string | null {
  const own = headers.get("x-agent-token")?.trim() || headers.get("x-tandem-token")?.trim();
  if (own) return own;
  const bearer = /^[Bb]earer (.*)$/.exec(headers.get("authorization")?.trim() ?? "");
  return bearer?.[1]?.trim() || null;
}

/** Compares two secrets in a time that tells nothing about where they differ (contract 07 D10). */
export function isSameSecret(a: string, b: string): boolean {
  return timingSafeEqual(sha256(a), sha256(b));
}

function sha256(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}
