import type { Summaries } from "../protocol/blackboard.ts";
import type { Lock } from "../protocol/lock.ts";
import type { RunHeader } from "../protocol/run.ts";
import { type Audit, NO_AUDIT } from "./audit.ts";

/** Everything about a run that is one value: what the object keeps in memory and evolves with each commit. */
export interface RunHead {
  run: RunHeader;
  /** Seq of the last patch; 0 when none (I6). */
  blackboard_revision: number;
  summaries: Summaries;
  /** The workspace mismatch that paused the run, so that repeats are not logged again (contract 07 D70); null unless it is paused. */
  last_mismatch: WorkspaceProbe | null;
  /** The run has had its path since after this seq: what is older was committed in another workspace, or in none. */
  workspace_since_seq: number;
  /** What the log comes to for an audit. */
  audit: Audit;
  /** Set while the run is paused or over by a request of `/v1`; what was claimed up to `seq` is revoked at `revoke_at_ms`. */
  halt?: Halt;
  /** Named leases that are out (docs/claims.md), in order of their fences; absent when there are none. */
  locks?: Lock[];
}

export interface Halt {
  seq: number;
  revoke_at_ms: number;
  /** As whoever asked for it said. */
  reason?: string;
}

/** One question of an agent whether it works in the run's workspace. */
export interface WorkspaceProbe {
  /** The run's path at that moment. */
  expected_path: string;
  phase: string;
  current_path: string;
  step_id: string | null;
}

/** The head of a run nobody has committed to yet. */
export function newHead(run: RunHeader): RunHead {
  return {
    run,
    blackboard_revision: 0,
    summaries: { rolling: "", latest_context_pack: "" },
    last_mismatch: null,
    workspace_since_seq: 0,
    audit: NO_AUDIT,
  };
}
