import type { Artifact, Blackboard, Note } from "../protocol/blackboard.ts";
import type { FileVersion } from "../protocol/file-version.ts";
import type { Run } from "../protocol/run.ts";
import type { Task } from "../protocol/task.ts";
import type { Effect } from "./audit.ts";
import { dueAtMs, hasFailurePolicy } from "./clocks.ts";
import type { LetterFilter, TaskFilter } from "./command.ts";
import type { Commit } from "./commit.ts";
import { isBusy, Places } from "./concurrency.ts";
import { type Change, evolve } from "./evolve.ts";
import type { RunHead } from "./head.ts";
import { isHeldUpTo, isStale } from "./lease.ts";
import { concurrencyLimit } from "./run.ts";
import type { View } from "./view.ts";

type Notes = Omit<Blackboard, "tasks" | "summaries" | "revision">;

/**
 * A run held in plain memory: the second interpreter of changes, for replay, time travel and tests. It owns copies of
 * its lists; tasks and notes themselves are never mutated.
 */
export class MemoryRun implements View {
  #head: RunHead;
  /** Insertion order is list order; putting an existing id keeps its place (I20). */
  #tasks: Map<string, Task>;
  readonly #notes: Notes;
  /** Every version that was applied here, by path. */
  readonly #files = new Map<string, FileVersion[]>();
  readonly #effects: Effect[] = [];
  /** Mutations that were undone here, with the seq of their rollback. */
  readonly #applied = new Map<number, number>();
  readonly #commandIds = new Set<string>();

  constructor(head: RunHead, tasks: Task[] = [], notes: Partial<Notes> = {}) {
    this.#head = head;
    this.#tasks = new Map(tasks.map((task) => [task.id, task]));
    this.#notes = {
      facts: [...(notes.facts ?? [])],
      decisions: [...(notes.decisions ?? [])],
      open_questions: [...(notes.open_questions ?? [])],
      artifacts: [...(notes.artifacts ?? [])],
    };
  }

  /** Takes in one commit. */
  apply(commit: Commit): void {
    const { head, changes } = evolve(this.#head, commit);
    this.#head = head;
    for (const change of changes) this.#change(change);
    if (commit.event.command_id !== undefined) this.#commandIds.add(commit.event.command_id);
  }

  /** Takes in one entry of a stored state (state-lines.ts). @throws Error when it is none. */
  restore(entry: Partial<Record<string, unknown>>): void {
    for (const [kind, value] of Object.entries(entry)) this.#change(changeOf(kind, value));
  }

  run(): Run {
    return { ...this.#head.run, tasks: [...this.#tasks.values()] };
  }

  blackboard(): Blackboard {
    return {
      ...this.#notes,
      tasks: [...this.#tasks.values()],
      summaries: this.#head.summaries,
      revision: this.#head.blackboard_revision,
    };
  }

  head(): RunHead {
    return this.#head;
  }

  taskCount(): number {
    return this.#tasks.size;
  }

  task(id: string): Task | null {
    return this.#tasks.get(id) ?? null;
  }

  /** What the artifact space holds, by path. */
  files(): FileVersion[] {
    return [...this.#files.keys()].sort().flatMap((path) => this.file(path) ?? []);
  }

  file(path: string): FileVersion | null {
    const last = this.#files.get(path)?.at(-1);
    return last === undefined || last.sha256 === null ? null : last;
  }

  fileVersion(path: string, version: number): FileVersion | null {
    return this.#files.get(path)?.find((file) => file.version === version) ?? null;
  }

  appliedSeq(mutationSeq: number): number | null {
    return this.#applied.get(mutationSeq) ?? null;
  }

  /** The events applied here that audits ask for. */
  effects(): readonly Effect[] {
    return this.#effects;
  }

  nextClaimable(filter: TaskFilter, nowMs: number): Task | null {
    return this.claimables(filter, nowMs)[0] ?? null;
  }

  claimables(filter: TaskFilter, nowMs: number): Task[] {
    const busy = this.#busyKeys();
    const limitOf = (key: string) => concurrencyLimit(this.#head.run.settings, key);
    const places = new Places((key) => limitOf(key) - (busy.get(key) ?? 0));
    // A stable sort: what is equal in priority and time stays in list order.
    return [...this.#tasks.values()]
      .filter((task) => this.#isClaimable(task, nowMs) && matches(task, filter))
      .sort((a, b) => b.priority - a.priority || a.created_ts - b.created_ts)
      .filter(({ concurrency_key = "" }) => {
        const isFree = places.has(concurrency_key);
        if (isFree) places.take(concurrency_key);
        return isFree;
      });
  }

  /** How many tasks take places of each concurrency key. */
  #busyKeys(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const task of this.#tasks.values()) {
      const { concurrency_key } = task;
      if (concurrency_key === undefined || !isBusy(task)) continue;
      counts.set(concurrency_key, (counts.get(concurrency_key) ?? 0) + 1);
    }
    return counts;
  }

  staleLeases(nowMs: number): Task[] {
    return [...this.#tasks.values()].filter((task) => isStale(task, nowMs));
  }

  dueTasks(nowMs: number, limit: number): Task[] {
    const dues = [...this.#tasks.values()].flatMap((task) => {
      const hasFailed = task.depends_on_task_ids.some((id) => this.#tasks.get(id)?.status === "failed");
      const at_ms = dueAtMs(task, hasFailed && hasFailurePolicy(task), nowMs);
      return at_ms === null || at_ms > nowMs ? [] : { task, at_ms };
    });
    return dues
      .sort((a, b) => a.at_ms - b.at_ms)
      .slice(0, limit)
      .map(({ task }) => task);
  }

  heldUpTo(fence: number, limit: number): Task[] {
    return [...this.#tasks.values()].filter((task) => isHeldUpTo(task, fence)).slice(0, limit);
  }

  deadLetters(filter: LetterFilter, limit: number): Task[] {
    return [...this.#tasks.values()].filter((task) => isLetter(task, filter)).slice(0, limit);
  }

  countDeadLetters(filter: LetterFilter): number {
    return this.deadLetters(filter, Number.POSITIVE_INFINITY).length;
  }

  dependentsOf(id: string): string[] {
    return [...this.#tasks.values()]
      .filter((task) => task.depends_on_task_ids.includes(id))
      .map((task) => task.id);
  }

  isCommandUsed(commandId: string): boolean {
    return this.#commandIds.has(commandId);
  }

  #isClaimable(task: Task, nowMs: number): boolean {
    return (
      (task.status === "pending" || task.status === "runnable") &&
      (task.next_retry_at_ms === undefined || task.next_retry_at_ms <= nowMs) &&
      task.depends_on_task_ids.every((id) => this.#tasks.get(id)?.status === "done")
    );
  }

  #change(change: Change): void {
    switch (change.kind) {
      case "put_task":
        this.#tasks.set(change.task.id, change.task);
        return;
      case "replace_tasks":
        this.#tasks = new Map(change.tasks.map((task) => [task.id, task]));
        return;
      case "add_note":
        this.#notes[change.list].push(change.note);
        return;
      case "add_artifact":
        this.#notes.artifacts.push(change.artifact);
        return;
      case "put_file": {
        const versions = this.#files.get(change.file.path);
        if (versions === undefined) this.#files.set(change.file.path, [change.file]);
        else versions.push(change.file);
        return;
      }
      case "index_effect":
        this.#effects.push(change.effect);
        return;
      case "mark_applied":
        for (const seq of change.seqs) this.#applied.set(seq, change.applied_seq);
        return;
    }
  }
}

function matches(task: Task, filter: TaskFilter): boolean {
  return (
    (filter.task_type === undefined || filter.task_type === task.task_type) &&
    (filter.workflow_id === undefined || filter.workflow_id === task.workflow_id)
  );
}

function isLetter(task: Task, { cause, error_code, task_types, ...filter }: LetterFilter): boolean {
  return (
    task.dead_letter === true &&
    matches(task, filter) &&
    (cause === undefined || cause === task.failure?.cause) &&
    (error_code === undefined || error_code === task.failure?.error_code) &&
    (task_types === undefined || task_types.includes(task.task_type))
  );
}

/** The change that one entry of a stored state stands for (state-lines.ts). @throws Error when it is none. */
export function changeOf(kind: string, value: unknown): Change {
  switch (kind) {
    case "task":
      return { kind: "put_task", task: value as Task };
    case "facts":
    case "decisions":
    case "open_questions":
      return { kind: "add_note", list: kind, note: value as Note };
    case "artifacts":
      return { kind: "add_artifact", artifact: value as Artifact };
    case "file":
      return { kind: "put_file", file: value as FileVersion };
    default:
      throw new Error(`a state has no ${kind}`);
  }
}
