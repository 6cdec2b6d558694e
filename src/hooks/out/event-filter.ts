import type { EventRecord } from "../../protocol/event.ts";
import type { RunStatus } from "../../protocol/status.ts";

/** Which events of a run a subscription wants. */
export interface EventFilter {
  /** Patterns of event types, any of which will do. */
  events: readonly string[];
  /** Statuses that the run may have after the event; any when empty. */
  status: readonly RunStatus[];
}

export function wantsEvent(
  { events, status }: EventFilter,
  event: Pick<EventRecord, "type" | "run_status">,
): boolean {
  if (status.length > 0 && !status.includes(event.run_status)) return false;
  return events.some((pattern) => matchesPattern(pattern, event.type));
}

/**
 * Whether a text is of a pattern, in which `*` stands for any characters, dots included, or none. Letters count as they are.
 * At most about pattern times text many steps: on a mismatch only the last star takes one character more.
 */
export function matchesPattern(pattern: string, text: string): boolean {
  let at = 0;
  let index = 0;
  /** Behind the last star, and how much of the text the pattern has taken there. */
  let star: { at: number; index: number } | null = null;
  while (index < text.length) {
    if (pattern[at] === "*") {
      at += 1;
      star = { at, index };
    } else if (at < pattern.length && pattern[at] === text[index]) {
      at += 1;
      index += 1;
    } else if (star === null) {
      return false;
    } else {
      star.index += 1;
      at = star.at;
      index = star.index;
    }
  }
  while (pattern[at] === "*") at += 1;
  return at === pattern.length;
}
