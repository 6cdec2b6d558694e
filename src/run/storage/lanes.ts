import type { TaskFilter } from "../../domain/command.ts";
import type { Sql } from "./sql.ts";

/** What orders claimable tasks: priority descending, then `created_ts`, then position (contract 04 §4). */
export interface LaneHead extends Record<string, SqlStorageValue> {
  task_type: string;
  workflow_id: string;
  priority: number;
  created_ts: number;
  pos: number;
}

const COLUMNS = "task_type, workflow_id, priority, created_ts, pos";

/**
 * The best ready task per task type and workflow, kept in memory over the `ready_lanes` index: any claim, filtered or
 * not, costs one or two rows read, however many tasks are ready or not.
 *
 * N1 The cache equals the table. Whoever changes a row tells it after the change, and whoever undoes a transaction
 *    calls `forget`.
 */
export class ReadyLanes {
  readonly #sql: Sql;
  /** Lanes that have a ready task, by type and workflow. Null until first used. */
  #heads: Map<string, LaneHead> | null = null;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  best(filter: TaskFilter): LaneHead | null {
    this.#heads ??= this.#readHeads();
    let best: LaneHead | null = null;
    for (const head of this.#heads.values()) {
      if (isIn(head, filter) && (best === null || isBefore(head, best))) best = head;
    }
    return best;
  }

  becameReady(row: LaneHead): void {
    const head = this.#heads?.get(keyOf(row));
    if (head === undefined || isBefore(row, head)) this.#heads?.set(keyOf(row), row);
  }

  leftReady(row: LaneHead): void {
    const key = keyOf(row);
    if (this.#heads?.get(key)?.pos !== row.pos) return;
    const next = this.#readHead(row);
    if (next === null) this.#heads.delete(key);
    else this.#heads.set(key, next);
  }

  forget(): void {
    this.#heads = null;
  }

  #readHeads(): Map<string, LaneHead> {
    const heads = new Map<string, LaneHead>();
    for (let head = this.#nextLane(null); head !== null; head = this.#nextLane(head)) {
      heads.set(keyOf(head), head);
    }
    return heads;
  }

  /** Skips through the index from lane to lane, reading one row of each. */
  #nextLane(after: LaneHead | null): LaneHead | null {
    if (after === null) return this.#first("", []);
    return (
      this.#first("AND task_type = ? AND workflow_id > ?", [after.task_type, after.workflow_id]) ??
      this.#first("AND task_type > ?", [after.task_type])
    );
  }

  #readHead(lane: LaneHead): LaneHead | null {
    return this.#first("AND task_type = ? AND workflow_id = ?", [lane.task_type, lane.workflow_id]);
  }

  #first(condition: string, bindings: string[]): LaneHead | null {
    return this.#sql.first<LaneHead>(
      `SELECT ${COLUMNS} FROM tasks INDEXED BY ready_lanes WHERE queue = 'ready' ${condition}
       ORDER BY task_type, workflow_id, priority DESC, created_ts, pos LIMIT 1`,
      ...bindings,
    );
  }
}

function keyOf(lane: { task_type: string; workflow_id: string }): string {
  return JSON.stringify([lane.task_type, lane.workflow_id]);
}

function isIn(lane: LaneHead, filter: TaskFilter): boolean {
  return (
    (filter.task_type === undefined || filter.task_type === lane.task_type) &&
    // '' stands for "no workflow" in the table, and such tasks match no workflow filter.
    (filter.workflow_id === undefined || (lane.workflow_id !== "" && filter.workflow_id === lane.workflow_id))
  );
}

function isBefore(a: LaneHead, b: LaneHead): boolean {
  if (a.priority !== b.priority) return a.priority > b.priority;
  if (a.created_ts !== b.created_ts) return a.created_ts < b.created_ts;
  return a.pos < b.pos;
}
