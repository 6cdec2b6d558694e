/**
 * What every answer says unless its handler says otherwise. Answers are data: no page may frame them, run anything of
 * them or load them as a part of itself, and what a tenant was answered lies in no cache.
 */
const OVER_HTTP = {
  "cache-control": "no-store",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
};

/** Once reached by HTTPS, a host is never asked in the clear again: a credential would go along. */
const OVER_HTTPS = { ...OVER_HTTP, "strict-transport-security": "max-age=31536000" };

export function safeHeaders(url: string): Record<string, string> {
  return url.startsWith("https:") ? OVER_HTTPS : OVER_HTTP;
}
