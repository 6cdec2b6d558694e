import type { PatchRecord } from "../protocol/blackboard.ts";
import type { EventRecord } from "../protocol/event.ts";
import type { FileVersion } from "../protocol/file-version.ts";
import type { Lock, LockConflict } from "../protocol/lock.ts";
import type { RunStatus } from "../protocol/status.ts";
import type { EmptyClaimReason, Lease, Stop, Task } from "../protocol/task.ts";
import type { RunSettings } from "../protocol/task-life.ts";
import type { AnyCommand, Batch, CommandOf, CommandOp } from "./command.ts";
import type { Commit } from "./commit.ts";
import type { Context } from "./draft.ts";
import { versionsOf } from "./files.ts";

/** A task that was given out, with its lease. */
export interface Claimed {
  task: Task;
  /** Null where the run came from elsewhere, and its token cannot be told. */
  lease: Lease | null;
}

/** A lock, as its holder gets it. */
export interface LockGiven {
  lock: Lock;
  /** Null where the run came from elsewhere. */
  token: string | null;
  /** When it was taken, or renewed. */
  at_ms: number;
}

/** What an accepted command did. Both doors write their answers from it. */
export type Outcome =
  | { op: "append_event"; event: EventRecord }
  | { op: "patch_blackboard"; patch: PatchRecord }
  | { op: "replace_run"; event: EventRecord }
  | { op: "put_settings"; event: EventRecord; settings: RunSettings }
  | { op: "sync_todos"; event: EventRecord }
  | {
      op: "select_next_step";
      dry_run: boolean;
      selected_step_id: string | null;
      target_status: RunStatus;
      why_next_step: string;
      /** Null in a dry run. */
      event: EventRecord | null;
    }
  | {
      op: "validate_workspace";
      mismatch: { expected_path: string; actual_path: string } | null;
      run_status: RunStatus;
      /** Null when there was nothing to record. */
      event: EventRecord | null;
    }
  | {
      op: "create_tasks";
      tasks: Task[];
      patches: PatchRecord[];
      /** Command ids whose rows were done before and are left out. */
      deduped: string[];
      /** By the strict rules: dependencies that no task had then. */
      unknown_dependency_ids?: string[];
    }
  | {
      op: "claim_task";
      /** Both null when nothing was claimed, and of a claim of several. */
      task: Task | null;
      lease: Lease | null;
      /** Of a claim of several: what it took, in order. */
      claims?: Claimed[];
      /** What was locked with the task. */
      lock?: Lock;
      /** Why nothing was claimed; null when something was. */
      reason: EmptyClaimReason | null;
      /** The locks of others that kept it from being claimed. */
      conflicts?: LockConflict[];
      run_status: RunStatus;
    }
  | {
      op: "transition_task";
      task: Task;
      /** Null for a heartbeat that is not recorded yet. */
      patch: PatchRecord | null;
      lease: Lease | null;
      /** Of a heartbeat by the strict rules: what the holder has to know. */
      standing?: { run_status: RunStatus; stop: Stop | null };
    }
  | { op: "redrive_task"; task: Task }
  /** `matched`: dead letters that the filter found, before those named were put back. */
  | { op: "redrive_tasks"; preview: boolean; matched: number; task_ids: string[] }
  | { op: "change_dependencies"; task: Task; unknown_dependency_ids: string[] }
  | { op: "cancel_task"; task: Task }
  | { op: "control_run"; event: EventRecord }
  /** `event`: applied, blocked or requested. */
  | { op: "execute_rollback"; event: EventRecord }
  | { op: "record_mutation"; event: EventRecord }
  | { op: "requeue_stale"; requeued: number }
  | ({ op: "acquire_lock" } & LockGiven)
  | ({ op: "heartbeat_lock" } & LockGiven)
  | { op: "release_lock"; lock_id: string }
  /** `early`: tasks whose clock was noted before its time; to be noted anew. */
  | { op: "settle_due"; settled: number; early: string[] }
  | { op: "record_heartbeats"; recorded: number }
  | { op: "put_artifact"; event: EventRecord; patch: PatchRecord; file: FileVersion }
  | { op: "remove_artifact"; event: EventRecord; file: FileVersion }
  /** `outcomes`: in order of the commands; `revision`: the run's after them. */
  | { op: "batch"; outcomes: Outcome[]; revision: number; dry_run: boolean };

export type OutcomeOf<Op extends CommandOp> = Extract<Outcome, { op: Op }>;

/** What the receipt of a command keeps beside its commits, because they do not tell it. */
export interface ReceiptFacts {
  deduped?: string[];
  /** Of a batch: what each of its commands did. */
  parts?: BatchPart[];
}

/** What a command of a batch did. */
export interface BatchPart extends ReceiptFacts {
  op: CommandOp;
  /** How many commits it made. */
  commits: number;
  /** Where it made none: all that came of it. It holds no token, because a lease is a commit. */
  outcome?: Outcome;
}

/** What of an outcome its commits do not tell. */
export function factsOf(outcome: Outcome): ReceiptFacts {
  return outcome.op === "create_tasks" && outcome.deduped.length > 0 ? { deduped: outcome.deduped } : {};
}

/** The same of a command of a batch. */
export function batchPart(outcome: Outcome, commits: number): BatchPart {
  return { op: outcome.op, commits, ...(commits === 0 ? { outcome } : factsOf(outcome)) };
}

/**
 * The outcome of a command that was accepted before, rebuilt from the commits it made: what `decide` answered then
 * (contract 05 §5, 07 D38, D40). Null when the commits are of another kind of command.
 */
export function recall(
  command: AnyCommand,
  commits: Commit[],
  facts: ReceiptFacts,
  context: Pick<Context, "leaseToken" | "maskToken">,
): Outcome | null {
  const first = commits[0];
  if (first === undefined) return null;
  const { event, patch } = first;
  switch (command.op) {
    case "append_event":
    case "replace_run":
    case "sync_todos":
    case "control_run":
    case "record_mutation":
      return { op: command.op, event };
    case "put_settings":
      return { op: "put_settings", event, settings: (event.payload as { settings: RunSettings }).settings };
    case "execute_rollback":
      // A request comes after the task it is about.
      return { op: "execute_rollback", event: commits.at(-1)?.event ?? event };
    case "patch_blackboard":
      return patch === null ? null : { op: "patch_blackboard", patch };
    case "select_next_step":
      return selectionRecorded(event);
    case "validate_workspace":
      return validationRecorded(event);
    case "create_tasks":
      return createdOutcome(command, commits, facts.deduped ?? []);
    case "claim_task":
      return claimedOutcome(
        command,
        commits.map((commit) => commit.event),
        context,
      );
    case "transition_task":
      return patch === null ? null : transitionedOutcome(command, event, patch, context);
    case "redrive_task":
      return { op: "redrive_task", task: taskOf(event) };
    case "redrive_tasks": {
      const task_ids = commits.map((commit) => taskOf(commit.event).id);
      const { matched } = event.payload as { matched: number };
      return { op: "redrive_tasks", preview: false, matched, task_ids };
    }
    case "change_dependencies":
      return dependenciesOutcome(event);
    case "cancel_task":
      return cancelOutcome(event);
    case "requeue_stale":
      return { op: "requeue_stale", requeued: commits.length };
    case "settle_due":
      return { op: "settle_due", settled: commits.length, early: [] };
    case "record_heartbeats":
      return { op: "record_heartbeats", recorded: commits.length };
    case "acquire_lock":
      return acquiredOutcome(event, context);
    case "heartbeat_lock":
      return renewedOutcome(command, event, context);
    case "release_lock":
      return { op: "release_lock", lock_id: command.lock_id };
    case "put_artifact":
      return patch === null ? null : { op: "put_artifact", event, patch, file: fileRecorded(event) };
    case "remove_artifact":
      return { op: "remove_artifact", event, file: fileRecorded(event) };
    case "batch":
      return recalledBatch(command, commits, facts.parts ?? [], context);
  }
}

function recalledBatch(
  { commands }: Batch,
  commits: Commit[],
  parts: BatchPart[],
  context: Pick<Context, "leaseToken" | "maskToken">,
): OutcomeOf<"batch"> | null {
  const outcomes: Outcome[] = [];
  let from = 0;
  for (const [index, part] of parts.entries()) {
    const command = commands[index];
    if (command?.op !== part.op) return null;
    const made = commits.slice(from, from + part.commits);
    from += part.commits;
    const outcome = part.outcome ?? recall(command, made, part, context);
    if (outcome === null) return null;
    outcomes.push(outcome);
  }
  const last = commits.at(-1);
  if (last === undefined || outcomes.length !== commands.length) return null;
  return { op: "batch", outcomes, revision: last.event.revision, dry_run: false };
}

/** The version that the commit of one path's change made. */
export function fileRecorded(event: EventRecord): FileVersion {
  const [file] = versionsOf(event);
  if (file === undefined) throw new Error("the event changes no path");
  return file;
}

/** The task a task commit stored. */
export function taskOf(event: EventRecord): Task {
  return (event.payload as { task: Task }).task;
}

export function createdOutcome(
  { strict }: CommandOf<"create_tasks">,
  commits: Commit[],
  deduped: string[],
): OutcomeOf<"create_tasks"> {
  const unknown = new Set(commits.flatMap((commit) => unknownDependenciesOf(commit.event)));
  return {
    op: "create_tasks",
    tasks: commits.map((commit) => taskOf(commit.event)),
    patches: commits.flatMap((commit) => commit.patch ?? []),
    deduped,
    ...(strict === true && { unknown_dependency_ids: [...unknown] }),
  };
}

/** The task with its edges as they are now. */
export function dependenciesOutcome(event: EventRecord): OutcomeOf<"change_dependencies"> {
  const unknown_dependency_ids = unknownDependenciesOf(event);
  return { op: "change_dependencies", task: taskOf(event), unknown_dependency_ids };
}

function unknownDependenciesOf(event: EventRecord): string[] {
  return (event.payload as { unknown_dependency_ids?: string[] }).unknown_dependency_ids ?? [];
}

/**
 * The claimed tasks with their tokens in clear: this answer goes to the claimer, the log keeps the fingerprints. A run that came
 * from elsewhere cannot tell the tokens that were given out there.
 */
export function claimedOutcome(
  { max }: CommandOf<"claim_task">,
  events: EventRecord[],
  context: Pick<Context, "leaseToken" | "maskToken">,
): OutcomeOf<"claim_task"> {
  const claims = events.map((event) => claimedBy(event, context));
  const [first] = claims;
  const run_status = events[0]?.run_status;
  if (first === undefined || run_status === undefined)
    throw new Error("a claim that took nothing is no commit");
  const { lock } = (events[0]?.payload ?? {}) as { lock?: Lock };
  const told = { op: "claim_task", reason: null, run_status, ...(lock !== undefined && { lock }) } as const;
  return max === undefined ? { ...told, ...first } : { ...told, task: null, lease: null, claims };
}

function claimedBy(event: EventRecord, context: Pick<Context, "leaseToken" | "maskToken">): Claimed {
  const stored = taskOf(event);
  const token = context.leaseToken(event.event_id);
  if (stored.lease_token !== context.maskToken(token)) return { task: stored, lease: null };
  const task = withToken(stored, token);
  return { task, lease: leaseOf(task, event.ts_ms) };
}

/** What a claim was given, one or several; nothing where the outcome is none of a claim. */
export function claimsOf(outcome: Outcome | null): Claimed[] {
  if (outcome?.op !== "claim_task") return [];
  const { task, lease, claims } = outcome;
  return claims ?? (task === null ? [] : [{ task, lease }]);
}

/** The answer to a claim that takes nothing. */
export function emptyClaim(
  { max }: CommandOf<"claim_task">,
  reason: EmptyClaimReason,
  run_status: RunStatus,
  conflicts?: LockConflict[],
): OutcomeOf<"claim_task"> {
  const empty = { op: "claim_task", task: null, lease: null, reason, run_status } as const;
  const told = { ...empty, ...(conflicts !== undefined && { conflicts }) };
  return max === undefined ? told : { ...told, claims: [] };
}

/** The lock that a commit gave, with its token in clear. */
export function acquiredOutcome(
  event: EventRecord,
  context: Pick<Context, "leaseToken" | "maskToken">,
): OutcomeOf<"acquire_lock"> {
  const token = context.leaseToken(event.event_id);
  return { op: "acquire_lock", ...lockGiven(event, token, context) };
}

/** The lock that a commit renewed, with the token that its holder has proven. */
export function renewedOutcome(
  { lease_token }: CommandOf<"heartbeat_lock">,
  event: EventRecord,
  context: Pick<Context, "maskToken">,
): OutcomeOf<"heartbeat_lock"> {
  return { op: "heartbeat_lock", ...lockGiven(event, lease_token, context) };
}

function lockGiven(event: EventRecord, token: string, context: Pick<Context, "maskToken">): LockGiven {
  const { lock } = event.payload as { lock: Lock };
  const isIts = lock.lease_token === context.maskToken(token);
  return { lock, token: isIts ? token : null, at_ms: event.ts_ms };
}

/** The changed task; a caller that proved the lease gets its own token back while the lease lasts. */
export function transitionedOutcome(
  command: CommandOf<"transition_task">,
  event: EventRecord,
  patch: PatchRecord,
  context: Pick<Context, "maskToken">,
): OutcomeOf<"transition_task"> {
  const stored = taskOf(event);
  const token = command.lease_token;
  const proved = token !== undefined && stored.lease_token === context.maskToken(token);
  const task = proved ? withToken(stored, token) : stored;
  const isBeat = command.strict === true && event.type === "context.task.heartbeat";
  return {
    op: "transition_task",
    task,
    patch,
    lease: proved ? leaseOf(task, event.ts_ms) : null,
    ...(isBeat && { standing: { run_status: event.run_status, stop: stopTold(event) } }),
  };
}

function stopTold(event: EventRecord): Stop | null {
  return (event.payload as { stop?: Stop }).stop ?? null;
}

/** The task, cancelled or to be. */
export function cancelOutcome(event: EventRecord): OutcomeOf<"cancel_task"> {
  return { op: "cancel_task", task: taskOf(event) };
}

/** The answer to a heartbeat that is not recorded yet: what it would have been, with the task and lease as they are recorded. */
export function heldOutcome(
  decided: OutcomeOf<"transition_task">,
  stored: Task,
  nowMs: number,
): OutcomeOf<"transition_task"> {
  const task = decided.lease === null ? stored : withToken(stored, decided.lease.token);
  return { ...decided, task, patch: null, lease: decided.lease && leaseOf(task, nowMs) };
}

export function selectionRecorded(event: EventRecord): OutcomeOf<"select_next_step"> {
  const payload = event.payload as { selected_step_id: string | null; why_next_step: string };
  return {
    op: "select_next_step",
    dry_run: false,
    selected_step_id: payload.selected_step_id,
    target_status: event.status,
    why_next_step: payload.why_next_step,
    event,
  };
}

export function validationRecorded(event: EventRecord): OutcomeOf<"validate_workspace"> {
  const { expected_path, actual_path } = event.payload as { expected_path: string; actual_path: string };
  const mismatch = event.type === "workspace_mismatch" ? { expected_path, actual_path } : null;
  return { op: "validate_workspace", mismatch, run_status: event.run_status, event };
}

function withToken(task: Task, token: string): Task {
  return { ...task, lease_token: token };
}

/** The lease of a task that has its token in clear. @param nowMs the moment that it is told for, epoch ms. */
export function leaseOf(task: Task, nowMs: number): Lease | null {
  const { lease_token, lease_owner, lease_expires_at_ms, fence } = task;
  if (lease_token === undefined || lease_expires_at_ms === undefined) return null;
  return {
    token: lease_token,
    owner: lease_owner ?? "",
    fence: fence ?? null,
    expires_at_ms: lease_expires_at_ms,
    expires_in_ms: Math.max(0, lease_expires_at_ms - nowMs),
  };
}
