import { type ListedRun, runsInScope } from "../directory/runs.ts";
import type { Env } from "../env.ts";
import { type FeedScope, runObjectName } from "../identity/tenant.ts";
import { runClient } from "../run/run-client.ts";

/** Runs asked for at once. */
const PAGE = 1_000;
/** A run whose directory row is older than this neither owes the directory news nor keeps quiet. */
const RECENT_MS = 120_000;
/** The directory may learn so late of what happened before a roll call. */
const LATE_MS = 3_600_000;
/** Objects called at once. */
const AT_ONCE = 25;

/** A run, as a feed has to know it. */
export type Enrolled = Pick<ListedRun, "run_id" | "created_at_ms">;

/** Some runs, and where they are: the seq of each one's last commit, by run id. */
export interface Whereabouts {
  runs: readonly Enrolled[];
  seqs: ReadonlyMap<string, number>;
  /** How many could not be asked. */
  missing: number;
}

/**
 * The runs of a feed that is followed again, as far as they may have changed since it was complete (epoch ms; 0 for never),
 * page by page. Those that changed lately are asked themselves; of the others the directory knows.
 *
 * @throws when the directory cannot be asked.
 */
export async function* rollCall(
  env: Env,
  scope: FeedScope,
  completeAtMs: number,
  nowMs: number,
): AsyncGenerator<Whereabouts> {
  const isRecent = (run: ListedRun): boolean => run.updated_at_ms >= nowMs - RECENT_MS;
  let after: ListedRun | null = null;
  do {
    const runs: ListedRun[] = await runsInScope(env.DIRECTORY, scope, completeAtMs - LATE_MS, after, PAGE);
    const { seqs, missing } = await askEach(env, scope, runs.filter(isRecent));
    const old = runs.filter((run) => !isRecent(run)).map((run) => [run.run_id, run.last_event_seq] as const);
    yield { runs, seqs: new Map([...seqs, ...old]), missing };
    after = runs.length < PAGE ? null : (runs.at(-1) ?? null);
  } while (after !== null);
}

/** Asks runs where they are; from then on they push whatever they commit. One that is not there has no seq. */
export async function askEach(env: Env, scope: FeedScope, runs: readonly Enrolled[]): Promise<Whereabouts> {
  const seqs = new Map<string, number>();
  let missing = 0;
  for (let start = 0; start < runs.length; start += AT_ONCE) {
    const asked = runs.slice(start, start + AT_ONCE).map(async ({ run_id }) => {
      const answer = await runClient(env.RUNS, runObjectName(scope.tenant, run_id)).resumeFeeds();
      if (answer.ok) seqs.set(run_id, answer.value);
    });
    for (const { status } of await Promise.allSettled(asked)) if (status === "rejected") missing += 1;
  }
  return { runs, seqs, missing };
}
