import { digestHeader } from "../protocol/content-digest.ts";
import type { FileVersion } from "../protocol/file-version.ts";

/** Types that no client runs anything of, whatever the bytes are. All others go out as bytes. */
const HARMLESS: ReadonlySet<string> = new Set([
  "application/gzip",
  "application/json",
  "application/octet-stream",
  "application/x-ndjson",
  "application/zip",
  "audio/mpeg",
  "audio/ogg",
  "audio/wav",
  "image/gif",
  "image/jpeg",
  "image/png",
  "image/webp",
  "text/csv",
  "text/markdown",
  "text/plain",
  "video/mp4",
  "video/webm",
]);

/** The type under which content goes out: as it was declared if that is harmless, else bytes. */
export function safeContentType(declared: string): string {
  const type = declared.split(";")[0]?.trim().toLowerCase() ?? "";
  if (!HARMLESS.has(type)) return "application/octet-stream";
  const charset = /;\s*charset="?([\w-]{1,40})"?/i.exec(declared)?.[1];
  return charset === undefined ? type : `${type}; charset=${charset.toLowerCase()}`;
}

/** The headers of bytes from somewhere else, which a browser shall save under this name and never show. */
export function downloadHeaders(
  name: string,
  { content_type, sha256 }: { content_type: string; sha256: string },
): Record<string, string> {
  return {
    "content-type": safeContentType(content_type),
    "content-disposition": `attachment; filename*=UTF-8''${extValue(name)}`,
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "repr-digest": digestHeader(sha256),
  };
}

/** The headers of a content, which a browser shall save and never show: what agents upload is nobody's page. */
export function contentHeaders(file: FileVersion & { sha256: string }): Record<string, string> {
  return {
    ...downloadHeaders(file.path.split("/").at(-1) ?? "", file),
    "accept-ranges": "bytes",
    "baton-artifact-version": String(file.version),
    ...validators(file),
  };
}

/** What a client compares its copy by. */
export function validators(file: FileVersion & { sha256: string }): Record<string, string> {
  return { etag: `"${file.sha256}"`, "cache-control": "private, no-cache" };
}

/** A text as RFC 8187 has it in a header. */
function extValue(text: string): string {
  return encodeURIComponent(text).replace(/['()*]/g, (char) => `%${char.charCodeAt(0).toString(16)}`);
}
