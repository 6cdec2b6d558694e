import type { PatchOp } from "../protocol/blackboard.ts";
import type { EventRecord } from "../protocol/event.ts";
import type { RunStatus } from "../protocol/status.ts";
import type { Task } from "../protocol/task.ts";
import type { Commit } from "./commit.ts";
import { evolve } from "./evolve.ts";
import type { RunHead } from "./head.ts";
import type { Under } from "./lease-proof.ts";
import type { Allowance } from "./resource-glob.ts";
import { haltBy, type StopRequest } from "./stop.ts";
import type { TaskChange } from "./task-actions.ts";

/** What a decision may not make up itself: time, ids, and lease tokens. */
export interface Context {
  /** The commit time; never before the run's last (contract 07 D107). */
  nowMs: number;
  /** A fresh lower-case UUID v4. */
  newId(): string;
  /** From 0 up to 1, by chance. */
  random(): number;
  /** What comparing names of locks may still take: the commands of a batch share it. */
  lockComparisons?: Allowance | undefined;
  /** Whether the strict rules hold for what is decided (docs/claims.md). */
  strict?: true | undefined;
  /** The lease token that belongs to a claim event; the same for the same event, always. */
  leaseToken(claimEventId: string): string;
  /** A token's fingerprint, the only form that is stored or shown (docs/compatibility.md). */
  maskToken(token: string): string;
}

export interface EventDraft {
  type: string;
  status: RunStatus;
  step_id?: string | undefined;
  origin?: "client" | undefined;
  payload: unknown;
  /** Where whoever works on the run is asked to stop. */
  stop?: StopRequest | undefined;
}

/** Builds a decision's commits one after the other, each on the head that the one before leaves. */
export class Draft {
  readonly commits: Commit[] = [];
  readonly #context: Context;
  readonly #commandId: string | undefined;
  readonly #under: Under | undefined;
  #head: RunHead;

  /**
   * @param commandId stamped on every event, unless a commit brings its own.
   * @param under the lease that all of it is written under, where one was proven; on every event.
   */
  constructor(head: RunHead, context: Context, commandId?: string, under?: Under) {
    this.#head = head;
    this.#context = context;
    this.#commandId = commandId;
    this.#under = under;
  }

  /** The head as the commits so far leave it. */
  head(): RunHead {
    return this.#head;
  }

  /** Seq of the next commit. */
  nextSeq(): number {
    return this.#head.run.last_event_seq + 1;
  }

  /** A run event or snapshot commit: no patch (contract 01 §5). */
  event(draft: EventDraft, eventId?: string): EventRecord {
    const record = this.#record(draft);
    if (eventId !== undefined) record.event_id = eventId;
    return this.#commit(record, null, draft.stop).event;
  }

  /** An event that follows from the command's own commits: without the command id, which the first of them bears. */
  followUp(draft: EventDraft): EventRecord {
    const { command_id: _commandId, ...record } = this.#record(draft);
    return this.#commit(record, null).event;
  }

  /** A patch commit: event and patch share seq and time (contract 05 §2.2). `members` go into the event's payload. */
  patch(op: PatchOp, payload: unknown, members: Record<string, unknown> = {}): Commit {
    const type = op === "add_artifact" ? "context.artifact.added" : "context.blackboard.patched";
    const record = this.#record({ type, status: this.#head.run.status, payload: null });
    record.payload = { op, payload, patch_seq: record.seq, ...members };
    return this.#commit(record, { op, payload });
  }

  /**
   * A task commit (contract 01 §5.1): the stored task goes into the event, the patch gets its revision.
   * @returns the task as stored.
   */
  task(change: TaskChange, options: { commandId?: string | undefined; eventId?: string } = {}): Task {
    const commandId = options.commandId ?? this.#commandId;
    const task: Task = { ...change.task, updated_ts: this.#context.nowMs };
    const record = this.#record({
      type: change.eventType,
      status: this.#head.run.status,
      step_id: task.id,
      payload: null,
    });
    if (options.eventId !== undefined) record.event_id = options.eventId;
    record.task_id = task.id;
    if (commandId !== undefined) record.command_id = commandId;
    record.payload = { ...change.eventPayload, task, patch_seq: record.seq };
    const patch = {
      task_rev: task.task_rev,
      ...change.patchPayload,
      ...(commandId !== undefined && { command_id: commandId }),
    };
    this.#commit(record, { op: change.patchOp, payload: patch });
    return task;
  }

  #record(draft: EventDraft): EventRecord {
    const { run } = this.#head;
    return {
      event_id: `evt-${this.#context.newId()}`,
      run_id: run.run_id,
      seq: run.last_event_seq + 1,
      ts_ms: this.#context.nowMs,
      type: draft.type,
      status: draft.status,
      run_status: run.status,
      revision: run.revision + 1,
      ...(draft.step_id !== undefined && { step_id: draft.step_id }),
      ...(this.#commandId !== undefined && { command_id: this.#commandId }),
      ...(this.#under !== undefined && { under: this.#under }),
      ...(draft.origin !== undefined && { origin: draft.origin }),
      payload: draft.payload,
    };
  }

  #commit(
    event: EventRecord,
    patch: { op: PatchOp; payload: unknown } | null,
    stop: StopRequest | null = null,
  ): Commit {
    const commit: Commit = {
      event,
      patch: patch && {
        patch_id: `bbp-${this.#context.newId()}`,
        run_id: event.run_id,
        seq: event.seq,
        ts_ms: event.ts_ms,
        source_event_seq: event.seq,
        ...patch,
      },
    };
    const { nowMs, strict } = this.#context;
    let { head } = evolve(this.#head, commit);
    const isStop = strict === true || stop !== null;
    const halt = isStop ? haltBy(this.#head, head.run.status, stop, nowMs) : null;
    if (halt !== null) {
      event.halt = halt;
      ({ head } = evolve(this.#head, commit));
    }
    this.#head = head;
    event.run_status = head.run.status;
    this.commits.push(commit);
    return commit;
  }
}
