import {
  type AgedRun,
  type Retention,
  runsToArchive,
  runsToDelete,
  tenantsWithRetention,
} from "../directory/departures.ts";
import { readCursor, writeCursor } from "../directory/maintenance.ts";
import type { Env } from "../env.ts";
import { archiveRun } from "../moving/archive.ts";
import { deleteRun } from "../moving/remove.ts";

const DUTY = "retain";
/** Runs archived or deleted per tick: what is left over is next tick's. */
const MAX_PER_TICK = 30;
const TENANTS_AT_ONCE = 50;

/** What a tick did. */
export interface Retained {
  archived: number;
  deleted: number;
  failed: number;
}

/** Where a tick stopped: a tenant, and of each list the place after which it goes on. */
interface Place {
  tenant: string;
  archive: AgedRun;
  remove: AgedRun;
}

const START: AgedRun = { run_id: "", at_ms: -1 };

/**
 * Archives ended runs that have not changed for as long as their tenant says, and deletes those that have been in the archive
 * for as long as it says. A run that cannot be moved is passed over until the duty comes round again.
 */
export async function retain(env: Env, nowMs: number): Promise<Retained> {
  const done: Retained = { archived: 0, deleted: 0, failed: 0 };
  const stopped = await readCursor<Place>(env.DIRECTORY, DUTY);
  let place = stopped;
  let left = MAX_PER_TICK;
  // The tenant where the last tick stopped comes first, from where it stopped.
  const tenants = await tenantsWithRetention(env.DIRECTORY, stopped?.tenant ?? "", TENANTS_AT_ONCE);
  for (const { tenant, ...retention } of tenants) {
    const from = place?.tenant === tenant ? place : { tenant, archive: START, remove: START };
    place = await retainTenant(env, { ...from, tenant }, retention, nowMs, left, done);
    left = MAX_PER_TICK - done.archived - done.deleted - done.failed;
    if (left <= 0) break;
  }
  const isThrough = left > 0 && tenants.length < TENANTS_AT_ONCE;
  await writeCursor(env.DIRECTORY, DUTY, isThrough ? null : place, nowMs);
  return done;
}

async function retainTenant(
  env: Env,
  from: Place,
  { archive_after_ms, delete_after_ms }: Retention,
  nowMs: number,
  limit: number,
  done: Retained,
): Promise<Place> {
  const { tenant } = from;
  let { archive, remove } = from;
  let left = limit;
  if (delete_after_ms !== null) {
    for (const run of await runsToDelete(env.DIRECTORY, tenant, nowMs - delete_after_ms, remove, left)) {
      const isDone = await attempt(
        run.run_id,
        async () => (await deleteRun(env, tenant, run.run_id, null)).ok,
      );
      done[isDone ? "deleted" : "failed"] += 1;
      remove = run;
      left -= 1;
    }
  }
  if (archive_after_ms !== null && left > 0) {
    for (const run of await runsToArchive(env.DIRECTORY, tenant, nowMs - archive_after_ms, archive, left)) {
      const isDone = await attempt(run.run_id, async () => (await archiveRun(env, tenant, run.run_id)).ok);
      done[isDone ? "archived" : "failed"] += 1;
      archive = run;
    }
  }
  return { tenant, archive, remove };
}

async function attempt(runId: string, move: () => Promise<boolean>): Promise<boolean> {
  try {
    return await move();
  } catch (error) {
    console.error(JSON.stringify({ event: "retention_failed", run_id: runId, error: String(error) }));
    return false;
  }
}
