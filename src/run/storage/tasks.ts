import type { TaskFilter } from "../../domain/command.ts";
import { MAX_PAGE_LENGTH } from "../../protocol/limits.ts";
import type { TaskCounts } from "../../protocol/run.ts";
import type { WorkStatus } from "../../protocol/status.ts";
import type { Task } from "../../protocol/task.ts";
import { ReadyLanes } from "./lanes.ts";
import type { Sql } from "./sql.ts";
import { laneHeadOf, queueOf, type TaskRow } from "./task-row.ts";

export const NO_TASKS: TaskCounts = {
  pending: 0,
  runnable: 0,
  in_progress: 0,
  blocked: 0,
  done: 0,
  failed: 0,
  total: 0,
};

/** The task projection: what the engine queries as columns, the task itself as JSON. */
export class TaskTable {
  readonly #sql: Sql;
  readonly #lanes: ReadyLanes;

  constructor(sql: Sql) {
    this.#sql = sql;
    this.#lanes = new ReadyLanes(sql);
  }

  task(id: string): Task | null {
    const row = this.#sql.first<{ doc: string }>("SELECT doc FROM tasks WHERE id = ?", id);
    return row === null ? null : (JSON.parse(row.doc) as Task);
  }

  /** Whether a task can be claimed now, and which of its dependencies are missing or not done. */
  standing(task: Task, nowMs: number): { claimable: boolean; openDependencyIds: string[] } {
    const open = this.#openDependencies(task);
    const queue = queueOf(task, open.length, nowMs);
    return { claimable: queue === "ready", openDependencyIds: open };
  }

  nextClaimable(filter: TaskFilter, nowMs: number): Task | null {
    this.#promoteDelayed(nowMs);
    const head = this.#lanes.best(filter);
    if (head === null) return null;
    const row = this.#sql.first<{ doc: string }>("SELECT doc FROM tasks WHERE pos = ?", head.pos);
    return row === null ? null : (JSON.parse(row.doc) as Task);
  }

  leased(): Task[] {
    const rows = this.#sql.all<{ doc: string }>(
      "SELECT doc FROM tasks INDEXED BY leased_tasks WHERE queue = 'leased' ORDER BY pos",
    );
    return rows.map((row) => JSON.parse(row.doc) as Task);
  }

  dependentsOf(id: string): string[] {
    const rows = this.#sql.all<{ dependent: string }>(
      "SELECT dependent FROM task_edges WHERE dependency = ?",
      id,
    );
    return rows.map((row) => row.dependent);
  }

  /** Inserts or replaces a task by id, in its place, and opens or closes what depends on it. */
  put(task: Task, nowMs: number): { pos: number; doc: string; before: WorkStatus | null } {
    const before = this.#sql.first<TaskRow>("SELECT * FROM tasks WHERE id = ?", task.id);
    const doc = JSON.stringify(task);
    if (before === null) {
      for (const dependency of new Set(task.depends_on_task_ids)) this.#addEdge(dependency, task.id);
      const pos = this.#insert(task, doc, this.#openDependencies(task).length, nowMs);
      if (task.status === "done") this.#shiftDependents(task.id, -1, nowMs);
      return { pos, doc, before: null };
    }
    const dependencies = this.#rewireIfChanged(before, task);
    this.#update(before, task, doc, dependencies, nowMs);
    if ((before.status === "done") !== (task.status === "done")) {
      this.#shiftDependents(task.id, task.status === "done" ? -1 : 1, nowMs);
    }
    return { pos: before.pos, doc, before: before.status };
  }

  /** Replaces the whole board, in the order given. Costs a row or more per task: only a PUT does this. */
  replaceAll(tasks: Task[], nowMs: number): void {
    this.#sql.run("DELETE FROM tasks");
    this.#sql.run("DELETE FROM task_edges");
    this.#lanes.forget();
    const done = new Set(tasks.filter((task) => task.status === "done").map((task) => task.id));
    for (const task of tasks) {
      const dependencies = new Set(task.depends_on_task_ids);
      for (const dependency of dependencies) this.#addEdge(dependency, task.id);
      const open = [...dependencies].filter((id) => !done.has(id)).length;
      this.#insert(task, JSON.stringify(task), open, nowMs);
    }
  }

  /** Counts by reading every row: after a crash, a PUT, and in a replay only. */
  count(): TaskCounts {
    const rows = this.#sql.all<{ status: WorkStatus; count: number }>(
      "SELECT status, count(*) AS count FROM tasks GROUP BY status",
    );
    const counts = { ...NO_TASKS };
    for (const { status, count } of rows) {
      counts[status] = count;
      counts.total += count;
    }
    return counts;
  }

  /** The JSON of all tasks in list order, with positions. */
  docs(): { pos: number; doc: string }[] {
    return this.#sql.all<{ pos: number; doc: string }>("SELECT pos, doc FROM tasks ORDER BY pos");
  }

  /** Up to `scan` tasks after a position, in list order; `isCut` when they were too long to read that many. */
  page(
    afterPos: number,
    scan: number,
  ): { rows: { pos: number; status: WorkStatus; doc: string }[]; isCut: boolean } {
    return this.#sql.upTo(
      MAX_PAGE_LENGTH,
      "SELECT pos, status, doc FROM tasks WHERE pos > ? ORDER BY pos LIMIT ?",
      afterPos,
      scan,
    );
  }

  /** Must follow any undone transaction (N1). */
  forgetCache(): void {
    this.#lanes.forget();
  }

  #insert(task: Task, doc: string, openDependencies: number, nowMs: number): number {
    const queue = queueOf(task, openDependencies, nowMs);
    const row = this.#sql.first<{ pos: number }>(
      `INSERT INTO tasks (id, task_type, workflow_id, priority, created_ts, status, next_retry_at_ms,
         lease_expires_at_ms, open_dependencies, queue, doc)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING pos`,
      task.id,
      task.task_type,
      task.workflow_id ?? "",
      task.priority,
      task.created_ts,
      task.status,
      task.next_retry_at_ms ?? null,
      task.lease_expires_at_ms ?? null,
      openDependencies,
      queue,
      doc,
    );
    if (row === null) throw new Error("an insert returns its row");
    if (queue === "ready") this.#lanes.becameReady(laneHeadOf(task, row.pos));
    return row.pos;
  }

  #update(before: TaskRow, task: Task, doc: string, openDependencies: number, nowMs: number): void {
    const queue = queueOf(task, openDependencies, nowMs);
    const after = laneHeadOf(task, before.pos);
    // The retry time of a delayed task is indexed; for all others the column says nothing.
    const sameLane =
      queue !== "delayed" &&
      queue === before.queue &&
      after.task_type === before.task_type &&
      after.workflow_id === before.workflow_id &&
      after.priority === before.priority &&
      after.created_ts === before.created_ts;
    if (sameLane) {
      // Naming an indexed column costs an index row even when it stays the same: a heartbeat names none.
      this.#sql.run(
        "UPDATE tasks SET status = ?, lease_expires_at_ms = ?, open_dependencies = ?, doc = ? WHERE pos = ?",
        task.status,
        task.lease_expires_at_ms ?? null,
        openDependencies,
        doc,
        before.pos,
      );
      return;
    }
    this.#sql.run(
      `UPDATE tasks SET task_type = ?, workflow_id = ?, priority = ?, created_ts = ?, status = ?,
         next_retry_at_ms = ?, lease_expires_at_ms = ?, open_dependencies = ?, queue = ?, doc = ?
       WHERE pos = ?`,
      after.task_type,
      after.workflow_id,
      after.priority,
      after.created_ts,
      task.status,
      task.next_retry_at_ms ?? null,
      task.lease_expires_at_ms ?? null,
      openDependencies,
      queue,
      doc,
      before.pos,
    );
    if (before.queue === "ready") this.#lanes.leftReady(before);
    if (queue === "ready") this.#lanes.becameReady(after);
  }

  /** The open dependencies of a task that takes the place of another; edges follow when they differ. */
  #rewireIfChanged(before: TaskRow, task: Task): number {
    const old = new Set((JSON.parse(before.doc) as Task).depends_on_task_ids);
    const wanted = new Set(task.depends_on_task_ids);
    if (old.symmetricDifference(wanted).size === 0) return before.open_dependencies;
    for (const dependency of old.difference(wanted)) {
      this.#sql.run("DELETE FROM task_edges WHERE dependency = ? AND dependent = ?", dependency, task.id);
    }
    for (const dependency of wanted.difference(old)) this.#addEdge(dependency, task.id);
    return this.#openDependencies(task).length;
  }

  #openDependencies(task: Task): string[] {
    return [...new Set(task.depends_on_task_ids)].filter((id) => {
      const row = this.#sql.first<{ status: WorkStatus }>("SELECT status FROM tasks WHERE id = ?", id);
      return row?.status !== "done";
    });
  }

  #addEdge(dependency: string, dependent: string): void {
    this.#sql.run("INSERT INTO task_edges (dependency, dependent) VALUES (?, ?)", dependency, dependent);
  }

  /** One dependency fewer (or more) is open for every task that waits for `id`. */
  #shiftDependents(id: string, by: -1 | 1, nowMs: number): void {
    const rows = this.#sql.all<TaskRow>(
      "SELECT t.* FROM task_edges e JOIN tasks t ON t.id = e.dependent WHERE e.dependency = ?",
      id,
    );
    for (const row of rows) {
      const open = row.open_dependencies + by;
      this.#update(row, JSON.parse(row.doc) as Task, row.doc, open, nowMs);
    }
  }

  #promoteDelayed(nowMs: number): void {
    const due = this.#sql.all<TaskRow>(
      "SELECT * FROM tasks INDEXED BY delayed_tasks WHERE queue = 'delayed' AND next_retry_at_ms <= ?",
      nowMs,
    );
    for (const row of due) {
      this.#sql.run("UPDATE tasks SET queue = 'ready' WHERE pos = ?", row.pos);
      this.#lanes.becameReady(laneHeadOf(JSON.parse(row.doc) as Task, row.pos));
    }
  }
}
