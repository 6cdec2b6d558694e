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
 * Compares what was sent with a secret, in a time that tells how long the former is and nothing else (contract 07 D10). In
 * plain code: the platform's own comparison wants bytes, and to make them would cost a request as much as its route.
 */
export function isSameSecret(sent: string, secret: string): boolean {
  let difference = sent.length ^ secret.length;
  for (let index = 0; index < sent.length; index += 1) {
    // Behind the end of the secret there is NaN, which counts as 0 here.
    difference |= sent.charCodeAt(index) ^ secret.charCodeAt(index);
  }
  return difference === 0;
}
