import type { Tenant } from "../protocol/run.ts";
import type { RunStatus } from "../protocol/status.ts";

/** A commit on its way to readers: its records are the texts that were stored. */
export interface CommitText {
  seq: number;
  ts_ms: number;
  /** Of the event. */
  type: string;
  /** The event record, JSON. */
  event: string;
  /** The patch record, JSON; null when the commit has none. */
  patch: string | null;
}

/** Commits of one run without a gap between them: event seqs have none (contract I1). */
export interface Stretch {
  run_id: string;
  /** The run's path when the stretch was read, trimmed; empty when it has none. */
  workspace: string;
  tenant_context: Tenant;
  /** The run has been in its workspace since after this seq. */
  workspace_since_seq: number;
  /** The stretch holds the commits with `after_seq < seq <= upto_seq`; none when the two are equal. */
  after_seq: number;
  upto_seq: number;
  /** Seq of the run's last commit when the stretch was read, and the run's status there. */
  last_seq: number;
  status: RunStatus;
  /** Its place in a feed; absent outside of feeds. */
  pos?: number;
  /** Null when they were too long to come along: whoever needs them reads them from the run. */
  commits: CommitText[] | null;
}

interface PackedHead extends Omit<Stretch, "commits"> {
  /** Of the commits, in order; absent when they did not come along. */
  ts_ms?: number[];
  types?: string[];
}

/**
 * Stretches as one text: a line of JSON with what is known of each, then two lines for each commit, its event and its patch.
 * Records keep the very text they were stored as, and whoever passes them on need not parse them.
 */
export function packStretches(stretches: readonly Stretch[]): string {
  const heads = stretches.map(({ commits, ...head }): PackedHead => {
    if (commits === null) return head;
    return { ...head, ts_ms: commits.map(({ ts_ms }) => ts_ms), types: commits.map(({ type }) => type) };
  });
  let text = JSON.stringify(heads);
  for (const { commits } of stretches) {
    // Records are JSON on one line.
    for (const { event, patch } of commits ?? []) text += `\n${event}\n${patch ?? ""}`;
  }
  return text;
}

/** The stretches that `packStretches` made a text of. */
export function unpackStretches(text: string): Stretch[] {
  const lines = text.split("\n");
  const heads = JSON.parse(lines[0] ?? "") as PackedHead[];
  let line = 1;
  return heads.map(({ ts_ms, types, ...head }): Stretch => {
    if (ts_ms === undefined) return { ...head, commits: null };
    const commits = ts_ms.map((time, index): CommitText => {
      const event = lines[line] ?? "";
      const patch = lines[line + 1] || null;
      line += 2;
      return { seq: head.after_seq + 1 + index, ts_ms: time, type: types?.[index] ?? "", event, patch };
    });
    return { ...head, commits };
  });
}

/** What of a stretch is newer than a seq; the stretch itself when all of it is. */
export function newerThan(stretch: Stretch, seq: number): Stretch {
  if (seq <= stretch.after_seq) return stretch;
  const after_seq = Math.min(seq, stretch.upto_seq);
  const commits = stretch.commits?.slice(after_seq - stretch.after_seq) ?? null;
  return { ...stretch, after_seq, commits };
}

/** Two stretches that follow each other without a gap, as one. */
export function joined(first: Stretch, second: Stretch): Stretch {
  const commits =
    first.commits === null || second.commits === null ? null : [...first.commits, ...second.commits];
  return { ...second, after_seq: first.after_seq, commits };
}
