import { type ListedRun, runsInScope } from "../directory/runs.ts";
import type { Env } from "../env.ts";
import { type FeedScope, runObjectName } from "../identity/tenant.ts";
import { MAX_LEASE_MS } from "../protocol/limits.ts";
import { runClient } from "../run/run-client.ts";
import type { Result, Whereabouts } from "../run/run-object.ts";

/** Runs asked for at once. */
const PAGE = 1_000;
/**
 * A run whose directory row is older than this does not owe the directory news for long: heartbeats alone reach it when the
 * lease ends, at the latest. (Runs that were told to keep quiet just now the feed itself remembers.)
 */
const RECENT_MS = MAX_LEASE_MS + 120_000;
/** The directory may learn so late of what happened before a roll call. */
const LATE_MS = 3_600_000;
/** Objects called at once. */
const AT_ONCE = 25;

/** Some runs, and where they are, by run id. */
export interface Present {
  runs: ReadonlyMap<string, Whereabouts>;
  /** How many could not be asked. */
  missing: number;
}

/**
 * The runs of a feed that is followed again, as far as they may have changed since it was complete (epoch ms; 0 for never),
 * page by page. Those that changed lately are asked where they are, and those that the feed knows otherwise than the directory.
 *
 * @throws when the directory cannot be asked.
 */
export async function* rollCall(
  env: Env,
  scope: FeedScope,
  completeAtMs: number,
  nowMs: number,
  headOf: (runId: string) => number | null,
): AsyncGenerator<Present> {
  // At the first call what there is is the past, whatever the runs have been through.
  const mustAsk = (run: ListedRun): boolean =>
    run.updated_at_ms >= nowMs - RECENT_MS || (completeAtMs > 0 && headOf(run.run_id) !== run.last_event_seq);
  let after: ListedRun | null = null;
  do {
    const listed: ListedRun[] = await runsInScope(env.DIRECTORY, scope, completeAtMs - LATE_MS, after, PAGE);
    const asked = listed.filter(mustAsk).map(({ run_id }) => run_id);
    const { runs, missing } = await askEach(env, scope, asked);
    const told = listed
      .filter((run) => !mustAsk(run))
      .map(({ run_id, last_event_seq }) => [run_id, { last_event_seq, workspace_since_seq: 0 }] as const);
    yield { runs: new Map([...runs, ...told]), missing };
    after = listed.length < PAGE ? null : (listed.at(-1) ?? null);
  } while (after !== null);
}

/** Asks runs where they are; from then on they push whatever they commit. One that is not there is left out. */
export async function askEach(env: Env, scope: FeedScope, runIds: readonly string[]): Promise<Present> {
  const runs = new Map<string, Whereabouts>();
  let missing = 0;
  for (let start = 0; start < runIds.length; start += AT_ONCE) {
    const asked = runIds.slice(start, start + AT_ONCE).map(async (runId) => {
      const answer = await askPatiently(env, runObjectName(scope.tenant, runId));
      if (answer.ok) runs.set(runId, answer.value);
    });
    for (const { status } of await Promise.allSettled(asked)) if (status === "rejected") missing += 1;
  }
  return { runs, missing };
}

/** An object that is restarting fails what it is asked meanwhile. */
async function askPatiently(env: Env, name: string): Promise<Result<Whereabouts>> {
  for (const delayMs of [50, 200, 800]) {
    try {
      return await runClient(env.RUNS, name).resumeFeeds();
    } catch {
      await scheduler.wait(delayMs);
    }
  }
  return runClient(env.RUNS, name).resumeFeeds();
}
