import type { HistorySource } from "../history/state-at.ts";
import type { Call } from "./call.ts";

/** What the past of the run that a call is about is read from. */
export function historyOf(call: Call): HistorySource {
  return { run: call.run(), bucket: call.env.ARTIFACTS ?? null };
}
