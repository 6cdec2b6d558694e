import type { AuditInput } from "./audit.ts";
import type { AuditEvent, AuditTask } from "./records.ts";
import type { Flag, Place } from "./violation.ts";

/** How a lease ended, told by the log alone. `timed_out`: a clock of its task ended it. */
export type LeaseEnd =
  | "open"
  | "completed"
  | "failed"
  | "released"
  | "expired"
  | "timed_out"
  | "revoked"
  | "cancelled";

interface TaskHistory {
  task: AuditTask;
  completions: number;
  done: boolean;
  lease: { fence: number; owner: string; token: string; expiresAtMs: number } | undefined;
  /** Of the last claim; 0 before the first. */
  lastFence: number;
  /** Attempts that did not complete the task, as `fence outcome`. */
  attempts: string[];
}

/** What the log tells about tasks, leases and commands. */
export interface History {
  readonly tasks: ReadonlyMap<string, TaskHistory>;
  /** By the fence of the lease. */
  readonly leaseEnds: ReadonlyMap<number, LeaseEnd>;
  /** By fence: the attempts before that claim. */
  readonly attemptsBefore: ReadonlyMap<number, readonly string[]>;
  /** How many writes were made under a lease, besides transitions. */
  readonly writes: number;
  /** How many tasks came to be dead letters, and how often. */
  readonly deadLetters: number;
  readonly eventsByCommand: ReadonlyMap<string, readonly AuditEvent[]>;
  /** How long after the end of its lease each task was given free, in milliseconds. */
  readonly requeueDelaysMs: readonly number[];
}

/** The log by itself: numbered without a gap, in order of time, each change with its patch. */
export function checkSequence({ events, patches }: AuditInput, flag: Flag): void {
  let previousTs = 0;
  for (const [index, { seq, revision, ts_ms }] of events.entries()) {
    if (seq !== index + 1) {
      flag("sequence", "seq_gap", `event ${index + 1} of the log has seq ${seq}`, { seq });
      // Every later event would be flagged for the same gap.
      break;
    }
    if (revision !== seq + 1)
      flag("sequence", "revision_gap", `seq ${seq} has revision ${revision}`, { seq });
    if (ts_ms < previousTs) {
      flag("sequence", "time_went_back", `seq ${seq} is ${previousTs - ts_ms} ms before the one before it`, {
        seq,
      });
    }
    previousTs = Math.max(previousTs, ts_ms);
  }

  const patchSeqs = new Set<number>();
  let previousSeq = 0;
  for (const { seq, source_event_seq } of patches) {
    if (seq <= previousSeq)
      flag("sequence", "patch_order", `patch ${seq} comes after patch ${previousSeq}`, { seq });
    if (source_event_seq !== seq) {
      flag("sequence", "patch_source", `patch ${seq} names event ${source_event_seq} as its source`, { seq });
    }
    previousSeq = seq;
    patchSeqs.add(seq);
  }
  for (const { seq, type } of events) {
    const expected = type.startsWith("context.task.") || type === "context.blackboard.patched";
    if (patchSeqs.delete(seq) !== expected) {
      flag(
        "sequence",
        "patch_pairing",
        `${type} at seq ${seq} ${expected ? "has no" : "must not have a"} patch`,
        { seq },
      );
    }
  }
  for (const seq of patchSeqs) flag("sequence", "patch_pairing", `patch ${seq} belongs to no event`, { seq });
}

/** Walks the log once and applies the rules that depend on what came before. */
export function readHistory({ plan, events }: AuditInput, flag: Flag): History {
  const planned = new Map(plan.map((task) => [task.id, task]));
  const walk: Walk = {
    flag,
    tasks: new Map(),
    leaseEnds: new Map(),
    attemptsBefore: new Map(),
    requeueDelaysMs: [],
    isPaused: false,
    deadLetters: 0,
  };
  const eventsByCommand = new Map<string, AuditEvent[]>();
  let writes = 0;

  for (const event of events) {
    const { seq, type, command_id, under } = event;
    if (command_id !== undefined) {
      const others = eventsByCommand.get(command_id);
      if (others === undefined) eventsByCommand.set(command_id, [event]);
      else others.push(event);
    }
    if (under !== undefined) {
      if (!type.startsWith("context.task.")) writes += 1;
      checkUnder(event, under, walk);
    }
    if (!type.startsWith("context.task.")) {
      followRun(event, walk);
      continue;
    }
    const task = event.task;
    const planTask = planned.get(task?.id ?? "");
    if (task === undefined || planTask === undefined || task.id !== event.task_id) {
      const detail = `${type} at seq ${seq} is about ${event.task_id}, which the drill did not create`;
      flag("views", "task_unknown", detail, { seq });
      continue;
    }
    const state = walk.tasks.get(task.id);
    if (type === "context.task.created") {
      if (state !== undefined)
        flag("done_once", "created_twice", `${task.id} was created again`, { seq, task_id: task.id });
      walk.tasks.set(task.id, {
        task,
        completions: state?.completions ?? 0,
        done: task.status === "done",
        lease: undefined,
        lastFence: 0,
        attempts: [],
      });
      continue;
    }
    if (state === undefined) {
      flag("done_once", "never_created", `${type} for ${task.id} before it was created`, {
        seq,
        task_id: task.id,
      });
      continue;
    }
    if (task.task_rev !== state.task.task_rev + 1) {
      const detail = `${type} took ${task.id} from revision ${state.task.task_rev} to ${task.task_rev}`;
      flag("sequence", "task_rev_gap", detail, { seq, task_id: task.id });
    }
    followTask(event, task, state, walk);
    if (type === "context.task.claimed" || type === "context.task.completed") {
      const open = planTask.depends_on_task_ids.filter((id) => walk.tasks.get(id)?.done !== true);
      if (open.length > 0) {
        const rule = type === "context.task.claimed" ? "claimed_early" : "completed_early";
        const detail = `${task.id} was ${type.slice("context.task.".length)} while ${open.join(", ")} was open`;
        flag("dependencies", rule, detail, { seq, task_id: task.id });
      }
    }
    checkRetries(event, task, state, walk);
    state.task = task;
  }
  return { ...walk, eventsByCommand, writes };
}

/** What is known in the middle of the log. */
interface Walk {
  readonly flag: Flag;
  readonly tasks: Map<string, TaskHistory>;
  readonly leaseEnds: Map<number, LeaseEnd>;
  readonly attemptsBefore: Map<number, readonly string[]>;
  readonly requeueDelaysMs: number[];
  isPaused: boolean;
  deadLetters: number;
}

/** What was written under a lease was written while it was the task's, and had not run out. */
function checkUnder(event: AuditEvent, under: NonNullable<AuditEvent["under"]>, walk: Walk): void {
  const { seq, ts_ms, type } = event;
  const { task_id, fence } = under;
  const at: Place = { seq, task_id };
  const held = walk.tasks.get(task_id)?.lease;
  if (held?.fence !== fence) {
    const detail = `${type} was written under fence ${fence} of ${task_id}, which has ${held?.fence ?? "none"}`;
    walk.flag("fences", "stale_write", detail, at);
  } else if (held.expiresAtMs <= ts_ms) {
    const detail = `${type} was written ${ts_ms - held.expiresAtMs} ms after fence ${fence} of ${task_id} ran out`;
    walk.flag("fences", "late_write", detail, at);
  }
}

/** Events that are about no task: those of the drill itself, facts, and locks, which have a walk of their own. */
function followRun({ seq, type, marker, fact_id, under }: AuditEvent, walk: Walk): void {
  if (type === "run_paused" || type === "run_resumed") walk.isPaused = type === "run_paused";
  else if (type === "context.blackboard.patched") {
    if (fact_id !== undefined && under === undefined) {
      walk.flag("fences", "write_without_lease", `${fact_id} names no lease`, { seq });
    }
  } else if (marker === undefined && !type.startsWith("context.lock.")) {
    walk.flag("commands", "event_unexpected", `${type} at seq ${seq} was not asked for by the drill`, {
      seq,
    });
  }
}

/** Applies one event to what is known of its task. `state.task` is still the task before the event. */
function followTask(event: AuditEvent, task: AuditTask, state: TaskHistory, walk: Walk): void {
  const { seq, type, reason } = event;
  const { flag, leaseEnds } = walk;
  const at: Place = { seq, task_id: task.id };
  const held = state.lease;
  const end = (how: LeaseEnd, outcome?: string): void => {
    if (held !== undefined) {
      leaseEnds.set(held.fence, how);
      if (outcome !== undefined) state.attempts.push(`${held.fence} ${outcome}`);
    }
    state.lease = undefined;
  };
  const verb = type.slice("context.task.".length);

  switch (verb) {
    case "claimed":
      followClaim(event, task, state, walk);
      break;
    case "heartbeat":
      if (held === undefined || held.owner !== task.lease_owner || held.token !== task.lease_token) {
        const detail = `${task.lease_owner} extended a lease on ${task.id} that ${held?.owner ?? "nobody"} held`;
        flag("leases", "foreign_heartbeat", detail, at);
      } else {
        held.expiresAtMs = task.lease_expires_at_ms ?? 0;
      }
      break;
    case "cancel_requested":
      if (held === undefined) flag("stops", "stopped_nobody", `nobody held ${task.id}, and was to stop`, at);
      break;
    case "completed":
      state.completions += 1;
      if (held === undefined || held.owner !== task.assigned_agent) {
        const detail = `${task.assigned_agent} completed ${task.id} while ${held?.owner ?? "nobody"} held it`;
        flag("leases", "foreign_completion", detail, at);
      }
      state.done = true;
      end("completed");
      break;
    case "redriven":
      if (!state.task.dead_letter || task.dead_letter || task.attempt !== 0) {
        flag("retries", "redriven_oddly", `${task.id} was redriven, and was no dead letter, or still is`, at);
      }
      break;
    case "stale_requeued":
    case "requeued":
    case "failed": {
      const outcome = outcomeOf(event, task);
      // What nobody holds has no attempt that could have ended.
      if (held === undefined && endsUnheld(reason)) break;
      if (outcome === "lease_expired") followExpiry(event, task, held, walk);
      else if (held === undefined) {
        flag("leases", "ended_unleased", `${task.id} was ${verb} while nobody held it`, at);
      }
      end(leaseEndOf(outcome), held === undefined ? undefined : outcome);
      break;
    }
    default:
      flag("commands", "event_unexpected", `${type} at seq ${seq} was not asked for by the drill`, at);
      if (task.lease_token === undefined) end("expired");
  }
}

function followClaim({ seq, ts_ms }: AuditEvent, task: AuditTask, state: TaskHistory, walk: Walk): void {
  const { flag } = walk;
  const at: Place = { seq, task_id: task.id };
  const held = state.lease;
  const fence = task.fence ?? 0;
  if (held !== undefined) {
    const detail = `${task.id} was claimed by ${task.lease_owner} while ${held.owner} held it until ${held.expiresAtMs}`;
    flag("leases", "two_leases", detail, at);
  }
  if (state.done) flag("done_once", "claimed_after_done", `${task.id} was claimed though it was done`, at);
  if (fence !== seq || fence <= state.lastFence) {
    const detail = `${task.id} was claimed at seq ${seq} with fence ${fence} after ${state.lastFence}`;
    flag("fences", "fence_not_larger", detail, at);
  }
  if (walk.isPaused)
    flag("stops", "claimed_while_paused", `${task.id} was claimed while the run was paused`, at);
  const retryMs = state.task.next_retry_at_ms ?? 0;
  if (retryMs > ts_ms) {
    flag("retries", "claimed_too_soon", `${task.id} was claimed ${retryMs - ts_ms} ms before its retry`, at);
  }
  if (task.lease_expires_at_ms === undefined || task.lease_expires_at_ms <= ts_ms) {
    const detail = `the lease on ${task.id} expires at ${task.lease_expires_at_ms}`;
    flag("leases", "lease_without_term", detail, at);
  }
  state.lease = {
    fence,
    owner: task.lease_owner ?? "",
    token: task.lease_token ?? "",
    expiresAtMs: task.lease_expires_at_ms ?? 0,
  };
  state.lastFence = fence;
  walk.attemptsBefore.set(fence, [...state.attempts]);
  walk.leaseEnds.set(fence, "open");
}

function followExpiry(event: AuditEvent, task: AuditTask, held: TaskHistory["lease"], walk: Walk): void {
  const { seq, ts_ms } = event;
  const at: Place = { seq, task_id: task.id };
  if (held === undefined) {
    walk.flag("leases", "requeued_unleased", `${task.id} was requeued without a lease`, at);
    return;
  }
  walk.requeueDelaysMs.push(ts_ms - held.expiresAtMs);
  if (ts_ms < held.expiresAtMs) {
    const detail = `${task.id} was requeued ${held.expiresAtMs - ts_ms} ms before its lease ran out`;
    walk.flag("leases", "requeued_early", detail, at);
  }
}

/** Reasons to end a task that nobody holds. */
function endsUnheld(reason: string | undefined): boolean {
  return reason === "cancelled" || reason === "start_deadline" || reason === "total_deadline";
}

/** How an attempt ended: as the last of the task's attempts says, which is the one that this event wrote. */
function outcomeOf({ type }: AuditEvent, task: AuditTask): string {
  if (type === "context.task.stale_requeued") return "lease_expired";
  return task.attempts.at(-1)?.split(" ")[1] ?? "unknown";
}

function leaseEndOf(outcome: string): LeaseEnd {
  switch (outcome) {
    case "failed":
    case "released":
    case "revoked":
    case "cancelled":
      return outcome;
    case "run_time_exceeded":
    case "silent":
    case "deadline":
      return "timed_out";
    default:
      return "expired";
  }
}

/** Attempts do not exceed their cap, and what ends there says why. */
function checkRetries({ seq, type }: AuditEvent, task: AuditTask, state: TaskHistory, walk: Walk): void {
  const at: Place = { seq, task_id: task.id };
  if (task.has_policy && task.attempt > task.max_attempts) {
    const detail = `${task.id} is at attempt ${task.attempt} of ${task.max_attempts}`;
    walk.flag("retries", "too_many_attempts", detail, at);
  }
  if (task.dead_letter) {
    walk.deadLetters += 1;
    if (task.status !== "failed" || !isExplained(task)) {
      const detail = `${task.id} is a dead letter after ${task.attempt} attempts, because of ${task.cause}`;
      walk.flag("retries", "letter_unexplained", detail, at);
    }
  }
  const counted = countAfter(type, state.task, task);
  if (task.attempt !== counted) {
    const detail = `${type} took ${task.id} from attempt ${state.task.attempt} to ${task.attempt}, not to ${counted}`;
    walk.flag("retries", "attempt_miscounted", detail, at);
  }
  const kept = state.attempts.slice(-keptAttempts).join(", ");
  if (task.attempts.join(", ") !== kept) {
    const detail = `${task.id} tells of the attempts ${task.attempts.join(", ") || "none"}, not ${kept || "none"}`;
    walk.flag("retries", "attempts_unlike_log", detail, at);
  }
}

/** How many attempts count after an event: one more where it ended one by a failure, a crash under a policy, or a time limit. */
function countAfter(type: string, before: AuditTask, after: AuditTask): number {
  if (type === "context.task.redriven") return 0;
  const ended = after.attempts.at(-1);
  if (ended === undefined || ended === before.attempts.at(-1) || after.cause === "cancelled") {
    return before.attempt;
  }
  const outcome = ended.split(" ")[1] ?? "";
  const isCounted = countedOutcomes.has(outcome) || (outcome === "lease_expired" && after.has_policy);
  return before.attempt + (isCounted ? 1 : 0);
}

const countedOutcomes: ReadonlySet<string> = new Set(["failed", "run_time_exceeded", "silent"]);

/** Whether a dead letter has a cause that makes one of it. */
function isExplained({ cause, attempt, max_attempts, has_policy, clocks }: AuditTask): boolean {
  switch (cause) {
    case "not_retryable":
      return has_policy;
    case "attempts_exhausted":
      return has_policy && attempt >= max_attempts;
    case "start_deadline":
      return clocks.start_within_ms !== undefined;
    case "total_deadline":
      return clocks.finish_within_ms !== undefined;
    default:
      return false;
  }
}

/** How many attempts a task tells of. */
export const keptAttempts = 10;

/** Every task of the plan is in the log, and was completed as often as there was need. */
export function checkDoneOnce({ plan, extras }: AuditInput, history: History, flag: Flag): void {
  const isExtra = new Set(extras);
  for (const { id, status } of plan) {
    const state = history.tasks.get(id);
    if (state === undefined) {
      flag("done_once", "never_created", `${id} is not in the log`, { task_id: id });
      continue;
    }
    if (isExtra.has(id)) {
      checkCancelled(id, state, flag);
      continue;
    }
    const expected = status === "done" ? 0 : 1;
    if (state.completions !== expected) {
      const rule = state.completions > expected ? "done_twice" : "not_done";
      const detail = `${id} was completed ${state.completions} times instead of ${expected}`;
      flag("done_once", rule, detail, { task_id: id });
    }
    if (state.task.status !== "done") {
      flag("done_once", "not_done", `${id} ended as ${state.task.status}`, { task_id: id });
    }
  }
}

/** A task that the drill cancelled is done once, or cancelled. */
function checkCancelled(id: string, { task, completions }: TaskHistory, flag: Flag): void {
  const isCancelled = task.status === "failed" && task.cause === "cancelled" && !task.dead_letter;
  if (completions === (task.status === "done" ? 1 : 0) && (task.status === "done" || isCancelled)) return;
  const how = `${task.status}${task.cause === undefined ? "" : ` (${task.cause})`}`;
  flag("stops", "not_cancelled", `${id} was cancelled, completed ${completions} times and ended as ${how}`, {
    task_id: id,
  });
}
