import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { claim, complete, newRun, newTask } from "../baton.ts";
import { accepted, type Connection, withConnections } from "../connection.ts";
import { startCountedBaton } from "../counted-baton.ts";
import { memoryOf, quietCreation } from "../crowd-cost.ts";
import { drive, interleave } from "../drive.ts";
import type { Bench, Figure, Measure, Target } from "../measure.ts";
import { park, withParked } from "../parked.ts";
import { median, percentile, ratios } from "../stats.ts";

const cycleTasks = 10_000;
const batchSize = 20;

/** Claimers that wait while tasks are put on the board one by one: always some of them are parked. */
const claimers = 16;
/** Between one task and the next, in milliseconds: slow enough that none waits for another. */
const paceMs = 20;
/** A hundredth must be more than one task. */
const roundsTimes = 4;
/** From sending the request that makes a task ready to a parked claimer's receipt of it, ÷ one raw insert's round trip. */
const slowest = { atMost: 2 };

const crowd = 1_000;
/** The platform evicts an object that has had nothing to do for 10 seconds. */
const idleMs = 15_000;
/** How long a crowd takes to arrive, at most. */
const arrivalMs = 5_000;
/** Tasks of one request, at most. */
const maxBatch = 500;

/** Claims that wait, and claims of several: what they save, how soon they hold, and what a crowd of them costs. */
export const waiting: Measure = {
  name: "waiting",
  title: `Cycles of ${batchSize} tasks, from ready to held by a parked claimer, and ${crowd.toLocaleString("en")} parked agents`,
  async run(bench) {
    return {
      figures: [...(await cycles(bench)), ...(await readyToHeld(bench)), ...(await parkedCrowd(bench))],
      notes: [
        `A cycle of ${batchSize}: one claim with max ${batchSize}, then one request that completes them all. One connection, as for the cycles of one task.`,
        `Ready to held: ${claimers} claimers wait, and each waits again when it was given a task. Every ${paceMs} ms a task is created. The time is from sending that request to a claimer's receipt of its answer, so that the way of the request into the object is in it; a raw insert's is that of one request and its answer, at the same pace.`,
        `The crowd: ${crowd} claims wait in one run for ${idleMs / 1000} s without a commit. Its object is constructed when the run is created, and again with the task that ends the quiet if it was evicted until then. Memory is that of the whole server, connections and requests of the Worker included, and only the first round has to ask for it: what later ones need is there. Then as many tasks as still wait are created with two requests, and each claimer must hold one.`,
      ],
    };
  },
};

async function cycles(bench: Bench): Promise<Figure[]> {
  const [baton, raw] = [await bench.baton(), await bench.raw()];
  const runs: string[] = [];
  for (let round = -2 - bench.rounds; round < bench.rounds; round += 1) {
    runs.push(await newRun(baton, "waiting", cycleTasks));
  }
  const next = () => runs.pop() ?? "";
  const { insert, single, batched } = await interleave(bench.rounds, {
    insert: () =>
      withConnections(raw, 1, async (all) => (await drive(all, bench.roundMs, rawInsert)).perSecond),
    single: () => cycleRate(bench, baton, next(), oneCycle),
    batched: async () => batchSize * (await cycleRate(bench, baton, next(), batchCycle)),
  });
  return [
    { name: "raw insert, 1 connection", unit: "/s", rounds: insert },
    { name: "tasks claimed and completed, one at a time", unit: "/s", rounds: single },
    { name: `tasks claimed and completed, ${batchSize} at a time`, unit: "/s", rounds: batched },
    {
      name: `${batchSize} at a time ÷ one at a time`,
      unit: "x",
      rounds: ratios(batched, single),
      bar: { atLeast: 5 },
    },
  ];
}

const insertBody = JSON.stringify({ agent_id: "agent-1", text: "as long as a claim is, more or less" });

async function rawInsert(connection: Connection): Promise<void> {
  accepted("/insert", await connection.post("/insert", insertBody));
}

function cycleRate(
  bench: Bench,
  baton: Target,
  path: string,
  cycle: (connection: Connection, path: string) => Promise<void>,
): Promise<number> {
  return withConnections(
    baton,
    1,
    async (all) => (await drive(all, bench.roundMs, (connection) => cycle(connection, path))).perSecond,
  );
}

async function oneCycle(connection: Connection, path: string): Promise<void> {
  await complete(connection, path, await claim(connection, path));
}

async function batchCycle(connection: Connection, path: string): Promise<void> {
  const { claims } = await connection.call<{ claims: { task: { id: string }; lease: { token: string } }[] }>(
    `${path}/tasks/claim`,
    { agent_id: "agent-1", max: batchSize, lease_ms: 300_000 },
  );
  if (claims.length < batchSize) throw new Error(`${path} has no ready tasks left: the round is too long`);
  const commands = claims.map(({ task, lease }) => ({
    op: "complete",
    task_id: task.id,
    lease_token: lease.token,
  }));
  await connection.call(`${path}/commands`, { commands });
}

interface Latency {
  p50Ms: number;
  p99Ms: number;
}

async function readyToHeld(bench: Bench): Promise<Figure[]> {
  const [baton, raw] = [await bench.baton(), await bench.raw()];
  bench.progress("ready to held");
  const durationMs = bench.roundMs * roundsTimes;
  const { insert, held } = await interleave(bench.rounds, {
    insert: () => pacedInserts(raw, durationMs),
    held: () => pacedTasks(baton, durationMs),
  });
  const of = (rounds: Latency[], member: keyof Latency) => rounds.map((round) => round[member]);
  return [
    { name: "raw insert, p50, paced", unit: "ms", rounds: of(insert, "p50Ms") },
    { name: "ready to held, p50", unit: "ms", rounds: of(held, "p50Ms") },
    { name: "raw insert, p99, paced", unit: "ms", rounds: of(insert, "p99Ms") },
    { name: "ready to held, p99", unit: "ms", rounds: of(held, "p99Ms") },
    {
      name: "ready to held p99 ÷ raw insert p99",
      unit: "x",
      rounds: ratios(of(held, "p99Ms"), of(insert, "p99Ms")),
      bar: slowest,
    },
  ];
}

function latency(latencies: number[]): Latency {
  return { p50Ms: median(latencies), p99Ms: percentile(latencies, 0.99) };
}

function pacedInserts(raw: Target, durationMs: number): Promise<Latency> {
  return withConnections(raw, 1, async (all) => {
    const latencies: number[] = [];
    await drive(all, durationMs, async (connection) => {
      latencies.push(accepted("/insert", await connection.post("/insert", insertBody)).elapsedMs);
      await delay(paceMs);
    });
    return latency(latencies);
  });
}

async function pacedTasks(baton: Target, durationMs: number): Promise<Latency> {
  const path = await newRun(baton, "ready-to-held");
  return withConnections(baton, claimers + 1, async ([creator, ...parking]) => {
    const sentAtMs = new Map<string, number>();
    const latencies: number[] = [];
    let isOver = false;
    const waits = parking.map(async (connection, index) => {
      while (!isOver) {
        const { id, atMs } = await park(connection, path, `parked-${index}`).held;
        if (id.startsWith("last-")) return;
        latencies.push(atMs - (sentAtMs.get(id) ?? Number.NaN));
      }
    });
    let created = 0;
    await drive([creator as Connection], durationMs, async (connection) => {
      const id = `t${created++}`;
      sentAtMs.set(id, performance.now());
      await connection.call(`${path}/tasks`, { tasks: [newTask(id)] });
      await delay(paceMs);
    });
    isOver = true;
    // Who still waits is sent home.
    const last = parking.map((_, index) => newTask(`last-${index}`));
    await (creator as Connection).call(`${path}/tasks`, { tasks: last });
    await Promise.all(waits);
    if (latencies.length !== created) throw new Error(`${created} tasks, ${latencies.length} claims`);
    // The first few find claimers that are still on their way.
    return latency(latencies.slice(claimers));
  });
}

interface Crowded {
  /** Rows of creating a task that nobody can claim, with the crowd less without. */
  rowsRead: number;
  rowsWritten: number;
  /** What the server has more in memory for each that waits. */
  kilobytes: number;
  constructionsBefore: number;
  constructions: number;
  firstMs: number;
  allMs: number;
  heldTwice: number;
}

async function parkedCrowd(bench: Bench): Promise<Figure[]> {
  const stateDir = await bench.directory("parked");
  const baton = await bench.serve(() => startCountedBaton(stateDir));
  const found: Crowded[] = [];
  for (let round = 0; round < bench.rounds; round += 1) {
    bench.progress(`${crowd} parked for ${idleMs / 1000} s, ${round + 1} of ${bench.rounds}`);
    found.push(await oneCrowd(baton, stateDir));
  }
  await baton.close();
  const of = (member: keyof Crowded) => found.map((one) => one[member]);
  return [
    {
      name: `rows read more by a commit that none of ${crowd} parked can use`,
      unit: "rows",
      rounds: of("rowsRead"),
      bar: { neverOver: 0 },
    },
    {
      name: `rows written more by a commit that none of ${crowd} parked can use`,
      unit: "rows",
      rounds: of("rowsWritten"),
      bar: { neverOver: 0 },
    },
    { name: "memory of the server, for each that is parked", unit: "KB", rounds: of("kilobytes") },
    {
      name: `constructions of a run's object with ${crowd} parked, before the next task`,
      unit: "times",
      rounds: of("constructionsBefore"),
    },
    {
      name: `constructions of a run's object with ${crowd} parked, with the next task`,
      unit: "times",
      rounds: of("constructions"),
      bar: { atLeast: 2 },
    },
    { name: "from creating that task to the claimer that holds it", unit: "ms", rounds: of("firstMs") },
    { name: `from creating as many tasks as wait to the last of them held`, unit: "ms", rounds: of("allMs") },
    {
      name: "tasks that two claimers were given",
      unit: "times",
      rounds: of("heldTwice"),
      bar: { neverOver: 0 },
    },
  ];
}

async function oneCrowd(baton: Target, stateDir: string): Promise<Crowded> {
  const path = await newRun(baton, "parked");
  // The first of its kind teaches the object what there is.
  await quietCreation(baton, path, "blocked-0");
  const alone = await quietCreation(baton, path, "blocked-1");
  const beforeKb = await memoryOf(stateDir);
  return withConnections(baton, 1, async ([connection]) => {
    const only = connection as Connection;
    return withParked(baton, path, crowd, async (parked) => {
      const all = Promise.all(parked.map(({ held }) => held));
      // A claim that fails while this waits must not end the process.
      all.catch(() => undefined);
      // All are there when the last of them has had time to arrive.
      await delay(arrivalMs);
      const crowded = await quietCreation(baton, path, "blocked-2");
      const kilobytes = ((await memoryOf(stateDir)) - beforeKb) / crowd;
      await delay(idleMs);
      const constructions = () => only.read<number>(`/bench/constructions/${basename(path)}`);
      const constructionsBefore = await constructions();
      const sentMs = performance.now();
      await only.call(`${path}/tasks`, { tasks: [newTask("first")] });
      const first = await Promise.race(parked.map(({ held }) => held));
      const constructionsAfter = await constructions();
      const restMs = performance.now();
      for (let from = 1; from < crowd; from += maxBatch) {
        const count = Math.min(maxBatch, crowd - from);
        const tasks = Array.from({ length: count }, (_, index) => newTask(`t${from + index}`));
        await only.call(`${path}/tasks`, { tasks });
      }
      const held = await all;
      return {
        rowsRead: crowded.read - alone.read,
        rowsWritten: crowded.written - alone.written,
        kilobytes,
        constructionsBefore,
        constructions: constructionsAfter,
        firstMs: first.atMs - sentMs,
        allMs: Math.max(...held.map(({ atMs }) => atMs)) - restMs,
        heldTwice: held.length - new Set(held.map(({ id }) => id)).size,
      };
    });
  });
}
