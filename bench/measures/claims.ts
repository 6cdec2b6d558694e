import { claim, complete, newRun } from "../baton.ts";
import { accepted, withConnections } from "../connection.ts";
import { drive, interleave } from "../drive.ts";
import type { Bench, Figure, Measure, Target } from "../measure.ts";
import { median, percentile, ratios } from "../stats.ts";

const readyTasks = 10_000;

/**
 * Concurrent agents, and what cycles must reach of half the raw inserts: a cycle is two commits. The most agents come
 * first, because they warm up both sides for the few.
 */
const bars = [
  { agents: 64, atLeast: 1.3 },
  { agents: 16, atLeast: 1.0 },
  { agents: 1, atLeast: 0.8 },
];

/** A claim's slowest hundredth may take this many times as long as a raw insert's. */
const slowest = { atMost: 2 };

interface Loaded {
  perSecond: number;
  /** Of the claims, or of the raw inserts, in milliseconds. */
  p50Ms: number;
  p99Ms: number;
}

/** Agents that claim and complete on one busy board, against raw inserts into one object. */
export const claims: Measure = {
  name: "claims",
  title: `Claim and complete on one run of ${readyTasks.toLocaleString("en")} ready tasks, against the raw platform`,
  async run(bench) {
    const [baton, raw] = [await bench.baton(), await bench.raw()];
    const figures: Figure[] = [];
    for (const { agents, atLeast } of bars) {
      bench.progress(`${agents} agents`);
      // Filled before any round, so that no round pays for what the filling left to be written.
      const runs: string[] = [];
      for (let round = -1; round < bench.rounds; round += 1) {
        runs.push(await newRun(baton, "claims", readyTasks));
      }
      const { insert, cycle } = await interleave(bench.rounds, {
        insert: () => loadInserts(bench, raw, agents),
        cycle: () => loadCycles(bench, baton, runs.pop() ?? "", agents),
      });
      const of = (loaded: Loaded[], member: keyof Loaded) => loaded.map((one) => one[member]);
      const at = agents === 1 ? "1 agent" : `${agents} agents`;
      const halfRaw = of(insert, "perSecond").map((rate) => rate / 2);
      figures.push(
        { name: `raw insert, ${at}`, unit: "/s", rounds: of(insert, "perSecond") },
        { name: `claim → complete, ${at}`, unit: "/s", rounds: of(cycle, "perSecond") },
        {
          name: `claim → complete ÷ (raw insert ÷ 2), ${at}`,
          unit: "x",
          rounds: ratios(of(cycle, "perSecond"), halfRaw),
          bar: { atLeast },
        },
        { name: `raw insert, p50, ${at}`, unit: "ms", rounds: of(insert, "p50Ms") },
        { name: `claim, p50, ${at}`, unit: "ms", rounds: of(cycle, "p50Ms") },
        { name: `raw insert, p99, ${at}`, unit: "ms", rounds: of(insert, "p99Ms") },
        { name: `claim, p99, ${at}`, unit: "ms", rounds: of(cycle, "p99Ms") },
        {
          name: `claim p99 ÷ raw insert p99, ${at}`,
          unit: "x",
          rounds: ratios(of(cycle, "p99Ms"), of(insert, "p99Ms")),
          bar: slowest,
        },
      );
    }
    return {
      figures,
      notes: [
        `Every round has a fresh run of ${readyTasks.toLocaleString("en")} ready tasks; what is not worked in the round stays on its board.`,
        "Every claimed task is new to the agents: a task that is claimed twice ends the bench.",
      ],
    };
  },
};

const insertBody = JSON.stringify({
  agent_id: "agent-1",
  lease_ms: 60_000,
  text: "as long as a claim is, more or less",
});

function loadInserts(bench: Bench, raw: Target, agents: number): Promise<Loaded> {
  return withConnections(raw, agents, async (connections) => {
    const latencies: number[] = [];
    const { perSecond } = await drive(connections, bench.roundMs, async (connection) => {
      latencies.push(accepted("/insert", await connection.post("/insert", insertBody)).elapsedMs);
    });
    return loaded(perSecond, latencies);
  });
}

function loadCycles(bench: Bench, baton: Target, path: string, agents: number): Promise<Loaded> {
  return withConnections(baton, agents, async (connections) => {
    const latencies: number[] = [];
    const seen = new Set<string>();
    const { perSecond } = await drive(connections, bench.roundMs, async (connection, index) => {
      const claimed = await claim(connection, path, `agent-${index}`);
      latencies.push(claimed.elapsedMs);
      const id = claimed.task?.id;
      if (id === undefined) throw new Error(`${path} has no ready task left: the round is too long`);
      if (seen.has(id)) throw new Error(`${path}: ${id} was claimed twice`);
      seen.add(id);
      await complete(connection, path, claimed);
    });
    return loaded(perSecond, latencies);
  });
}

function loaded(perSecond: number, latencies: number[]): Loaded {
  return { perSecond, p50Ms: median(latencies), p99Ms: percentile(latencies, 0.99) };
}
