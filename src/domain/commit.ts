import type { PatchRecord } from "../protocol/blackboard.ts";
import type { EventRecord } from "../protocol/event.ts";

/** The unit of change: one event and, for task and patch commits, the patch that belongs to it (contract 01 §5). */
export interface Commit {
  event: EventRecord;
  patch: PatchRecord | null;
}
