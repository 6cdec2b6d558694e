import { readDigestHeader } from "../protocol/content-digest.ts";
import { MAX_UPLOAD_BYTES } from "../protocol/limits.ts";
import { refuseIssues } from "./problem.ts";

const DEFAULT_CONTENT_TYPE = "application/octet-stream";
const MAX_CONTENT_TYPE_LENGTH = 255;
const MEDIA_TYPE = /^[\w!#$%&'*+.^`|~-]+\/[\w!#$%&'*+.^`|~-]+(?:\s*;[\x20-\x7e]*)?$/;

/** The content type that a body is declared to have. @throws RequestRefused when it is none */
export function declaredType(field: string, value: string | null | undefined): string {
  const type = value?.trim() || DEFAULT_CONTENT_TYPE;
  const limit = MAX_CONTENT_TYPE_LENGTH;
  if (type.length > limit) {
    const message = `${field} must have at most ${limit} characters`;
    refuseIssues("HEADER_INVALID", [{ field, rule: "max_length", limit, message }]);
  }
  if (!MEDIA_TYPE.test(type)) {
    const message = `${field} must be a media type, such as text/plain`;
    refuseIssues("HEADER_INVALID", [{ field, rule: "media_type", message }]);
  }
  return type;
}

/**
 * The digests, hex, that a request says its content has. Content is kept as it comes, so content and representation are
 * the same bytes: an encoded body is refused.
 * @throws RequestRefused
 */
export function declaredDigests({ headers }: Request): string[] {
  const encoding = headers.get("content-encoding")?.trim().toLowerCase() || "identity";
  if (encoding !== "identity") {
    const message = "Content-Encoding: content is kept as it comes; send it without an encoding";
    refuseIssues("HEADER_INVALID", [{ field: "Content-Encoding", rule: "identity", message }]);
  }
  const digests: string[] = [];
  for (const field of ["Content-Digest", "Repr-Digest"]) {
    const read = readDigestHeader(field, headers.get(field));
    if (!read.ok) refuseIssues("HEADER_INVALID", [read.issue]);
    if (read.sha256 !== null) digests.push(read.sha256);
  }
  return digests;
}

/** The length of a body as it is declared, in bytes; null when it is not. */
export function declaredLength({ headers }: Request): number | null {
  const value = headers.get("content-length");
  return value === null || !/^[0-9]+$/.test(value) ? null : Number(value);
}

/**
 * What a handler that takes in content answers. When it refuses before it has read the body, the body is read and thrown
 * away first, up to what an upload may have: a client that is still sending does not see an answer that comes before.
 */
export async function afterBody<T>({ body, headers }: Request, handled: Promise<T>): Promise<T> {
  try {
    return await handled;
  } catch (error) {
    const length = Number(headers.get("content-length") ?? 0);
    if (body !== null && !body.locked && length <= MAX_UPLOAD_BYTES) await drain(body).catch(() => undefined);
    throw error;
  }
}

async function drain(body: ReadableStream<Uint8Array>): Promise<void> {
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > MAX_UPLOAD_BYTES) return;
  }
}
