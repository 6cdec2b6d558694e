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

/** Between the fields of a line. JSON has it escaped. */
const TAB = "\t";

/**
 * Stretches as one text. Of each a line of what is known of it, then three lines for each commit: when and what, its event,
 * its patch. Records keep the very text they were stored as, and readers split instead of parsing: the same text goes to
 * everyone who follows.
 */
export function packStretches(stretches: readonly Stretch[]): string {
  let text = "";
  for (const { commits, ...head } of stretches) {
    const fields = [
      head.run_id,
      head.after_seq,
      head.upto_seq,
      head.last_seq,
      head.status,
      head.workspace_since_seq,
      head.pos ?? "",
      commits === null ? "" : commits.length,
      JSON.stringify(head.workspace),
      JSON.stringify(head.tenant_context),
    ];
    text += `${fields.join(TAB)}\n`;
    for (const { ts_ms, type, event, patch } of commits ?? []) {
      text += `${ts_ms}${TAB}${JSON.stringify(type)}\n${event}\n${patch ?? ""}\n`;
    }
  }
  return text;
}

/** The stretches that `packStretches` made a text of. */
export function unpackStretches(text: string): Stretch[] {
  const lines = text.split("\n");
  const stretches: Stretch[] = [];
  // The text ends with a line break, so that the last line is empty.
  for (let line = 0; line < lines.length - 1; ) {
    const [run_id = "", after, upto, last, status, since, pos, count, workspace = "", tenant = ""] = fieldsOf(
      lines[line++],
    );
    const after_seq = Number(after);
    const commits: CommitText[] | null = count === "" ? null : [];
    for (let index = 1; commits !== null && index <= Number(count); index += 1) {
      const [ts, type = ""] = fieldsOf(lines[line++]);
      const event = lines[line++] ?? "";
      const patch = lines[line++] || null;
      commits.push({ seq: after_seq + index, ts_ms: Number(ts), type: unquoted(type), event, patch });
    }
    stretches.push({
      run_id,
      workspace: unquoted(workspace),
      tenant_context: JSON.parse(tenant) as Tenant,
      workspace_since_seq: Number(since),
      after_seq,
      upto_seq: Number(upto),
      last_seq: Number(last),
      status: status as RunStatus,
      ...(pos !== "" && { pos: Number(pos) }),
      commits,
    });
  }
  return stretches;
}

function fieldsOf(line: string | undefined): string[] {
  return (line ?? "").split(TAB);
}

/** A JSON string's value. */
function unquoted(json: string): string {
  return json.includes("\\") ? (JSON.parse(json) as string) : json.slice(1, -1);
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
