import { EventEmitter } from "node:events";
import {
  type JobHelpers,
  Logger,
  makeWorkerUtils,
  run as runWorker,
  type Worker,
  type WorkerEvents,
} from "graphile-worker";
import pg from "pg";
import { installedPackage } from "./installed.ts";
import type { Job, Peer } from "./peer.ts";
import { claimPercentiles, createAll, elapsedMs, type Payload, Tally, type WorkTimes } from "./phases.ts";
import { reportIdleError, startPostgres } from "./postgres-server.ts";

const taskName = "task";
const logger = new Logger(() => (level, message) => {
  if (level === "error" || level === "warning") console.error(message);
});

/** Graphile Worker on PostgreSQL. */
export const run: Peer = async (job, children) => {
  const { connectionString, version, durability } = await startPostgres(job, children);
  const pool = openPool(connectionString, job);
  try {
    const utils = await makeWorkerUtils({ pgPool: pool, logger });
    await utils.migrate();
    const create_ms = await createAll(job, (payload) => utils.addJob(taskName, payload));
    const times = await workAllJobs(job, pool);
    await utils.release();
    return {
      peer: "graphile-worker",
      versions: `${installedPackage("graphile-worker")}, ${installedPackage("pg")}, ${version}`,
      durability,
      idiom:
        "create: addJob; claim and complete: by run() with one job at a time for each agent; heartbeat: it has none " +
        "(a hold lapses after four hours), so the task function renews locked_at of its own row, an internal table",
      create_ms,
      ...times,
      tasks: job.tasks,
      agents: job.agents,
    };
  } finally {
    await pool.end();
  }
};

/** The worker claims and completes by itself: the agents' part is the task function. */
async function workAllJobs(job: Job, pool: pg.Pool): Promise<WorkTimes> {
  const tally = new Tally(job.tasks);
  const { events, claimMs } = watchClaims();
  const startedAt = performance.now();
  const allHandled = new Promise<void>((resolve, reject) => {
    events.on("job:error", ({ error }) => reject(error));
    events.on("job:success", ({ job: done }) => {
      tally.add((done.payload as Payload).task);
      if (tally.total === job.tasks) resolve();
    });
  });
  const runner = await runWorker({
    pgPool: pool,
    logger,
    events,
    concurrency: job.agents,
    noHandleSignals: true,
    taskList: { [taskName]: (_payload: unknown, helpers: JobHelpers) => heartbeat(helpers) },
  });
  try {
    await allHandled;
    // A worker does not wait for its completions: they are deletions, so all are durable when no row is left.
    while ((await countJobs(pool)) > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    const work_ms = elapsedMs(startedAt);
    tally.check();
    return { work_ms, ...claimPercentiles(claimMs) };
  } finally {
    await runner.stop();
  }
}

/** A worker looks for its next job from `worker:getJob:start` to `job:start`. */
function watchClaims(): { events: WorkerEvents; claimMs: number[] } {
  const events: WorkerEvents = new EventEmitter();
  const lookingSince = new Map<Worker, number>();
  const claimMs: number[] = [];
  events.on("worker:getJob:start", ({ worker }) => lookingSince.set(worker, performance.now()));
  events.on("job:start", ({ worker }) => {
    const since = lookingSince.get(worker);
    if (since !== undefined) claimMs.push(elapsedMs(since));
  });
  return { events, claimMs };
}

async function heartbeat({ job, query }: JobHelpers): Promise<void> {
  const { rowCount } = await query(
    "update graphile_worker._private_jobs set locked_at = now() where id = $1 and locked_by = $2",
    [job.id, job.locked_by],
  );
  if (rowCount !== 1) throw new Error(`job ${job.id} is no longer locked`);
}

async function countJobs(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ jobs: number }>(
    "select count(*)::int as jobs from graphile_worker.jobs",
  );
  return rows[0]?.jobs ?? 0;
}

/** Each agent claims or heartbeats while its last completion may still be under way: two connections, and a few more. */
function openPool(connectionString: string, { agents }: Job): pg.Pool {
  const pool = new pg.Pool({ connectionString, max: 2 * agents + 2 });
  pool.on("error", reportIdleError);
  pool.on("connect", (client) => client.on("error", reportIdleError));
  return pool;
}
