import type { MemoryRun } from "../domain/memory.ts";
import { seqUnknown } from "../domain/refusals.ts";
import { memoryStateLines } from "../domain/state-lines.ts";
import { MAX_PAGE_LENGTH } from "../protocol/limits.ts";
import { openContent, readSoundContent } from "../run/checkpoint-content.ts";
import type { StateBase } from "../run/history-reads.ts";
import { commitOf, LogDamaged } from "../run/log-reader.ts";
import type { RunClient } from "../run/run-client.ts";
import type { Result } from "../run/run-object.ts";
import { stateDigest } from "../run/state-digest.ts";

/** What a run's past is read from. */
export interface HistorySource {
  run: RunClient;
  /** Where long checkpoints lie; null when there is no bucket. */
  bucket: R2Bucket | null;
}

/** A run as it was after one of its commits. */
export interface StateAt {
  /** Owned by whoever asked. */
  state: MemoryRun;
  seq: number;
  /** The checkpoint it was made from; null when the run's beginning was the start. */
  checkpointSeq: number | null;
  commitsApplied: number;
}

/**
 * The run as it was at a seq, at its end when that is null: the nearest checkpoint before, and what was committed since, by
 * the rules of the live engine. All of it happens here; the run's object only hands out pages.
 *
 * A checkpoint that cannot be read, or is not what was written, is passed over for the one before.
 *
 * @param start a state of the same run at or before this seq, to be led on unless a checkpoint is nearer.
 */
export async function stateAt(
  source: HistorySource,
  seq: number | null,
  start: StateAt | null = null,
): Promise<Result<StateAt>> {
  for (let beforeSeq: number | null = null; ; ) {
    const read: Result<StateBase> = await source.run.readBase({
      seq,
      afterSeq: start?.seq ?? -1,
      beforeSeq,
    });
    if (!read.ok) return read;
    const { last_event_seq: lastSeq, checkpoint_seq: checkpointSeq, state_sha256, content } = read.value;
    if (seq !== null && seq > lastSeq) return { ok: false, refusal: seqUnknown(seq, lastSeq) };
    const target = seq ?? lastSeq;
    if (content === null) {
      if (start === null) throw new Error("a run has a beginning");
      return led(source, start, target);
    }
    const lines = await openContent(content, source.bucket);
    const state = lines === null ? null : await readSoundContent(lines, state_sha256);
    if (state !== null) {
      return led(source, { state, seq: checkpointSeq ?? 0, checkpointSeq, commitsApplied: 0 }, target);
    }
    if (checkpointSeq === null) throw new Error("the run's beginning cannot be read");
    beforeSeq = checkpointSeq;
  }
}

/** Digest of a state, as checkpoints and replays tell it. */
export function digestOf({ state }: StateAt): string {
  return stateDigest(memoryStateLines(state));
}

/** Leads a state on to a seq that the log has. */
async function led({ run }: HistorySource, start: StateAt, uptoSeq: number): Promise<Result<StateAt>> {
  let { seq, commitsApplied } = start;
  try {
    while (seq < uptoSeq) {
      const page = await run.readCommits({ afterSeq: seq, uptoSeq, maxLength: MAX_PAGE_LENGTH });
      if (!page.ok) return page;
      const { rows } = page.value;
      if (rows.length === 0) throw new LogDamaged(seq + 1, uptoSeq, "commits are missing");
      for (const row of rows) {
        start.state.apply(commitOf(row));
        seq = row.seq;
        commitsApplied += 1;
      }
    }
  } catch (error) {
    if (error instanceof LogDamaged) return { ok: false, refusal: error.refusal };
    throw error;
  }
  return { ok: true, value: { ...start, seq, commitsApplied } };
}
