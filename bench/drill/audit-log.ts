import type { AuditInput } from "./audit.ts";
import type { AuditEvent, AuditTask } from "./records.ts";
import type { Flag, Place } from "./violation.ts";

/** How a lease ended, told by the log alone. */
type LeaseEnd = "open" | "expired" | "completed";

interface TaskHistory {
  task: AuditTask;
  completions: number;
  done: boolean;
  lease: { claimId: string; owner: string; token: string; expiresAtMs: number } | undefined;
}

/** What the log tells about tasks, leases and commands. */
export interface History {
  readonly tasks: ReadonlyMap<string, TaskHistory>;
  /** By the command id of the claim that opened the lease. */
  readonly leaseEnds: ReadonlyMap<string, LeaseEnd>;
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
  const tasks = new Map<string, TaskHistory>();
  const leaseEnds = new Map<string, LeaseEnd>();
  const eventsByCommand = new Map<string, AuditEvent[]>();
  const requeueDelaysMs: number[] = [];

  for (const event of events) {
    const { seq, type, command_id } = event;
    if (command_id !== undefined) {
      const others = eventsByCommand.get(command_id);
      if (others === undefined) eventsByCommand.set(command_id, [event]);
      else others.push(event);
    }
    if (!type.startsWith("context.task.")) {
      if (type !== "context.blackboard.patched" && event.marker === undefined) {
        flag("commands", "event_unexpected", `${type} at seq ${seq} was not asked for by the drill`, { seq });
      }
      continue;
    }
    const task = event.task;
    const planTask = planned.get(task?.id ?? "");
    if (task === undefined || planTask === undefined || task.id !== event.task_id) {
      const detail = `${type} at seq ${seq} is about ${event.task_id}, which the drill did not create`;
      flag("views", "task_unknown", detail, { seq });
      continue;
    }
    const state = tasks.get(task.id);
    if (type === "context.task.created") {
      if (state !== undefined)
        flag("done_once", "created_twice", `${task.id} was created again`, { seq, task_id: task.id });
      tasks.set(task.id, {
        task,
        completions: state?.completions ?? 0,
        done: task.status === "done",
        lease: undefined,
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
    if (type === "context.task.stale_requeued" && state.lease !== undefined) {
      requeueDelaysMs.push(event.ts_ms - state.lease.expiresAtMs);
    }
    followTask(event, task, state, leaseEnds, flag);
    if (type === "context.task.claimed" || type === "context.task.completed") {
      const open = planTask.depends_on_task_ids.filter((id) => tasks.get(id)?.done !== true);
      if (open.length > 0) {
        const rule = type === "context.task.claimed" ? "claimed_early" : "completed_early";
        const detail = `${task.id} was ${type.slice("context.task.".length)} while ${open.join(", ")} was open`;
        flag("dependencies", rule, detail, { seq, task_id: task.id });
      }
    }
    state.task = task;
  }
  return { tasks, leaseEnds, eventsByCommand, requeueDelaysMs };
}

/** Applies one event to what is known of its task. `state.task` is still the task before the event. */
function followTask(
  event: AuditEvent,
  task: AuditTask,
  state: TaskHistory,
  leaseEnds: Map<string, LeaseEnd>,
  flag: Flag,
): void {
  const { seq, type, ts_ms } = event;
  const at: Place = { seq, task_id: task.id };
  const held = state.lease;
  const end = (how: LeaseEnd): void => {
    if (held !== undefined) leaseEnds.set(held.claimId, how);
    state.lease = undefined;
  };

  switch (type) {
    case "context.task.claimed": {
      if (held !== undefined) {
        const detail = `${task.id} was claimed by ${task.lease_owner} while ${held.owner} held it until ${held.expiresAtMs}`;
        flag("leases", "two_leases", detail, at);
      }
      if (state.done)
        flag("done_once", "claimed_after_done", `${task.id} was claimed though it was done`, at);
      const claimId = event.command_id ?? `seq ${seq}`;
      state.lease = {
        claimId,
        owner: task.lease_owner ?? "",
        token: task.lease_token ?? "",
        expiresAtMs: task.lease_expires_at_ms ?? 0,
      };
      leaseEnds.set(claimId, "open");
      if (task.lease_expires_at_ms === undefined || task.lease_expires_at_ms <= ts_ms) {
        flag(
          "leases",
          "lease_without_term",
          `the lease on ${task.id} expires at ${task.lease_expires_at_ms}`,
          at,
        );
      }
      break;
    }
    case "context.task.heartbeat":
      if (held === undefined || held.owner !== task.lease_owner || held.token !== task.lease_token) {
        const detail = `${task.lease_owner} extended a lease on ${task.id} that ${held?.owner ?? "nobody"} held`;
        flag("leases", "foreign_heartbeat", detail, at);
      } else {
        held.expiresAtMs = task.lease_expires_at_ms ?? 0;
      }
      break;
    case "context.task.stale_requeued":
      if (held === undefined) {
        flag("leases", "requeued_unleased", `${task.id} was requeued without a lease`, at);
      } else if (ts_ms < held.expiresAtMs) {
        const detail = `${task.id} was requeued ${held.expiresAtMs - ts_ms} ms before its lease ran out`;
        flag("leases", "requeued_early", detail, at);
      }
      end("expired");
      break;
    case "context.task.completed":
      state.completions += 1;
      if (held === undefined || held.owner !== task.assigned_agent) {
        const detail = `${task.assigned_agent} completed ${task.id} while ${held?.owner ?? "nobody"} held it`;
        flag("leases", "foreign_completion", detail, at);
      }
      state.done = true;
      end("completed");
      break;
    default:
      flag("commands", "event_unexpected", `${type} at seq ${seq} was not asked for by the drill`, at);
      if (task.lease_token === undefined) end("expired");
  }
}

/** Every task of the plan is in the log, and was completed as often as there was need. */
export function checkDoneOnce({ plan }: AuditInput, history: History, flag: Flag): void {
  for (const { id, status } of plan) {
    const state = history.tasks.get(id);
    if (state === undefined) {
      flag("done_once", "never_created", `${id} is not in the log`, { task_id: id });
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
