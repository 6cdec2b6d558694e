import type { EventRecord } from "../protocol/event.ts";
import type { FileChange, FileVersion } from "../protocol/file-version.ts";

/** The events that may change the artifact space. Only the engine's own word counts (contract 07 D04). */
const FILE_EVENTS: ReadonlySet<string> = new Set([
  "context.artifact.added",
  "context.artifact.removed",
  "rollback_execution_applied",
]);

/** The versions that an event makes, from its payload's `files`: of each path one. */
export function versionsOf(event: EventRecord): FileVersion[] {
  if (event.origin === "client" || !FILE_EVENTS.has(event.type)) return [];
  const files = (event.payload as { files?: FileChange[] } | null)?.files ?? [];
  return files.map((file) => ({ ...file, version: event.seq, ts_ms: event.ts_ms }));
}
