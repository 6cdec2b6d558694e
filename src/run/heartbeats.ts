import { heldOutcome, type OutcomeOf, taskOf } from "../domain/outcome.ts";
import type { EventRecord } from "../protocol/event.ts";
import { HEARTBEAT_INTERVAL_MS, MAX_HELD_HEARTBEATS } from "../protocol/limits.ts";
import type { Task } from "../protocol/task.ts";
import type { Progress } from "../protocol/task-life.ts";

/** The type of event that changes nothing but a lease's expiry and its holder's progress. */
export const HEARTBEAT = "context.task.heartbeat";

/** A heartbeat that was answered and is not recorded yet. */
interface Held {
  /** As recorded: with another revision it was recorded meanwhile, or its lease has ended. */
  taskRev: number;
  token: string | undefined;
  progress: Progress | undefined;
  /** Until when it asked to hold the task. */
  expiresAtMs: number;
  /** When it is to be recorded at the latest. */
  dueAtMs: number;
}

/** A held heartbeat, to be recorded. */
export interface Report {
  task_id: string;
  task_rev: number;
  expires_at_ms: number;
}

/**
 * Heartbeats that come sooner than HEARTBEAT_INTERVAL_MS after the task's last recorded one. They are answered with the lease as it
 * is recorded, so that no answer promises what a crash takes back. What they bring is kept here, and recorded with the task's next
 * commit, or at the end of the interval: however often they come, a task costs no more than one heartbeat per interval.
 *
 * H1 What is held is added to the task wherever decisions read it (`onto`), so that no commit leaves it out.
 * H2 What a transaction has added is taken back with it. What it settled need not be: an entry that no longer fits its task says
 *    nothing.
 */
export class Heartbeats {
  /** When a heartbeat of a task was last recorded, under which lease; the one recorded longest ago first. */
  readonly #recorded = new Map<string, { token: string | undefined; atMs: number; seq: number }>();
  /** A value: each change makes another. */
  #held: ReadonlyMap<string, Held> = new Map();

  savepoint(): ReadonlyMap<string, unknown> {
    return this.#held;
  }

  /** @param lastSeq of the commits that stay: of what later ones recorded, nobody knows what was recorded before. */
  restore(savepoint: ReadonlyMap<string, unknown>, lastSeq: number): void {
    this.#held = savepoint as ReadonlyMap<string, Held>;
    for (const [id, { seq }] of this.#recorded) if (seq > lastSeq) this.#recorded.delete(id);
  }

  /** The task with what its holder has reported since it was stored. */
  onto(task: Task): Task {
    const held = this.#held.get(task.id);
    if (held?.progress === undefined || !fits(held, task)) return task;
    return { ...task, progress: held.progress };
  }

  /** Takes note of what was committed. */
  committed({ type, task_id, ts_ms, seq, payload }: EventRecord): void {
    if (type !== HEARTBEAT || task_id === undefined) return;
    const { task } = payload as { task: Task };
    this.#recorded.delete(task_id);
    this.#recorded.set(task_id, { token: task.lease_token, atMs: ts_ms, seq });
    for (const [id, { atMs }] of this.#recorded) {
      if (ts_ms - atMs < HEARTBEAT_INTERVAL_MS) break;
      this.#recorded.delete(id);
    }
  }

  /**
   * Holds a heartbeat that comes too soon, instead of its commit.
   * @param event that would record it. @param isReport whether it brings progress. @param stored the task as it is recorded.
   * @returns the answer; null when it must be recorded.
   */
  hold(
    event: EventRecord,
    isReport: boolean,
    decided: OutcomeOf<"transition_task">,
    stored: Task,
    nowMs: number,
  ): OutcomeOf<"transition_task"> | null {
    const last = this.#recorded.get(stored.id);
    const sinceMs = last === undefined ? HEARTBEAT_INTERVAL_MS : nowMs - last.atMs;
    if (last?.token !== stored.lease_token || sinceMs < 0 || sinceMs >= HEARTBEAT_INTERVAL_MS) return null;
    const next = taskOf(event);
    const expiresAtMs = next.lease_expires_at_ms ?? 0;
    const isLonger = expiresAtMs - (stored.lease_expires_at_ms ?? 0) >= HEARTBEAT_INTERVAL_MS;
    const before = this.#held.get(stored.id);
    const isReported = isReport || (before?.progress !== undefined && fits(before, stored));
    if (isLonger || isReported) {
      if (this.#held.size >= MAX_HELD_HEARTBEATS && !this.#held.has(stored.id)) return null;
      this.#set(stored.id, {
        taskRev: stored.task_rev,
        token: stored.lease_token,
        progress: isReported ? next.progress : undefined,
        expiresAtMs,
        dueAtMs: nowMs - sinceMs + HEARTBEAT_INTERVAL_MS,
      });
    }
    return heldOutcome(decided, stored, nowMs);
  }

  /** When the next one is to be recorded, epoch ms; null when none is held. */
  dueAtMs(): number | null {
    const dues = [...this.#held.values()].map(({ dueAtMs }) => dueAtMs);
    return dues.length === 0 ? null : Math.min(...dues);
  }

  /** Those that are due; they are held until they are settled. */
  due(nowMs: number): Report[] {
    return [...this.#held].flatMap(([task_id, { taskRev, expiresAtMs, dueAtMs }]) =>
      dueAtMs <= nowMs ? { task_id, task_rev: taskRev, expires_at_ms: expiresAtMs } : [],
    );
  }

  /** Those of these tasks, told when asked for. */
  of(tasks: () => readonly Task[]): Report[] {
    if (this.#held.size === 0) return [];
    return tasks().flatMap((task) => {
      const held = this.#held.get(task.id);
      if (held === undefined || !fits(held, task)) return [];
      return { task_id: task.id, task_rev: held.taskRev, expires_at_ms: held.expiresAtMs };
    });
  }

  /** Forgets those that were recorded, or no longer can be. */
  settled(reports: readonly Report[]): void {
    const held = new Map(this.#held);
    for (const { task_id, task_rev } of reports) {
      if (held.get(task_id)?.taskRev === task_rev) held.delete(task_id);
    }
    this.#held = held;
  }

  /** There was no room to record them: they are due again later. */
  postponed(reports: readonly Report[], untilMs: number): void {
    for (const { task_id } of reports) {
      const held = this.#held.get(task_id);
      if (held !== undefined) this.#set(task_id, { ...held, dueAtMs: untilMs });
    }
  }

  #set(taskId: string, held: Held): void {
    this.#held = new Map(this.#held).set(taskId, held);
  }
}

function fits({ taskRev, token }: Held, task: Task): boolean {
  return taskRev === task.task_rev && token === task.lease_token && task.status === "in_progress";
}
