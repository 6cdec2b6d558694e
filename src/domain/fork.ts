import type { FileVersion } from "../protocol/file-version.ts";
import type { ForkOrigin, RunHeader } from "../protocol/run.ts";
import type { Task } from "../protocol/task.ts";
import { newHead } from "./head.ts";
import { withoutLease } from "./lease.ts";
import { MemoryRun } from "./memory.ts";
import { payloadInFork } from "./payload-artifact.ts";
import { requeueStale } from "./task-actions.ts";

/** What makes a fork another run than the one it comes from. */
export interface ForkDraft {
  run_id: string;
  /** That of the origin when absent. */
  objective?: string | undefined;
  origin: ForkOrigin;
  nowMs: number;
}

/**
 * The state that a forked run begins with: what the origin's state holds, with nothing of its log.
 *
 * F1 Leases do not come along: whoever holds one holds it in the origin. What was in progress is put back on the board as
 *    if the lease had run out (contract 04 §9); blocked work stays blocked, and is nobody's. Work without a lease stays as it is.
 *    What was tried there counts, but is not told: fences are seqs of the run's own log.
 * F2 Files have version 0: versions are seqs of the run's own log. Payloads that lie in them name that version.
 * F3 Its clock starts now, or where the origin's was if that is later: time in a run never goes back. Those of its tasks start with it.
 */
export function forkOf(state: MemoryRun, { run_id, objective, origin, nowMs }: ForkDraft): MemoryRun {
  const { run, summaries } = state.head();
  const atMs = Math.max(nowMs, run.updated_at_ms);
  const header: RunHeader = {
    ...run,
    run_id,
    objective: objective ?? run.objective,
    revision: 1,
    last_event_seq: 0,
    created_at_ms: atMs,
    updated_at_ms: atMs,
    forked_from: origin,
  };
  const { facts, decisions, open_questions, artifacts, tasks } = state.blackboard();
  const fork = new MemoryRun(
    { ...newHead(header), summaries },
    tasks.map((task) => withOwnReference(withOwnClocks(withoutHolder(task, atMs), atMs), state)),
    { facts, decisions, open_questions, artifacts },
  );
  for (const file of state.files()) fork.restore({ file: { ...file, version: 0 } satisfies FileVersion });
  return fork;
}

function withOwnReference(task: Task, origin: MemoryRun): Task {
  const payload = payloadInFork(task.payload, origin);
  return payload === task.payload ? task : { ...task, payload };
}

function withOwnClocks(task: Task, atMs: number): Task {
  const isOver = task.status === "done" || task.status === "failed";
  return task.clocks === undefined || isOver ? task : { ...task, redriven_at_ms: atMs };
}

function withoutHolder(held: Task, nowMs: number): Task {
  const { attempts: _attempts, cancellation: _cancellation, ...task } = held;
  const isHeld =
    task.lease_owner !== undefined ||
    task.lease_token !== undefined ||
    task.lease_expires_at_ms !== undefined;
  if (!isHeld) return task;
  if (task.status !== "in_progress") return withoutLease(task);
  const { retry, ...uncounted } = task;
  const { attempts: _own, ...freed } = requeueStale(uncounted, { nowMs, random: () => 0 }).task;
  return { ...freed, ...(retry !== undefined && { retry }), updated_ts: nowMs };
}
