import type { TaskFilter } from "../../domain/command.ts";
import type { Places } from "../../domain/concurrency.ts";
import type { Sql } from "./sql.ts";

/** What orders claimable tasks: priority descending, then `created_ts`, then position (contract 04 §4). */
export interface LaneHead extends Record<string, SqlStorageValue> {
  task_type: string;
  workflow_id: string;
  concurrency_key: string;
  priority: number;
  created_ts: number;
  pos: number;
}

const COLUMNS = "task_type, workflow_id, concurrency_key, priority, created_ts, pos";

/** Rows read at once when a lane's known rows are used up; they count towards the budget of the claim that reads them. */
const REFILL = 8;
/** Rows of one lane kept in memory. */
const MAX_KNOWN = 64;

/** The best ready tasks of a lane, best first; never empty. */
interface Lane {
  known: LaneHead[];
  /** Whether the lane has no other ready task. */
  isComplete: boolean;
}

/**
 * The best ready tasks per task type, workflow and concurrency key, kept in memory over the `ready_lanes` index: any claim, filtered or
 * not, costs a row or two read on average, however many tasks are ready or not.
 *
 * N1 The cache agrees with the table. Whoever changes a row tells it after the change, and whoever undoes a transaction
 *    calls `forget`.
 */
export class ReadyLanes {
  readonly #sql: Sql;
  /** Lanes that have a ready task, by what makes a lane. Null until first used. */
  #lanes: Map<string, Lane> | null = null;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** The best ready task of those that places are left for. */
  best(filter: TaskFilter, places: Places): LaneHead | null {
    this.#lanes ??= this.#readLanes();
    let best: LaneHead | null = null;
    for (const { known } of this.#lanes.values()) {
      const [head] = known;
      if (head === undefined || !isIn(head, filter) || (best !== null && !isBefore(head, best))) continue;
      if (places.has(head.concurrency_key)) best = head;
    }
    return best;
  }

  /** The best ready task of each lane that has one, and places for it. To be read before anything changes. */
  *heads(places: Places): Generator<LaneHead> {
    this.#lanes ??= this.#readLanes();
    for (const {
      known: [head],
    } of this.#lanes.values()) {
      if (head !== undefined && places.has(head.concurrency_key)) yield head;
    }
  }

  /** All ready tasks, best first, as long as there are places for them. To be read before anything changes. */
  *inOrder(filter: TaskFilter, places: Places): Generator<LaneHead> {
    this.#lanes ??= this.#readLanes();
    const cursors = [...this.#lanes.values()]
      .filter(({ known: [head] }) => head !== undefined && isIn(head, filter))
      .map((lane) => ({ lane, next: 0 }));
    for (;;) {
      let best: { head: LaneHead; cursor: { next: number } } | null = null;
      for (const cursor of cursors) {
        const head = this.#at(cursor.lane, cursor.next);
        if (head === null || (best !== null && !isBefore(head, best.head))) continue;
        if (places.has(head.concurrency_key)) best = { head, cursor };
      }
      if (best === null) return;
      best.cursor.next += 1;
      places.take(best.head.concurrency_key);
      yield best.head;
    }
  }

  becameReady(row: LaneHead): void {
    if (this.#lanes === null) return;
    const lane = this.#lanes.get(keyOf(row));
    if (lane === undefined) {
      this.#lanes.set(keyOf(row), { known: [row], isComplete: true });
      return;
    }
    const { known } = lane;
    // The row left the lane and came back in one change, and a refill between the two has read it already.
    if (known.some((other) => other.pos === row.pos)) return;
    const place = known.findIndex((other) => isBefore(row, other));
    if (place !== -1) known.splice(place, 0, row);
    else if (lane.isComplete) known.push(row);
    if (known.length <= MAX_KNOWN) return;
    known.pop();
    lane.isComplete = false;
  }

  leftReady(row: LaneHead): void {
    const key = keyOf(row);
    const lane = this.#lanes?.get(key);
    const place = lane?.known.findIndex((other) => other.pos === row.pos) ?? -1;
    if (lane === undefined || place === -1) return;
    lane.known.splice(place, 1);
    if (lane.known.length > 0) return;
    if (!lane.isComplete) this.#fill(lane, row, REFILL);
    if (lane.known.length === 0) this.#lanes?.delete(key);
  }

  forget(): void {
    this.#lanes = null;
  }

  /** A lane's ready task of that rank, from 0; null when it has not so many. */
  #at(lane: Lane, rank: number): LaneHead | null {
    const last = lane.known.at(-1);
    // From the start again, each time twice as far: the index has no shorter way to where one has been.
    if (rank === lane.known.length && !lane.isComplete && last !== undefined) {
      this.#fill(lane, last, Math.max(REFILL, 2 * rank));
    }
    return lane.known[rank] ?? null;
  }

  /** Reads a lane's best rows. @param row any row of the lane. */
  #fill(lane: Lane, row: LaneHead, limit: number): void {
    lane.known = this.#read(
      "AND task_type = ? AND workflow_id = ? AND concurrency_key = ?",
      [row.task_type, row.workflow_id, row.concurrency_key],
      limit,
    );
    lane.isComplete = lane.known.length < limit;
  }

  #readLanes(): Map<string, Lane> {
    const lanes = new Map<string, Lane>();
    for (let head = this.#nextLane(null); head !== null; head = this.#nextLane(head)) {
      lanes.set(keyOf(head), { known: [head], isComplete: false });
    }
    return lanes;
  }

  /** Skips through the index from lane to lane, reading one row of each. */
  #nextLane(after: LaneHead | null): LaneHead | null {
    if (after === null) return this.#first("", []);
    const { task_type, workflow_id, concurrency_key } = after;
    return (
      this.#first("AND task_type = ? AND workflow_id = ? AND concurrency_key > ?", [
        task_type,
        workflow_id,
        concurrency_key,
      ]) ??
      this.#first("AND task_type = ? AND workflow_id > ?", [task_type, workflow_id]) ??
      this.#first("AND task_type > ?", [task_type])
    );
  }

  #first(condition: string, bindings: string[]): LaneHead | null {
    return this.#read(condition, bindings, 1)[0] ?? null;
  }

  #read(condition: string, bindings: string[], limit: number): LaneHead[] {
    return this.#sql.all<LaneHead>(
      `SELECT ${COLUMNS} FROM tasks INDEXED BY ready_lanes WHERE queue = 'ready' ${condition}
       ORDER BY task_type, workflow_id, concurrency_key, priority DESC, created_ts, pos LIMIT ${limit}`,
      ...bindings,
    );
  }
}

function keyOf({ task_type, workflow_id, concurrency_key }: LaneHead): string {
  return JSON.stringify([task_type, workflow_id, concurrency_key]);
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
