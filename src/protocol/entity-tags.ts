import type { Issue } from "./issue.ts";

/** What a header says about the current representation: any at all, or one of these. */
export type EntityTags = "*" | { tag: string; isWeak: boolean }[];

export type EntityTagsResult = { ok: true; tags: EntityTags | null } | { ok: false; issue: Issue };

const TAG = /^(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"$/;

/**
 * Reads the value of an `If-Match` or `If-None-Match` header (RFC 9110, section 13.1; null when the request has none):
 * `*`, or entity tags separated by commas. An issue (rule `entity_tags`) for everything else. A tag with a comma in it is
 * none of ours and is not understood.
 */
export function readEntityTags(field: string, header: string | null): EntityTagsResult {
  if (header === null) return { ok: true, tags: null };
  if (header.trim() === "*") return { ok: true, tags: "*" };
  const tags = header.split(",").map((text) => TAG.exec(text.trim()));
  if (!tags.every((tag) => tag !== null)) {
    const message = `${field}: must be * or quoted entity tags`;
    return { ok: false, issue: { field, rule: "entity_tags", message } };
  }
  return { ok: true, tags: tags.map(([, weak, tag = ""]) => ({ tag, isWeak: weak !== undefined })) };
}
