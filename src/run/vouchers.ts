import type { RunState } from "./run-state.ts";
import type { Vouchers } from "./verify-log.ts";

/** What a run remembers of its log, in one moment. */
export function vouchersOf(state: RunState, query: { afterSeq: number; uptoSeq: number }): Vouchers {
  const { run_id, last_event_seq } = state.head().run;
  const { afterSeq, uptoSeq } = query;
  const saved = state.savedHash();
  return {
    run_id,
    initial_hash: afterSeq === 0 ? state.initialHash() : null,
    last_seq: last_event_seq,
    log_hash: state.logHash(),
    has_strays: state.lastSeq() > last_event_seq,
    hashes: [
      ...(saved === null ? [] : [{ ...saved, by: "the saved head" }]),
      ...state.segments.hashes(afterSeq, uptoSeq).map((known) => ({ ...known, by: "its segment" })),
      ...state.checkpoints.hashes(afterSeq, uptoSeq).map((known) => ({ ...known, by: "its checkpoint" })),
    ],
  };
}
