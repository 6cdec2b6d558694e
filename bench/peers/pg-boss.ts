import pg from "pg";
import { type Job as BossJob, PgBoss } from "pg-boss";
import { installedPackage } from "./installed.ts";
import type { Peer } from "./peer.ts";
import { createAll, type Payload, workAll } from "./phases.ts";
import { reportIdleError, startPostgres } from "./postgres-server.ts";

const queueName = "run";

interface BossHold {
  task: number;
  job: BossJob<Payload>;
}

/** pg-boss on PostgreSQL. */
export const run: Peer = async (job, children) => {
  const { connectionString, version, durability } = await startPostgres(job, children);
  // A connection for each agent, and two for pg-boss's own upkeep.
  const boss = new PgBoss({ connectionString, max: job.agents + 2 });
  boss.on("error", reportIdleError);
  await boss.start();
  try {
    // Without a heartbeat interval on the queue, touch() would extend nothing.
    await boss.createQueue(queueName, { heartbeatSeconds: 30 });
    const create_ms = await createAll(job, async (payload) => {
      if ((await boss.send(queueName, payload)) === null)
        throw new Error(`task ${payload.task} was not created`);
    });
    const times = await workAll<BossHold>(job, {
      claim: async () => {
        const [claimed] = await boss.fetch<Payload>(queueName, { batchSize: 1 });
        return claimed && { task: claimed.data.task, job: claimed };
      },
      heartbeat: async ({ job: held }) => assertAffected(await boss.touch(queueName, held), held),
      complete: async ({ job: held }) => assertAffected(await boss.complete(queueName, held), held),
    });
    await assertAllCompleted(connectionString, job.tasks);
    return {
      peer: "pg-boss",
      versions: `${installedPackage("pg-boss")}, ${installedPackage("pg")}, ${version}`,
      durability,
      idiom:
        "create: send; claim: fetch with batchSize 1; heartbeat: touch, on a queue with heartbeatSeconds; " +
        "complete: complete; touch and complete name the attempt that was fetched",
      create_ms,
      ...times,
      tasks: job.tasks,
      agents: job.agents,
    };
  } finally {
    await boss.stop({ graceful: false });
  }
};

/** A command on a job that is not this agent's any more answers like any other, with zero jobs affected. */
function assertAffected(response: object, { id }: BossJob<Payload>): void {
  if (!("affected" in response) || response.affected !== 1) throw new Error(`job ${id} is no longer held`);
}

async function assertAllCompleted(connectionString: string, tasks: number): Promise<void> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    const { rows } = await client.query<{ state: string; jobs: number }>(
      "select state::text, count(*)::int as jobs from pgboss.job where name = $1 group by state",
      [queueName],
    );
    const [only, ...others] = rows;
    if (only?.state !== "completed" || only.jobs !== tasks || others.length > 0) {
      throw new Error(`PostgreSQL holds ${JSON.stringify(rows)}`);
    }
  } finally {
    await client.end();
  }
}
