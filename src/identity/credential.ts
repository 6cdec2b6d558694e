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

/**
 * Compares two secrets in a time that tells nothing about where they differ (contract 07 D10), only about lengths. In
 * plain code: the platform's own comparison wants bytes, and to make them would cost a request as much as its route.
 */
export function isSameSecret(a: string, b: string): boolean {
  if (a.length !== b.length) return false;
  let difference = 0;
  for (let index = 0; index < a.length; index += 1) {
    difference |= a.charCodeAt(index) ^ b.charCodeAt(index);
  }
  return difference === 0;
}
