import type { FileVersion } from "../protocol/file-version.ts";
import type { Task } from "../protocol/task.ts";
import type { LetterFilter, TaskFilter } from "./command.ts";
import type { RunHead } from "./head.ts";

/** What a decision may read, synchronously. SQL implements it for the object, memory for replay and tests. */
export interface View {
  head(): RunHead;
  taskCount(): number;
  task(id: string): Task | null;
  /**
   * The task that a claim takes now: pending or runnable, all dependencies done, retry window open, a place free of its concurrency
   * key; highest priority, then oldest `created_ts`, then first inserted (contract 04 §4).
   */
  nextClaimable(filter: TaskFilter, nowMs: number): Task | null;
  /** The tasks that claims would take now one after the other; to be read before anything changes. */
  claimables(filter: TaskFilter, nowMs: number): Iterable<Task>;
  /** Tasks in progress whose lease has run out, in list order (contract 04 §9). */
  staleLeases(nowMs: number): Task[];
  /** Tasks with a clock that may have run out, the longest overdue first, so many at most; early ones are possible, missed ones not. */
  dueTasks(nowMs: number, limit: number): Task[];
  /** Tasks in progress under a lease whose fence is not above this, so many at most. */
  heldUpTo(fence: number, limit: number): Task[];
  /** Dead letters of that kind, in list order, so many at most. */
  deadLetters(filter: LetterFilter, limit: number): Task[];
  countDeadLetters(filter: LetterFilter): number;
  /** Ids of tasks that name this id as a dependency. */
  dependentsOf(id: string): string[];
  isCommandUsed(commandId: string): boolean;
  /** What a path of the artifact space holds now; null when it holds nothing. */
  file(path: string): FileVersion | null;
  /** What a commit made of a path, removals included; null when it did not touch the path. */
  fileVersion(path: string, version: number): FileVersion | null;
  /** Seq of the rollback that undid the mutation at a seq; null when none did. */
  appliedSeq(mutationSeq: number): number | null;
}
