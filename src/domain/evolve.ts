import type { Artifact, Note, NoteList } from "../protocol/blackboard.ts";
import type { EventRecord } from "../protocol/event.ts";
import type { FileVersion } from "../protocol/file-version.ts";
import type { Run, RunHeader, Step } from "../protocol/run.ts";
import type { RunStatus } from "../protocol/status.ts";
import type { Task } from "../protocol/task.ts";
import type { RunSettings } from "../protocol/task-life.ts";
import { type Effect, withEvent } from "./audit.ts";
import { readPatch } from "./blackboard.ts";
import type { Commit } from "./commit.ts";
import { versionsOf } from "./files.ts";
import type { Halt, RunHead } from "./head.ts";
import { locksAfter } from "./locks.ts";
import { isHalted, isTerminal, withSettings, withStatus } from "./run.ts";
import { applyRunEvent } from "./transition.ts";
import { normalisePath } from "./workspace.ts";

/** One change to what lies outside the head. Two interpreters apply changes: SQL tables (live) and memory (replay). */
export type Change =
  | { kind: "put_task"; task: Task }
  | { kind: "replace_tasks"; tasks: Task[] }
  | { kind: "add_note"; list: NoteList; note: Note }
  | { kind: "add_artifact"; artifact: Artifact }
  /** A version without content removes the path. */
  | { kind: "put_file"; file: FileVersion }
  /** An event that audits ask for. */
  | { kind: "index_effect"; effect: Effect }
  /** The mutations at these seqs were undone by the commit at `applied_seq`. */
  | { kind: "mark_applied"; seqs: number[]; applied_seq: number };

export interface Evolution {
  head: RunHead;
  changes: Change[];
}

/**
 * What a commit means: the head after it, and the changes to tasks and notes. Pure and total; the only place where
 * meaning is given to an event, so replay cannot disagree with the live run.
 *
 * E1 A snapshot inside an event counts only in events the engine wrote (contract 07 D07, D09).
 * E2 Times come from the event, never from a clock (07 D27).
 */
export function evolve(head: RunHead, commit: Commit): Evolution {
  const { event } = commit;
  const { run, changes, summaries, last_mismatch } = meaningOf(head, commit);
  const { audit, effect, applied } = withEvent(head.audit, event);
  const more = versionsOf(event).map((file): Change => ({ kind: "put_file", file }));
  if (effect !== null) more.push({ kind: "index_effect", effect });
  if (applied.length > 0) more.push({ kind: "mark_applied", seqs: applied, applied_seq: event.seq });
  return {
    head: {
      summaries: summaries ?? head.summaries,
      last_mismatch: run.status === "paused" ? (last_mismatch ?? head.last_mismatch) : null,
      run: {
        ...run,
        revision: Math.max(event.revision, head.run.revision),
        last_event_seq: Math.max(event.seq, head.run.last_event_seq),
        updated_at_ms: Math.max(event.ts_ms, head.run.updated_at_ms),
      },
      blackboard_revision: commit.patch === null ? head.blackboard_revision : commit.patch.seq,
      workspace_since_seq: isMoved(head.run, run) ? event.seq - 1 : head.workspace_since_seq,
      audit,
      ...haltAfter(head.halt, event, run.status),
      ...locksAfter(head.locks, event, changes),
    },
    changes: more.length === 0 ? changes : [...changes, ...more],
  };
}

/** A halt lasts as long as the run is paused or over; a later one takes its place. */
function haltAfter(halt: Halt | undefined, event: EventRecord, status: RunStatus): { halt?: Halt } {
  if (!isHalted(status)) return {};
  if (event.halt !== undefined) return { halt: { seq: event.seq, ...event.halt } };
  return halt === undefined ? {} : { halt };
}

function isMoved({ workspace: before }: RunHeader, { workspace: after }: RunHeader): boolean {
  if (before.canonical_path === after.canonical_path) return false;
  return normalisePath(before.canonical_path) !== normalisePath(after.canonical_path);
}

interface Meaning extends Partial<Omit<RunHead, "run">> {
  run: RunHeader;
  changes: Change[];
}

function meaningOf(head: RunHead, commit: Commit): Meaning {
  const { event } = commit;
  const nothing: Meaning = { run: head.run, changes: [] };
  if (event.origin === "client") return runEvent(head, event);
  if (event.type.startsWith("context.task.")) {
    const task = member<Task>(event, "task");
    return task === undefined ? nothing : { ...nothing, changes: [{ kind: "put_task", task }] };
  }
  // What it did is in the head.
  if (event.type.startsWith("context.lock.")) return nothing;
  switch (event.type) {
    case "context.blackboard.patched":
    case "context.artifact.added":
      return boardPatch(head, commit);
    // What it did is in `files`; to the run itself it does nothing.
    case "context.artifact.removed":
      return nothing;
    case "context.run.imported":
    case "context.run.replaced": {
      const replacement = member<Run>(event, "run");
      if (replacement === undefined) return nothing;
      const { tasks, ...run } = replacement;
      return { run, changes: [{ kind: "replace_tasks", tasks }] };
    }
    case "context.run.settings_set":
      return { run: withSettings(head.run, member<RunSettings>(event, "settings")), changes: [] };
    // Fills the place of a record that an import did not find (reference-import.ts).
    case "context.run.gap":
      return nothing;
    case "todo_synced":
    case "meta_next_step_selected": {
      const steps = member<Step[]>(event, "steps") ?? head.run.steps;
      const why_next_step = member<string>(event, "why_next_step") ?? null;
      return {
        run: { ...withStatus(head.run, event.status, event.ts_ms), steps, why_next_step },
        changes: [],
      };
    }
    case "workspace_validated":
      return { run: adoptWorkspace(head.run, member<string>(event, "actual_path") ?? ""), changes: [] };
    case "workspace_mismatch": {
      const probe = {
        expected_path: member<string>(event, "expected_path") ?? "",
        phase: member<string>(event, "phase") ?? "",
        current_path: member<string>(event, "actual_path") ?? "",
        step_id: event.step_id ?? null,
      };
      return { run: withStatus(head.run, event.status, event.ts_ms), last_mismatch: probe, changes: [] };
    }
    case "rollback_execution_applied":
    case "rollback_execution_blocked":
    case "rollback_execution_requested":
    case "mutation_checkpoint_recorded":
      return report(head, event);
    default:
      return runEvent(head, event);
  }
}

/** A member of an engine-written payload. Absent only in a damaged or imported log, where the rest must still replay. */
function member<T>(event: EventRecord, name: string): T | undefined {
  return (event.payload as Record<string, T> | null)?.[name] ?? undefined;
}

function runEvent(head: RunHead, event: EventRecord): Meaning {
  return { run: applyRunEvent(head.run, event, event.ts_ms), changes: [] };
}

/**
 * What the engine reports of rollbacks and mutations declares the run's own status and so changes nothing (contract 07 D73);
 * only that of another engine's log may. A run that was over is so since when it was.
 */
function report(head: RunHead, event: EventRecord): Meaning {
  const { run } = runEvent(head, event);
  const { ended_at_ms } = head.run;
  if (!isTerminal(run.status) || ended_at_ms === undefined) return { run, changes: [] };
  return { run: { ...run, ended_at_ms }, changes: [] };
}

function boardPatch(head: RunHead, { patch }: Commit): Meaning {
  const read = patch === null ? null : readPatch(patch.op, patch.payload);
  if (read === null || !read.ok) return { run: head.run, changes: [] };
  const { effect } = read;
  if (effect.kind !== "set_summary") return { run: head.run, changes: [effect] };
  return { run: head.run, changes: [], summaries: { ...head.summaries, [effect.name]: effect.text } };
}

/** A run without a path takes the one it is shown; its lease epoch starts at 1 (contract 03 §7). */
export function adoptWorkspace(run: RunHeader, path: string): RunHeader {
  const { workspace } = run;
  return {
    ...run,
    workspace: { ...workspace, canonical_path: path, lease_epoch: workspace.lease_epoch || 1 },
  };
}
