import { readCursor, writeCursor } from "../directory/maintenance.ts";
import { type DueRun, forgetLeaseDue, runsWithDueLeases } from "../directory/runs.ts";
import type { Env } from "../env.ts";
import { runObjectName } from "../identity/tenant.ts";
import { runClient } from "../run/run-client.ts";

const DUTY = "sweep_leases";
/** Most runs per tick: what is left over is next tick's first. */
const MAX_RUNS_PER_TICK = 2_000;
const PAGE = 200;
/** Objects called at once. */
const AT_ONCE = 25;

/** What a sweep did. */
export interface Sweep {
  runs: number;
  requeued: number;
  failed: number;
}

/**
 * The net below the object alarms: asks the directory which runs have a lease due, and has their objects requeue what is
 * stale. A swept run leaves the list or moves back in it, so that running this twice changes nothing. The place in the
 * list is kept between ticks: runs that cannot be reached do not hold up the others.
 */
export async function sweepLeases(env: Env, nowMs: number): Promise<Sweep> {
  const sweep: Sweep = { runs: 0, requeued: 0, failed: 0 };
  let after = await readCursor<DueRun>(env.DIRECTORY, DUTY);
  while (sweep.runs < MAX_RUNS_PER_TICK) {
    const page = await runsWithDueLeases(env.DIRECTORY, nowMs, after, PAGE);
    for (let start = 0; start < page.length; start += AT_ONCE) {
      await Promise.all(page.slice(start, start + AT_ONCE).map((due) => sweepRun(env, due, sweep)));
    }
    after = page.length < PAGE ? null : (page.at(-1) ?? null);
    await writeCursor(env.DIRECTORY, DUTY, after, nowMs);
    if (after === null) break;
  }
  return sweep;
}

async function sweepRun(env: Env, due: DueRun, sweep: Sweep): Promise<void> {
  sweep.runs += 1;
  try {
    const requeued = await runClient(env.RUNS, runObjectName(due.tenant, due.run_id)).sweep();
    if (requeued === null) await forgetLeaseDue(env.DIRECTORY, due);
    // Read after the wait: other runs of the group add to it meanwhile.
    sweep.requeued += requeued ?? 0;
  } catch (error) {
    sweep.failed += 1;
    console.error(JSON.stringify({ event: "sweep_failed", run_id: due.run_id, error: String(error) }));
  }
}
