import { openArchivings, openDeletions, setSwept, unsweptDeletions } from "../directory/departures.ts";
import type { Env } from "../env.ts";
import { endStaleMove, STALE_MOVE_MS } from "../moving/archive.ts";
import { deleteLeftovers, tryCarryOut } from "../moving/remove.ts";

/** A deletion that is still being carried out by the request that asked for it is left to it for so long. */
const GRACE_MS = 60_000;
/** What was on its way to R2 when a run was deleted has arrived by then. */
const SWEEP_AFTER_MS = 3_600_000;
/** Most runs of each kind per tick: what is left over is next tick's. */
const MAX_PER_TICK = 50;

/** What a tick did. */
export interface ResumedMoves {
  deleted: number;
  swept: number;
  settled: number;
  failed: number;
}

/**
 * Goes on with deletions and moves that a crash stopped. All of it may be done twice; each run on its own, so that one that
 * cannot be reached does not hold up the others.
 */
export async function resumeMoves(env: Env, nowMs: number): Promise<ResumedMoves> {
  const done: ResumedMoves = { deleted: 0, swept: 0, settled: 0, failed: 0 };
  const db = env.DIRECTORY;
  for (const deletion of await openDeletions(db, nowMs - GRACE_MS, MAX_PER_TICK)) {
    done[(await tryCarryOut(env, deletion, nowMs)) ? "deleted" : "failed"] += 1;
  }
  for (const deletion of await unsweptDeletions(db, nowMs - SWEEP_AFTER_MS, MAX_PER_TICK)) {
    const { tenant, run_id } = deletion;
    const isSwept = await attempt(run_id, async () => {
      await deleteLeftovers(env, tenant, run_id);
      await setSwept(db, deletion, nowMs);
    });
    done[isSwept ? "swept" : "failed"] += 1;
  }
  for (const archiving of await openArchivings(db, nowMs - STALE_MOVE_MS, MAX_PER_TICK)) {
    const isSettled = await attempt(archiving.run_id, () => endStaleMove(env, archiving));
    done[isSettled ? "settled" : "failed"] += 1;
  }
  return done;
}

async function attempt(runId: string, step: () => Promise<void>): Promise<boolean> {
  try {
    await step();
    return true;
  } catch (error) {
    console.error(JSON.stringify({ event: "move_failed", run_id: runId, error: String(error) }));
    return false;
  }
}
