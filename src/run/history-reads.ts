import { newHead } from "../domain/head.ts";
import { MemoryRun } from "../domain/memory.ts";
import { memoryStateLines } from "../domain/state-lines.ts";
import type { CheckpointHead } from "../protocol/checkpoint.ts";
import type { CheckpointContent } from "./checkpoint-content.ts";
import type { CheckpointKeeper } from "./checkpoint-keeper.ts";
import type { RunState } from "./run-state.ts";
import { toText } from "./text.ts";

/** Checkpoints, newest first. */
export interface CheckpointPage {
  checkpoints: CheckpointHead[];
  /** Seq to go on before; null when there are no more. */
  nextSeq: number | null;
}

export function readCheckpoints(state: RunState, beforeSeq: number, limit: number): CheckpointPage {
  const heads = state.checkpoints.page(beforeSeq, limit + 1);
  const checkpoints = heads.slice(0, limit);
  return { checkpoints, nextSeq: heads.length > limit ? (checkpoints.at(-1)?.seq ?? null) : null };
}

/** For the state at which seq a start is wanted. */
export interface BaseQuery {
  /** The end of the log when null. */
  seq: number | null;
  /** Checkpoints at or before this one are of no use. -1 when all are. */
  afterSeq: number;
  /** Those at or after this one cannot be read. */
  beforeSeq: number | null;
}

/** What the state at a seq is made from: the newest stored state that is not newer, and the commits that follow it. */
export interface StateBase {
  last_event_seq: number;
  /** Null when the run's beginning is the start. */
  checkpoint_seq: number | null;
  /** Digest that the checkpoint's content has. */
  state_sha256: string | null;
  /** Null when no state after `afterSeq` is stored, or the log does not reach the seq. */
  content: CheckpointContent | null;
}

export function readBase(state: RunState, checkpoints: CheckpointKeeper, query: BaseQuery): StateBase {
  const { last_event_seq } = state.head().run;
  const nothing = { last_event_seq, checkpoint_seq: null, state_sha256: null, content: null };
  if (query.seq !== null && query.seq > last_event_seq) return nothing;
  const beforeSeq = query.beforeSeq ?? Number.MAX_SAFE_INTEGER;
  const uptoSeq = Math.min(query.seq ?? last_event_seq, beforeSeq - 1);
  // Those of older releases do not hold the whole state.
  const found = state.checkpoints.latestWhole(uptoSeq, query.afterSeq);
  if (found !== null) {
    const { head, content } = checkpoints.whole(found);
    return { last_event_seq, checkpoint_seq: head.seq, state_sha256: head.state_sha256, content };
  }
  if (query.afterSeq >= 0) return nothing;
  return { ...nothing, content: { text: toText(withBreaks(beginningLines(state))) } };
}

/** The lines of the state before the first commit. */
export function beginningLines({ genesis, row }: RunState): Iterable<string> {
  return genesis.parts() === 0 ? memoryStateLines(new MemoryRun(newHead(row.initial))) : genesis.lines();
}

function* withBreaks(lines: Iterable<string>): Generator<string> {
  for (const line of lines) yield `${line}\n`;
}
