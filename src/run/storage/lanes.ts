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

interface Lane {
  task_type: string;
  workflow_id: string;
  /** The best ready task of the lane; null when that must be read again. */
  head: LaneHead | null;
}

const COLUMNS = "task_type, workflow_id, priority, created_ts, pos";

/**
 * The best ready task per task type and workflow, kept in memory over the `ready_lanes` index: any claim, filtered or
 * not, costs one or two rows read, however many tasks are ready or not.
 *
 * N1 The cache may say less than the table (a lane without head is read again), never more: whoever undoes a
 *    transaction calls `forget`.
 */
export class ReadyLanes {
  readonly #sql: Sql;
  /** Null until first used. */
  #lanes: Map<string, Lane> | null = null;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  best(filter: TaskFilter): LaneHead | null {
    let best: LaneHead | null = null;
    for (const [key, lane] of this.#loaded()) {
      if (!isIn(lane, filter)) continue;
      lane.head ??= this.#readHead(lane);
      if (lane.head === null) this.#loaded().delete(key);
      else if (best === null || isBefore(lane.head, best)) best = lane.head;
    }
    return best;
  }

  becameReady(row: LaneHead): void {
    if (this.#lanes === null) return;
    const key = keyOf(row);
    const lane = this.#lanes.get(key);
    if (lane === undefined) {
      // A lane that is not there has no ready task: this one is its head.
      this.#lanes.set(key, { task_type: row.task_type, workflow_id: row.workflow_id, head: row });
    } else if (lane.head !== null && isBefore(row, lane.head)) {
      lane.head = row;
    }
  }

  leftReady(row: LaneHead): void {
    const lane = this.#lanes?.get(keyOf(row));
    if (lane?.head?.pos === row.pos) lane.head = null;
  }

  forget(): void {
    this.#lanes = null;
  }

  #loaded(): Map<string, Lane> {
    if (this.#lanes !== null) return this.#lanes;
    const lanes = new Map<string, Lane>();
    for (let head = this.#nextLane(null); head !== null; head = this.#nextLane(head)) {
      lanes.set(keyOf(head), { task_type: head.task_type, workflow_id: head.workflow_id, head });
    }
    this.#lanes = lanes;
    return lanes;
  }

  /** Skips through the index from lane to lane, reading one row of each. */
  #nextLane(after: LaneHead | null): LaneHead | null {
    if (after === null) return this.#first("", []);
    return (
      this.#first("AND task_type = ? AND workflow_id > ?", [after.task_type, after.workflow_id]) ??
      this.#first("AND task_type > ?", [after.task_type])
    );
  }

  #readHead(lane: Lane): LaneHead | null {
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

function isIn(lane: Lane, filter: TaskFilter): boolean {
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
