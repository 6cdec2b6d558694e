import type { Issue } from "./issue.ts";

export type DigestResult = { ok: true; sha256: string | null } | { ok: false; issue: Issue };

/** A member of a dictionary that is a byte sequence (RFC 8941), its name and its base64 captured. */
const MEMBER = /^([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):(?:;.*)?$/;

/**
 * Reads the SHA-256 from the value of a `Content-Digest` or `Repr-Digest` header (RFC 9530; null when the request has none),
 * as lower-case hex. Other algorithms are ignored, as the RFC has it; a header with none but others is as good as none.
 * Issues (rule `digest`): what is no dictionary of byte sequences, a SHA-256 of another length, two that differ.
 */
export function readDigestHeader(field: string, value: string | null): DigestResult {
  const digests = new Set<string>();
  for (const member of value?.split(",") ?? []) {
    const [, name, base64] = MEMBER.exec(member.trim()) ?? [];
    if (name === undefined || base64 === undefined) return refuse(field, "must be like sha-256=:<base64>:");
    if (name !== "sha-256") continue;
    const hex = hexOf(base64);
    if (hex === null) return refuse(field, "sha-256 must be 32 bytes in base64");
    digests.add(hex);
  }
  if (digests.size > 1) return refuse(field, "must not have two different digests");
  return { ok: true, sha256: [...digests][0] ?? null };
}

/** The value of such a header for a SHA-256 in hex. */
export function digestHeader(sha256: string): string {
  const bytes = sha256.match(/../g)?.map((pair) => String.fromCharCode(Number.parseInt(pair, 16))) ?? [];
  return `sha-256=:${btoa(bytes.join(""))}:`;
}

function hexOf(base64: string): string | null {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(base64)) return null;
  return [...atob(base64)].map((char) => char.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}

function refuse(field: string, why: string): DigestResult {
  return { ok: false, issue: { field, rule: "digest", message: `${field}: ${why}` } };
}
