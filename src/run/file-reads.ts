import type { FileVersion } from "../protocol/file-version.ts";
import type { RunState } from "./run-state.ts";
import type { Text } from "./text.ts";

/** Paths of the artifact space to list, in code point order. */
export interface FilesQuery {
  prefix: string;
  /** Only paths that come after this one; the empty one comes first. */
  afterPath: string;
  limit: number;
}

export interface FilesPage {
  /** JSON array of what the paths hold. */
  items: Text;
  /** Path to go on after; null when there are no more. */
  nextPath: string | null;
}

/** Versions of one path to list, oldest first. */
export interface VersionsQuery {
  path: string;
  afterVersion: number;
  limit: number;
}

export interface VersionsPage {
  /** JSON array of versions, removals included. */
  items: Text;
  nextVersion: number | null;
}

export function readFiles({ files }: RunState, { prefix, afterPath, limit }: FilesQuery): FilesPage {
  const docs = files.page(prefix, afterPath, limit + 1);
  return { items: jsonArray(docs.slice(0, limit)), nextPath: lastOf(docs, limit)?.path ?? null };
}

export function readVersions({ files }: RunState, query: VersionsQuery): VersionsPage {
  const { path, afterVersion, limit } = query;
  const docs = files.versions(path, afterVersion, limit + 1);
  return { items: jsonArray(docs.slice(0, limit)), nextVersion: lastOf(docs, limit)?.version ?? null };
}

function jsonArray(docs: string[]): string {
  return `[${docs.join(",")}]`;
}

/** The last entry of a page that more follows. */
function lastOf(docs: string[], limit: number): FileVersion | null {
  const last = docs.length > limit ? docs[limit - 1] : undefined;
  return last === undefined ? null : (JSON.parse(last) as FileVersion);
}
