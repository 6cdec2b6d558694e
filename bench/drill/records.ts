import { asObject, type JsonObject, listAt, numberAt, objectAt, stringAt } from "./fields.ts";

/*
 * What the audit goes by: the server's log and views, cut down to what the checks need, and the agents' own records. The
 * readers never throw: what is missing or of another type becomes blank, 0 or undefined, and then fails a check.
 */

/** A task as the audit needs it, from an event, from the task list or from a replayed view. */
export interface AuditTask {
  readonly id: string;
  readonly status: string;
  readonly task_type: string;
  readonly priority: number;
  readonly task_rev: number;
  readonly depends_on_task_ids: readonly string[];
  readonly parent_task_id: string | undefined;
  readonly assigned_agent: string | undefined;
  readonly lease_owner: string | undefined;
  /** In the log and in lists always a fingerprint of the token. */
  readonly lease_token: string | undefined;
  readonly lease_expires_at_ms: number | undefined;
  /** Of the claim that its lease is of. */
  readonly fence: number | undefined;
  readonly attempt: number;
  readonly max_attempts: number;
  /** Whether the cap on attempts is in force. */
  readonly has_policy: boolean;
  readonly next_retry_at_ms: number | undefined;
  readonly dead_letter: boolean;
  /** Why it ended without being done. */
  readonly cause: string | undefined;
  /** Attempts that did not complete it, as `fence outcome`, oldest first. */
  readonly attempts: readonly string[];
  /** Of those with the same key only so many are given out at once. */
  readonly concurrency_key: string | undefined;
  readonly clocks: AuditClocks;
}

/** How long a task may take, in milliseconds; what is absent has no end. */
export interface AuditClocks {
  readonly start_within_ms?: number;
  readonly run_within_ms?: number;
  readonly silent_within_ms?: number;
  readonly finish_within_ms?: number;
}

/** What a lock is on. */
export interface Resource {
  readonly name: string;
  readonly mode: "shared" | "exclusive";
}

export interface AuditLock {
  readonly lock_id: string;
  readonly agent: string;
  readonly fence: number;
  readonly resources: readonly Resource[];
  readonly expires_at_ms: number;
  /** The task it was taken with. */
  readonly task_id: string | undefined;
}

export interface AuditEvent {
  readonly seq: number;
  readonly ts_ms: number;
  readonly type: string;
  readonly revision: number;
  readonly task_id: string | undefined;
  readonly command_id: string | undefined;
  /** `payload.task` of a task event. */
  readonly task: AuditTask | undefined;
  /** `payload.payload.id` of a blackboard event: the id of the fact it added. */
  readonly fact_id: string | undefined;
  /** `payload.drill_marker` of an event the drill appended itself. */
  readonly marker: string | undefined;
  /** The lease that it was written under. */
  readonly under: { readonly task_id: string; readonly fence: number } | undefined;
  /** Why the engine did it by itself: `payload.reason`. */
  readonly reason: string | undefined;
  /** That was taken or renewed. */
  readonly lock: AuditLock | undefined;
  /** Locks that ended. */
  readonly lock_ids: readonly string[];
}

export interface AuditPatch {
  readonly seq: number;
  readonly source_event_seq: number | undefined;
}

/** What one answer said had changed. Only members the answer had. */
export interface Effect {
  readonly task_id?: string;
  readonly task_rev?: number;
  readonly status?: string;
  /** The token itself, as only the claimer gets it. */
  readonly lease_token?: string;
  /** Epoch milliseconds. */
  readonly lease_expires_at_ms?: number;
  /** The number of the claim, as its lease tells it. */
  readonly fence?: number;
  readonly seq?: number;
  /** The id of the run, or ids and revisions of the tasks, that were created. */
  readonly created?: string;
  /** Whether the task's attempts are capped. */
  readonly has_policy?: boolean;
  /** Why the holder shall stop, as a heartbeat's answer says. */
  readonly stop?: string;
  /** Who had the task before, as `fence outcome`, oldest first; of a claim. */
  readonly handover?: readonly string[];
  /** Of a claim of several tasks, or of several commands: what each came to. */
  readonly parts?: readonly Effect[];
  /** Tasks that were put back on the board. */
  readonly redriven?: readonly string[];
  /** Who has the task that was read. */
  readonly holder?: { readonly agent: string; readonly fence: number };
  /** The lock that was taken, by itself or with a task, renewed or released. */
  readonly lock_id?: string;
}

export interface CommandAnswer {
  readonly status: number;
  /** The `code` of a refusal. */
  readonly code: string | undefined;
  /** Whether the answer said it was a repeat's (`Idempotency-Replayed`). */
  readonly replayed: boolean;
  /** Null for a claim that found nothing; undefined for a refusal. */
  readonly effect: Effect | null | undefined;
  /** Which of several commands was refused. */
  readonly refused_part?: number;
  /** Whom a refusal named as the holder; null for nobody, undefined where it has no word of it. */
  readonly holder?: { readonly agent: string; readonly fence: number } | null;
  /** Whose locks kept it from being done. */
  readonly conflicts?: readonly LockHolder[];
  /** What was left of the lease, in milliseconds, as the answer has it. */
  readonly term_ms?: number;
  /** When it was read, by the drill's clock, in milliseconds. */
  readonly answered_ms: number;
}

/** Who has a resource, as an answer names it. */
export interface LockHolder {
  readonly resource: string;
  /** How it has it. */
  readonly mode: Resource["mode"];
  readonly agent: string;
  readonly fence: number;
}

/** How often and in which way a command was sent. */
export type Delivery =
  | "once"
  /** Two requests at the same time. */
  | "twice"
  /** The answer was read and thrown away, then the command was sent again. */
  | "repeated"
  /** The connection was cut before the answer came, then the command was sent again. */
  | "cut"
  /** The connection was cut, and who had sent the command crashed: it was never sent again. */
  | "lost";

export type CommandKind =
  | "run"
  | "create"
  | "event"
  | "fact"
  | "claim"
  | "heartbeat"
  | "complete"
  | "fail"
  | "release"
  /** Several of these at once, all or none. */
  | "batch"
  | "redrive"
  | "cancel"
  | "pause"
  | "resume"
  | "checkpoint"
  | "lock"
  | "renew"
  | "unlock"
  /** One task was read. It changes nothing, and is here for its answer. */
  | "read";

/** One command of several. */
export interface CommandPart {
  readonly kind: "fact" | "complete";
  readonly task_id: string;
  readonly fence: number;
  readonly mark?: string;
}

/** An agent's own record of one command: what it asked, and all answers it was given, in the order they came. */
export interface CommandRecord {
  readonly command_id: string;
  readonly kind: CommandKind;
  readonly delivery: Delivery;
  readonly task_id?: string;
  /** The fence of the lease, or lock, under which it was sent. */
  readonly fence?: number;
  /** What the lock is on that is asked for, or that it is about. */
  readonly resources?: readonly Resource[];
  /** The lock that it is about: of `renew` and `unlock`. */
  readonly lock_id?: string;
  /** Of a batch. */
  readonly parts?: readonly CommandPart[];
  /** How long holders may go on after a request to stop, in milliseconds. */
  readonly grace_ms?: number;
  /** Who claims, under the name of this life. */
  readonly agent?: string;
  /** When it was first sent, by the drill's clock, in milliseconds. */
  readonly sent_ms: number;
  /** When the claim of that lease was first sent: the lease is no older, whatever the server's clock says. */
  readonly claimed_ms?: number;
  /** The fact's id, or the event's marker. */
  readonly mark?: string;
  /** How often it was sent without being answered: each of these requests may be worked at any later time, or never. */
  readonly missed: number;
  readonly answers: readonly CommandAnswer[];
}

/** The members a run and its directory row have in common. */
export interface RunView {
  readonly run_id: string;
  readonly run_type: string;
  readonly status: string;
  readonly objective: string;
  readonly source_client: string | undefined;
  readonly workspace: string;
  readonly revision: number;
  readonly last_event_seq: number;
  readonly created_at_ms: number;
  readonly updated_at_ms: number;
  readonly task_counts: Readonly<Record<string, number>>;
}

export interface ReplayView {
  readonly from_checkpoint: boolean;
  readonly checkpoint_seq: number;
  readonly events_applied: number;
  readonly patches_applied: number;
  /** The names of all drift flags that were set. */
  readonly drift: readonly string[];
}

/** A task of any view. */
export function toAuditTask(value: unknown): AuditTask {
  return {
    id: stringAt(value, "id") ?? "",
    status: stringAt(value, "status") ?? "",
    task_type: stringAt(value, "task_type") ?? "",
    priority: numberAt(value, "priority") ?? 0,
    task_rev: numberAt(value, "task_rev") ?? 0,
    depends_on_task_ids: listAt(value, "depends_on_task_ids").map(String),
    parent_task_id: stringAt(value, "parent_task_id"),
    assigned_agent: stringAt(value, "assigned_agent"),
    lease_owner: stringAt(value, "lease_owner"),
    lease_token: stringAt(value, "lease_token"),
    lease_expires_at_ms: numberAt(value, "lease_expires_at_ms"),
    fence: numberAt(value, "fence"),
    attempt: numberAt(value, "attempt") ?? 0,
    max_attempts: numberAt(value, "max_attempts") ?? 0,
    has_policy: objectAt(value, "retry") !== undefined,
    next_retry_at_ms: numberAt(value, "next_retry_at_ms"),
    dead_letter: asObject(value)?.dead_letter === true,
    cause: stringAt(objectAt(value, "failure"), "cause"),
    attempts: toAttempts(asObject(value)?.attempts),
    concurrency_key: stringAt(value, "concurrency_key"),
    clocks: toClocks(objectAt(value, "clocks")),
  };
}

function toClocks(clocks: JsonObject | undefined): AuditClocks {
  return Object.fromEntries(Object.entries(clocks ?? {}).filter(([, ms]) => typeof ms === "number"));
}

function toLock(lock: JsonObject | undefined): AuditLock | undefined {
  if (lock === undefined) return undefined;
  return {
    lock_id: stringAt(lock, "lock_id") ?? "",
    agent: stringAt(lock, "agent_id") ?? "",
    fence: numberAt(lock, "fence") ?? 0,
    resources: listAt(lock, "resources").map((one) => ({
      name: stringAt(one, "name") ?? "",
      mode: stringAt(one, "mode") === "shared" ? "shared" : "exclusive",
    })),
    expires_at_ms: numberAt(lock, "expires_at_ms") ?? 0,
    task_id: stringAt(lock, "task_id"),
  };
}

/** Attempts of a task, or those that a claim's answer hands over, as `fence outcome`. */
export function toAttempts(value: unknown): string[] {
  if (!Array.isArray(value)) return [];
  return value.map((attempt) => `${numberAt(attempt, "fence")} ${stringAt(attempt, "outcome")}`);
}

/** Keeps of an event what the checks need: whole events of a large plan would fill the memory. */
export function toAuditEvent(value: unknown): AuditEvent {
  const payload = objectAt(value, "payload");
  const task = objectAt(payload, "task");
  return {
    seq: numberAt(value, "seq") ?? 0,
    ts_ms: numberAt(value, "ts_ms") ?? 0,
    type: stringAt(value, "type") ?? "",
    revision: numberAt(value, "revision") ?? 0,
    task_id: stringAt(value, "task_id"),
    command_id: stringAt(value, "command_id"),
    task: task === undefined ? undefined : toAuditTask(task),
    fact_id:
      stringAt(payload, "op") === "add_fact" ? stringAt(objectAt(payload, "payload"), "id") : undefined,
    marker: stringAt(payload, "drill_marker"),
    under: toUnder(objectAt(value, "under")),
    reason: stringAt(payload, "reason"),
    lock: toLock(objectAt(payload, "lock")),
    lock_ids: listAt(payload, "lock_ids").map(String),
  };
}

function toUnder(under: JsonObject | undefined): AuditEvent["under"] {
  if (under === undefined) return undefined;
  return { task_id: stringAt(under, "task_id") ?? "", fence: numberAt(under, "fence") ?? 0 };
}

/** Keeps of a patch what the checks need. */
export function toAuditPatch(value: unknown): AuditPatch {
  return {
    seq: numberAt(value, "seq") ?? 0,
    source_event_seq: numberAt(value, "source_event_seq"),
  };
}

/** A run, as `GET /v1/runs/{id}` or the list of runs shows it. */
export function toRunView(value: unknown): RunView {
  const workspace = asObject(value)?.workspace;
  const counts = Object.entries(objectAt(value, "task_counts") ?? {});
  return {
    run_id: stringAt(value, "run_id") ?? "",
    run_type: stringAt(value, "run_type") ?? "",
    status: stringAt(value, "status") ?? "",
    objective: stringAt(value, "objective") ?? "",
    source_client: stringAt(value, "source_client"),
    workspace: typeof workspace === "string" ? workspace : (stringAt(workspace, "canonical_path") ?? ""),
    revision: numberAt(value, "revision") ?? 0,
    last_event_seq: numberAt(value, "last_event_seq") ?? 0,
    created_at_ms: numberAt(value, "created_at_ms") ?? 0,
    updated_at_ms: numberAt(value, "updated_at_ms") ?? 0,
    // A status no task has may be absent or 0.
    task_counts: Object.fromEntries(
      counts.map(([name, count]) => [name, Number(count)] as const).filter(([, count]) => count !== 0),
    ),
  };
}

/** The answer of `GET /v1/runs/{id}/replay`. */
export function toReplayView(value: unknown): ReplayView {
  const drift = objectAt(value, "drift");
  return {
    from_checkpoint: asObject(value)?.from_checkpoint === true,
    checkpoint_seq: numberAt(value, "checkpoint_seq") ?? 0,
    events_applied: numberAt(value, "events_applied") ?? -1,
    patches_applied: numberAt(value, "blackboard_patches_applied") ?? -1,
    // `compared: false` would make every other flag worthless, so it counts as drift too.
    drift:
      drift === undefined
        ? ["no drift report"]
        : Object.keys(drift).filter((name) =>
            name === "compared" ? drift[name] !== true : drift[name] !== false,
          ),
  };
}
