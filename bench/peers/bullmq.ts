import { type Job as BullJob, Queue, Worker } from "bullmq";
import { installedPackage } from "./installed.ts";
import { host } from "./network.ts";
import type { Peer } from "./peer.ts";
import { createAll, type Payload, workAll } from "./phases.ts";
import { startRedis } from "./redis-server.ts";

const queueName = "run";
const holdMs = 30_000;

interface BullHold {
  task: number;
  token: string;
  job: BullJob<Payload>;
}

/** BullMQ on Redis. */
export const run: Peer = async (job, children) => {
  const redis = await startRedis(job, children);
  const connection = { host, port: redis.port };
  const queue = new Queue<Payload>(queueName, { connection });
  // Without a processor a worker takes nothing by itself: the agents fetch and settle by hand, and all of them share
  // its connection, on which their commands are pipelined.
  const worker = new Worker<Payload>(queueName, null, { connection, lockDuration: holdMs });
  queue.on("error", (error) => console.error(error));
  worker.on("error", (error) => console.error(error));
  try {
    await Promise.all([queue.waitUntilReady(), worker.waitUntilReady()]);
    const create_ms = await createAll(job, (payload) => queue.add("task", payload));
    const times = await workAll<BullHold>(job, {
      claim: async (agent) => {
        const token = `agent-${agent}`;
        const claimed: BullJob<Payload> | undefined = await worker.getNextJob(token, { block: false });
        return claimed && { task: claimed.data.task, token, job: claimed };
      },
      heartbeat: async ({ job: held, token }) => {
        if ((await held.extendLock(token, holdMs)) !== 1)
          throw new Error(`job ${held.id} is no longer locked`);
      },
      complete: async ({ job: held, token }) => {
        await held.moveToCompleted(null, token, false);
      },
    });
    const { completed, ...others } = await queue.getJobCounts();
    const left = Object.entries(others).filter(([, count]) => count !== 0);
    if (completed !== job.tasks || left.length > 0) {
      throw new Error(
        `Redis holds ${completed} completed jobs, and ${JSON.stringify(Object.fromEntries(left))}`,
      );
    }
    return {
      peer: "bullmq",
      versions: `${installedPackage("bullmq")}, ${installedPackage("ioredis")}, ${redis.version}`,
      durability: redis.durability,
      idiom:
        "create: Queue.add; claim: Worker.getNextJob(token); heartbeat: job.extendLock, which sets the lock's expiry; " +
        "complete: job.moveToCompleted without fetching the next job",
      create_ms,
      ...times,
      tasks: job.tasks,
      agents: job.agents,
    };
  } finally {
    await Promise.all([worker.close(true), queue.close()]);
  }
};
