import { newRun, newTask } from "../baton.ts";
import { type Connection, withConnections } from "../connection.ts";
import { drive, interleave } from "../drive.ts";
import type { Bench, Measure, Target } from "../measure.ts";
import { ratios } from "../stats.ts";

const batchSize = 100;
const atLeast = 10;

/** What a planner gains when it puts tasks on the board together. */
export const batch: Measure = {
  name: "batch",
  title: `Create tasks ${batchSize} at a time, against one at a time`,
  async run(bench) {
    const baton = await bench.baton();
    const { single, batched } = await interleave(bench.rounds, {
      single: () => creationRate(bench, baton, 1),
      batched: () => creationRate(bench, baton, batchSize),
    });
    return {
      figures: [
        { name: "tasks created, one at a time", unit: "/s", rounds: single },
        { name: `tasks created, ${batchSize} at a time`, unit: "/s", rounds: batched },
        {
          name: `${batchSize} at a time ÷ one at a time`,
          unit: "x",
          rounds: ratios(batched, single),
          bar: { atLeast },
        },
      ],
      notes: [
        "One connection. Every round has fresh runs; both ways create the same tasks by the same route.",
      ],
    };
  },
};

/** Tasks per second on a fresh run, over one connection, that many with every request. */
async function creationRate(bench: Bench, baton: Target, count: number): Promise<number> {
  const path = `${await newRun(baton, "batch")}/tasks`;
  return withConnections(baton, 1, async (connections) => {
    let created = 0;
    const { perSecond } = await drive(connections, bench.roundMs, async (connection: Connection) => {
      const tasks = Array.from({ length: count }, () => newTask(`t${created++}`));
      await connection.call(path, { tasks });
    });
    return perSecond * count;
  });
}
