import { dueAtMs, hasFailurePolicy } from "../../domain/clocks.ts";
import type { LetterFilter, TaskFilter } from "../../domain/command.ts";
import { Places } from "../../domain/concurrency.ts";
import { MAX_BATCH_LENGTH, MAX_PAGE_LENGTH } from "../../protocol/limits.ts";
import type { TaskCounts } from "../../protocol/run.ts";
import type { WorkStatus } from "../../protocol/status.ts";
import type { Task } from "../../protocol/task.ts";
import { BusyKeys } from "./busy-keys.ts";
import { type LaneHead, ReadyLanes } from "./lanes.ts";
import { type KnownTask, RecentTasks } from "./recent-tasks.ts";
import type { Binding, Sql } from "./sql.ts";
import { laneHeadOf, queueOf, rowOf, type TaskRow } from "./task-row.ts";

export const NO_TASKS: TaskCounts = {
  pending: 0,
  runnable: 0,
  in_progress: 0,
  blocked: 0,
  done: 0,
  failed: 0,
  total: 0,
};

/** How many tasks of a concurrency key may be in progress at once. */
export type LimitOf = (key: string) => number;

/** The task projection: what the engine queries as columns, the task itself as JSON. */
export class TaskTable {
  readonly #sql: Sql;
  readonly #lanes: ReadyLanes;
  readonly #busy: BusyKeys;
  readonly #recent = new RecentTasks();
  #promoted = 0;
  /** When the next delayed task becomes ready, or earlier, epoch ms; null when there is none, undefined when unknown. */
  #delayedDueAtMs: number | null | undefined = undefined;
  /** When the next clock of a task runs out, or earlier; as above. */
  #dueAtMs: number | null | undefined = undefined;

  constructor(sql: Sql) {
    this.#sql = sql;
    this.#lanes = new ReadyLanes(sql);
    this.#busy = new BusyKeys(sql);
  }

  /** Delayed tasks that became ready since waking, undone ones included: changes that no commit tells of. */
  promoted(): number {
    return this.#promoted;
  }

  task(id: string): Task | null {
    return this.#byId(id)?.task ?? null;
  }

  /** Whether a task can be claimed now, and which of its dependencies are missing or not done. */
  standing(task: Task, nowMs: number, limitOf: LimitOf): { claimable: boolean; openDependencyIds: string[] } {
    const open = this.#openDependencies(task);
    const isReady = queueOf(task, open.length, nowMs) === "ready";
    const claimable = isReady && this.#places(limitOf).has(task.concurrency_key ?? "");
    return { claimable, openDependencyIds: open };
  }

  /** Dependencies that are missing or not done, so many at most; `status` is null of those that are missing. */
  openDependencies(task: Task, limit: number): { task_id: string; status: WorkStatus | null }[] {
    if (task.depends_on_task_ids.length === 0) return [];
    return this.#sql.all<{ task_id: string; status: WorkStatus | null }>(
      `SELECT DISTINCT wanted.value AS task_id, tasks.status FROM json_each(?) AS wanted
       LEFT JOIN tasks ON tasks.id = wanted.value WHERE tasks.status IS NOT 'done' LIMIT ?`,
      JSON.stringify(task.depends_on_task_ids),
      limit,
    );
  }

  /** How many tasks take places of a concurrency key. */
  busy(key: string): number {
    return this.#busy.count(key);
  }

  /** Tasks that do, so many at most. */
  holders(key: string, limit: number): Task[] {
    const rows = this.#sql.all<{ doc: string }>(
      "SELECT doc FROM tasks INDEXED BY busy_keys WHERE busy = 1 AND concurrency_key = ? ORDER BY pos LIMIT ?",
      key,
      limit,
    );
    return rows.map((row) => JSON.parse(row.doc) as Task);
  }

  /** @param limitOf how many tasks of a concurrency key may be in progress at once. */
  nextClaimable(filter: TaskFilter, nowMs: number, limitOf: LimitOf): Task | null {
    this.#promoteDelayed(nowMs);
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const head = this.#lanes.best(filter, this.#places(limitOf));
      if (head === null) return null;
      const known = this.#read("SELECT * FROM tasks WHERE pos = ?", head.pos);
      if (known?.row.queue === "ready") return known.task;
      this.#doubtLanes(head.pos);
    }
    throw new Error("the index of ready tasks disagrees with its table");
  }

  #places(limitOf: LimitOf): Places {
    return new Places((key) => limitOf(key) - this.#busy.count(key));
  }

  /** A task must never be given out twice, not even by a cache that broke its rule (N1). */
  #doubtLanes(pos: number): void {
    console.error(JSON.stringify({ event: "ready_lanes_wrong", pos }));
    this.#lanes.forget();
  }

  /** The tasks that claims would take now one after the other; to be read before anything changes. */
  *claimables(filter: TaskFilter, nowMs: number, limitOf: LimitOf): Generator<Task> {
    const best = this.nextClaimable(filter, nowMs, limitOf);
    if (best === null) return;
    yield best;
    for (const { pos } of this.#lanes.inOrder(filter, this.#places(limitOf))) {
      const known = this.#read("SELECT * FROM tasks WHERE pos = ?", pos);
      if (known?.task.id === best.id) continue;
      if (known?.row.queue !== "ready") return this.#doubtLanes(pos);
      yield known.task;
    }
  }

  /** The lanes that a claim would find something in now. To be read before anything changes. */
  readyLanes(nowMs: number, limitOf: LimitOf): Iterable<LaneHead> {
    this.#promoteDelayed(nowMs);
    return this.#lanes.heads(this.#places(limitOf));
  }

  /** When the next delayed task becomes ready, or earlier, epoch ms; null when there is none. */
  delayedDueAtMs(): number | null {
    if (this.#delayedDueAtMs === undefined) this.#delayedDueAtMs = this.#earliestDelayed();
    return this.#delayedDueAtMs;
  }

  leased(): Task[] {
    const rows = this.#sql.all<{ doc: string }>(
      "SELECT doc FROM tasks INDEXED BY leased_tasks WHERE queue = 'leased' ORDER BY pos",
    );
    return rows.map((row) => JSON.parse(row.doc) as Task);
  }

  /** Tasks in progress under a lease with a fence up to this, in list order, so many at most. */
  heldUpTo(fence: number, limit: number): Task[] {
    const rows = this.#sql.all<{ doc: string }>(
      `SELECT doc FROM tasks INDEXED BY leased_tasks WHERE queue = 'leased' AND doc ->> 'fence' <= ?
       ORDER BY pos LIMIT ?`,
      fence,
      limit,
    );
    return rows.map((row) => JSON.parse(row.doc) as Task);
  }

  /** Tasks with a clock that may have run out, the longest overdue first; early ones are found, late ones never missed. */
  due(nowMs: number, limit: number): Task[] {
    const dueAt = this.dueAtMs();
    if (dueAt === null || dueAt > nowMs) return [];
    // It may have been that of a task which has ended since: to be learned anew.
    this.#dueAtMs = undefined;
    const rows = this.#sql.all<{ doc: string }>(
      `SELECT doc FROM tasks INDEXED BY due_tasks WHERE due_at_ms IS NOT NULL AND due_at_ms <= ?
       ORDER BY due_at_ms LIMIT ?`,
      nowMs,
      limit,
    );
    return rows.map((row) => JSON.parse(row.doc) as Task);
  }

  /** Dead letters of that kind, in list order: so many at most, and as many as are not too long to hold together. */
  deadLetters(filter: LetterFilter, limit: number): Task[] {
    const { where, values } = lettersWhere(filter);
    const { rows } = this.#sql.upTo<{ doc: string }>(
      MAX_BATCH_LENGTH,
      `SELECT doc FROM tasks INDEXED BY dead_letters WHERE ${where} ORDER BY pos LIMIT ?`,
      ...values,
      limit,
    );
    return rows.map((row) => JSON.parse(row.doc) as Task);
  }

  /** How many there are: reads all dead letters. */
  countDeadLetters(filter: LetterFilter): number {
    const { where, values } = lettersWhere(filter);
    const row = this.#sql.first<{ count: number }>(
      `SELECT count(*) AS count FROM tasks INDEXED BY dead_letters WHERE ${where}`,
      ...values,
    );
    return row?.count ?? 0;
  }

  /** When a clock may run out next, epoch ms; null when none is set. */
  dueAtMs(): number | null {
    if (this.#dueAtMs === undefined) {
      const row = this.#sql.first<{ due: number | null }>(
        "SELECT min(due_at_ms) AS due FROM tasks INDEXED BY due_tasks WHERE due_at_ms IS NOT NULL",
      );
      this.#dueAtMs = row?.due ?? null;
    }
    return this.#dueAtMs;
  }

  /** For a task that was found due too early: when it is, really. A change that no commit tells of. */
  postpone(id: string, nowMs: number): void {
    const known = this.#byId(id);
    if (known === null) return;
    const dueAt = dueAtMs(known.task, this.#hasFailedDependency(known.task), nowMs);
    const row = { ...known.row, due_at_ms: dueAt };
    this.#sql.run("UPDATE tasks SET due_at_ms = ? WHERE pos = ?", dueAt, row.pos);
    this.#recent.set({ row, task: known.task });
    this.#promoted += 1;
    this.#dueAtMs = undefined;
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
    const known = this.#byId(task.id);
    const doc = JSON.stringify(task);
    if (known === null) {
      for (const dependency of new Set(task.depends_on_task_ids)) this.#addEdge(dependency, task.id);
      const pos = this.#insert(task, doc, this.#openDependencies(task).length, nowMs);
      if (task.status === "done") this.#shiftDependents(task.id, -1, nowMs);
      if (task.status === "failed") this.#alertDependents(task.id, nowMs);
      return { pos, doc, before: null };
    }
    const before = known.row;
    const openDependencies = this.#rewireIfChanged(known, task);
    this.#update(before, task, doc, openDependencies, nowMs);
    if ((before.status === "done") !== (task.status === "done")) {
      this.#shiftDependents(task.id, task.status === "done" ? -1 : 1, nowMs);
    }
    if (task.status === "failed" && before.status !== "failed") this.#alertDependents(task.id, nowMs);
    return { pos: before.pos, doc, before: before.status };
  }

  /** Replaces the whole board, in the order given. Costs a row or more per task: only a PUT does this. */
  replaceAll(tasks: Task[], nowMs: number): void {
    this.#sql.run("DELETE FROM tasks");
    this.#sql.run("DELETE FROM task_edges");
    this.forgetCache();
    const done = new Set(tasks.filter((task) => task.status === "done").map((task) => task.id));
    for (const task of tasks) {
      const dependencies = new Set(task.depends_on_task_ids);
      for (const dependency of dependencies) this.#addEdge(dependency, task.id);
      const open = [...dependencies].filter((id) => !done.has(id)).length;
      this.#insert(task, JSON.stringify(task), open, nowMs);
    }
    for (const task of tasks) if (task.status === "failed") this.#alertDependents(task.id, nowMs);
    // One that failed may stand behind those that wait for it.
    if (!tasks.some(hasFailurePolicy)) return;
    for (const task of tasks) if (task.status === "failed") this.#alertDependents(task.id, nowMs);
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

  /** The agents that tasks are or were last assigned to, each once, in order of name. The tasks themselves stay where they are. */
  agents(): string[] {
    const rows = this.#sql.all<{ agent: string }>(
      "SELECT DISTINCT doc ->> 'assigned_agent' AS agent FROM tasks WHERE agent IS NOT NULL",
    );
    return rows.map(({ agent }) => agent).sort();
  }

  /**
   * Up to `scan` tasks after a position, in list order; `isCut` when they were too long to read that many.
   * @param onlyLetters whether only dead letters are looked at, which costs nothing for what lies between.
   */
  page(
    afterPos: number,
    scan: number,
    onlyLetters = false,
  ): { rows: { pos: number; status: WorkStatus; dead_letter: number; doc: string }[]; isCut: boolean } {
    const among = onlyLetters ? "tasks INDEXED BY dead_letters WHERE dead_letter = 1 AND" : "tasks WHERE";
    return this.#sql.upTo(
      MAX_PAGE_LENGTH,
      `SELECT pos, status, dead_letter, doc FROM ${among} pos > ? ORDER BY pos LIMIT ?`,
      afterPos,
      scan,
    );
  }

  /** Must follow any undone transaction (N1). */
  forgetCache(): void {
    this.#lanes.forget();
    this.#busy.forget();
    this.#recent.forget();
    this.#delayedDueAtMs = undefined;
    this.#dueAtMs = undefined;
  }

  #byId(id: string): KnownTask | null {
    return this.#recent.get(id) ?? this.#read("SELECT * FROM tasks WHERE id = ?", id);
  }

  #read(query: string, key: string | number): KnownTask | null {
    const row = this.#sql.first<TaskRow>(query, key);
    if (row === null) return null;
    const known = { row, task: JSON.parse(row.doc) as Task };
    this.#recent.set(known);
    return known;
  }

  #insert(task: Task, doc: string, openDependencies: number, nowMs: number): number {
    const dueAt = dueAtMs(task, this.#hasFailedDependency(task), nowMs);
    const { pos: _pos, ...row } = rowOf(task, doc, 0, { openDependencies, dueAtMs: dueAt }, nowMs);
    const columns = Object.keys(row);
    const stored = this.#sql.first<{ pos: number }>(
      `INSERT INTO tasks (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")}) RETURNING pos`,
      ...(Object.values(row) as Binding[]),
    );
    if (stored === null) throw new Error("an insert returns its row");
    this.#busy.changed(null, row);
    if (row.queue === "ready") this.#lanes.becameReady(laneHeadOf(task, stored.pos));
    if (row.queue === "delayed") this.#noteDelayed(task);
    this.#noteDue(dueAt);
    return stored.pos;
  }

  #update(before: TaskRow, task: Task, doc: string, openDependencies: number, nowMs: number): void {
    const wantedDue = dueAtMs(task, this.#hasFailedDependency(task), nowMs);
    // Early is as good as on time, and a column that stays costs no index row: a report of progress moves no clock here.
    const isEarly = wantedDue !== null && before.due_at_ms !== null && before.due_at_ms <= wantedDue;
    const dueAt = isEarly ? before.due_at_ms : wantedDue;
    const row = rowOf(task, doc, before.pos, { openDependencies, dueAtMs: dueAt }, nowMs);
    this.#recent.set({ row, task });
    if (row.queue === "delayed") this.#noteDelayed(task);
    this.#noteDue(dueAt);
    // Naming an indexed column costs index rows even when it stays the same: only what changed is named.
    const changed = Object.keys(row).filter((column) => row[column] !== before[column]);
    if (changed.length > 0) {
      this.#sql.run(
        `UPDATE tasks SET ${changed.map((column) => `${column} = ?`).join(", ")} WHERE pos = ?`,
        ...changed.map((column) => row[column] as Binding),
        before.pos,
      );
    }
    this.#busy.changed(before, row);
    const isSameLane = LANE_COLUMNS.every((column) => row[column] === before[column]);
    if (isSameLane && row.queue === before.queue) return;
    if (before.queue === "ready") this.#lanes.leftReady(before);
    if (row.queue === "ready") this.#lanes.becameReady(laneHeadOf(task, before.pos));
  }

  /** The open dependencies of a task that takes the place of another; edges follow when they differ. */
  #rewireIfChanged({ row: before, task: taskBefore }: KnownTask, task: Task): number {
    if (isSameList(taskBefore.depends_on_task_ids, task.depends_on_task_ids)) return before.open_dependencies;
    const old = new Set(taskBefore.depends_on_task_ids);
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
    for (const row of this.#dependentRows(id)) {
      const open = row.open_dependencies + by;
      this.#update(row, JSON.parse(row.doc) as Task, row.doc, open, nowMs);
    }
  }

  #dependentRows(id: string): TaskRow[] {
    return this.#sql.all<TaskRow>(
      "SELECT t.* FROM task_edges e JOIN tasks t ON t.id = e.dependent WHERE e.dependency = ?",
      id,
    );
  }

  /** Whether a task that asks about it has a dependency that failed. */
  #hasFailedDependency(task: Task): boolean {
    return (
      hasFailurePolicy(task) &&
      task.depends_on_task_ids.some((id) => {
        const row = this.#sql.first<{ status: WorkStatus }>("SELECT status FROM tasks WHERE id = ?", id);
        return row?.status === "failed";
      })
    );
  }

  /** A task has failed: those that wait for it and have something to say to that are due. */
  #alertDependents(id: string, nowMs: number): void {
    for (const row of this.#dependentRows(id)) {
      const task = JSON.parse(row.doc) as Task;
      if (hasFailurePolicy(task)) this.#update(row, task, row.doc, row.open_dependencies, nowMs);
    }
  }

  #noteDue(dueAt: number | null): void {
    if (this.#dueAtMs === undefined || dueAt === null) return;
    this.#dueAtMs = Math.min(this.#dueAtMs ?? Number.POSITIVE_INFINITY, dueAt);
  }

  #noteDelayed(task: Task): void {
    if (this.#delayedDueAtMs === undefined) return;
    const dueAtMs = task.next_retry_at_ms ?? 0;
    this.#delayedDueAtMs = Math.min(this.#delayedDueAtMs ?? Number.POSITIVE_INFINITY, dueAtMs);
  }

  #promoteDelayed(nowMs: number): void {
    if (this.#delayedDueAtMs === undefined) this.#delayedDueAtMs = this.#earliestDelayed();
    if (this.#delayedDueAtMs === null || this.#delayedDueAtMs > nowMs) return;
    const due = this.#sql.all<TaskRow>(
      "SELECT * FROM tasks INDEXED BY delayed_tasks WHERE queue = 'delayed' AND next_retry_at_ms <= ?",
      nowMs,
    );
    this.#promoted += due.length;
    this.#recent.forget();
    for (const row of due) {
      this.#sql.run("UPDATE tasks SET queue = 'ready' WHERE pos = ?", row.pos);
      this.#lanes.becameReady(laneHeadOf(JSON.parse(row.doc) as Task, row.pos));
    }
    this.#delayedDueAtMs = this.#earliestDelayed();
  }

  #earliestDelayed(): number | null {
    const row = this.#sql.first<{ due: number | null }>(
      "SELECT min(next_retry_at_ms) AS due FROM tasks INDEXED BY delayed_tasks WHERE queue = 'delayed'",
    );
    return row?.due ?? null;
  }
}

/** What makes a lane, and the order in it. */
const LANE_COLUMNS = ["task_type", "workflow_id", "concurrency_key", "priority", "created_ts"] as const;

function lettersWhere(filter: LetterFilter): { where: string; values: Binding[] } {
  const { task_type, workflow_id, cause, error_code, task_types } = filter;
  const conditions: [string, Binding | undefined][] = [
    ["task_type = ?", task_type],
    ["workflow_id = ?", workflow_id],
    ["doc ->> '$.failure.cause' = ?", cause],
    ["doc ->> '$.failure.error_code' = ?", error_code],
    ["task_type IN (SELECT value FROM json_each(?))", task_types && JSON.stringify(task_types)],
  ];
  const asked = conditions.filter(([, value]) => value !== undefined);
  return {
    where: ["dead_letter = 1", ...asked.map(([condition]) => condition)].join(" AND "),
    values: asked.map(([, value]) => value as Binding),
  };
}

function isSameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((value, index) => value === b[index]);
}
