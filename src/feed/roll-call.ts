import { type ListedRun, runsInScope } from "../directory/runs.ts";
import type { Env } from "../env.ts";
import { type FeedScope, runObjectName } from "../identity/tenant.ts";
import { MAX_STREAM_RUNS } from "../protocol/limits.ts";
import { runClient } from "../run/run-client.ts";

/** A run whose directory row is older than this neither owes the directory news nor keeps quiet. */
const RECENT_MS = 120_000;
/** Objects called at once. */
const AT_ONCE = 25;

/**
 * The runs of a feed that is followed again, those that changed last, and where each of them is. (Others join with their
 * next commit.) Those that changed lately are asked themselves,
 * and push from then on whatever they commit; of the others the directory knows.
 *
 * @throws when the directory cannot be asked. A run that cannot be asked is left out and told in `missing`.
 */
export async function rollCall(
  env: Env,
  scope: FeedScope,
  nowMs: number,
): Promise<{ runs: ListedRun[]; missing: number }> {
  const listed = await runsInScope(env.DIRECTORY, scope.tenant, scope.workspace, MAX_STREAM_RUNS);
  const runs = listed.filter((run) => run.updated_at_ms < nowMs - RECENT_MS);
  const recent = listed.filter((run) => run.updated_at_ms >= nowMs - RECENT_MS);
  let missing = 0;
  for (let start = 0; start < recent.length; start += AT_ONCE) {
    const asked = recent.slice(start, start + AT_ONCE).map(async (run) => {
      const name = runObjectName(scope.tenant, run.run_id);
      const answer = await runClient(env.RUNS, name).resumeFeeds();
      if (answer.ok) runs.push({ ...run, last_event_seq: answer.value });
    });
    for (const { status } of await Promise.allSettled(asked)) if (status === "rejected") missing += 1;
  }
  return { runs, missing };
}
