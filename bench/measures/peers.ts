import { execFile } from "node:child_process";
import { statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { startLocalRuntime } from "../../scripts/local-runtime.ts";
import { claim, complete, heartbeat, newRun, newTask } from "../baton.ts";
import { accepted, type Connection, withConnections } from "../connection.ts";
import type { Bench, Figure, Measure, Target } from "../measure.ts";
import { ratios } from "../stats.ts";

const tasks = 4_000;
const agents = 16;
/** Fewer rounds than elsewhere: each is a whole job, and the slowest peer needs minutes for it. */
const rounds = 3;
const timeLimitSeconds = 600;
/** Servers can be talkative. */
const maxOutputBytes = 64 * 1024 * 1024;

const peerNames = ["bullmq", "graphile-worker", "pg-boss", "restate"];

/** How long the two phases of the job took, in milliseconds. */
interface Timing {
  create_ms: number;
  work_ms: number;
}

/** What a peer measured, and under which conditions. */
interface PeerResult extends Timing {
  versions: string;
  durability: string;
  idiom: string;
}

/** What the peer's own process prints (bench/peers). */
type PeerOutcome =
  | { ok: true; result: PeerResult }
  | { ok: false; skipped: string }
  | { ok: false; failed: string };

/** The same job done by Baton and by what people would use instead, one after the other in each round. */
export const peers: Measure = {
  name: "peers",
  title: `Create and work ${tasks.toLocaleString("en")} tasks with ${agents} agents, against peers`,
  async run(bench) {
    await refuseTmpfs();
    const baton: Timing[] = [];
    const found = new Map<string, Timing[]>();
    const notes = new Map<string, string>();
    for (let round = 1; round <= rounds; round += 1) {
      bench.progress(`round ${round} of ${rounds}, Baton`);
      baton.push(await runBaton(bench, round));
      for (const name of peerNames) {
        if (notes.get(name)?.startsWith("skipped")) continue;
        bench.progress(`round ${round} of ${rounds}, ${name}`);
        const outcome = await runPeer(bench, name);
        if (!outcome.ok && "skipped" in outcome) {
          notes.set(name, `skipped: ${outcome.skipped}`);
          continue;
        }
        found.set(name, [...(found.get(name) ?? []), outcome.ok ? outcome.result : noTiming]);
        if (!outcome.ok) notes.set(name, `FAILED in round ${round}: ${outcome.failed}`);
        else if (!notes.has(name)) notes.set(name, settingOf(outcome.result));
      }
    }
    return {
      figures: [
        ...phaseFigures("Baton", baton),
        ...[...found].flatMap(([name, timings]) => peerFigures(name, timings, baton)),
      ],
      notes: [
        "Every system is started anew for each round. Baton answers over HTTP, after the flush of the commit.",
        ...[...notes].map(([name, note]) => `${name}: ${note}`),
        "What is compared and what is not: bench/peers/README.md.",
      ],
    };
  },
};

/** Of a round in which a peer failed. */
const noTiming: Timing = { create_ms: Number.NaN, work_ms: Number.NaN };

/** A number of the Linux kernel: the type of a file system that is memory. */
const tmpfs = 0x01021994;

/** The peers keep their data in the system's temporary directory, which every account can reach. */
async function refuseTmpfs(): Promise<void> {
  if ((await statfs(tmpdir())).type !== tmpfs) return;
  throw new Error(`${tmpdir()} is memory, where a flush costs nothing: set TMPDIR to a directory on a disk`);
}

function settingOf({ versions, durability, idiom }: PeerResult): string {
  return `${versions}. Durability: ${durability}. The job: ${idiom}.`;
}

function phaseFigures(name: string, timings: Timing[]): Figure[] {
  return [
    { name: `${name}: tasks created`, unit: "/s", rounds: rates(timings, "create_ms") },
    {
      name: `${name}: tasks claimed, heartbeated, completed`,
      unit: "/s",
      rounds: rates(timings, "work_ms"),
    },
  ];
}

function peerFigures(name: string, timings: Timing[], baton: Timing[]): Figure[] {
  const ratio = (phase: keyof Timing) => ratios(rates(baton, phase), rates(timings, phase));
  return [
    ...phaseFigures(name, timings),
    { name: `Baton ÷ ${name}, create`, unit: "x", rounds: ratio("create_ms") },
    { name: `Baton ÷ ${name}, work`, unit: "x", rounds: ratio("work_ms") },
  ];
}

function rates(timings: Timing[], phase: keyof Timing): number[] {
  return timings.map((timing) => (tasks * 1000) / timing[phase]);
}

async function runBaton(bench: Bench, round: number): Promise<Timing> {
  const stateDir = await bench.directory(`peers-${round}`);
  const runtime = await bench.serve(() => startLocalRuntime({ port: 0, stateDir }));
  try {
    return await doJob(runtime);
  } finally {
    await runtime.close();
  }
}

/** The job, done by Baton: one create per task, then claim, heartbeat and complete. */
async function doJob(baton: Target): Promise<Timing> {
  const path = await newRun(baton, "peers");
  return withConnections(baton, agents, async (connections) => {
    let created = 0;
    const create_ms = await timed(connections, async (connection) => {
      for (let index = created++; index < tasks; index = created++) {
        const body = JSON.stringify({ tasks: [newTask(`t${index}`)] });
        accepted(path, await connection.post(`${path}/tasks`, body));
      }
    });
    const done = new Set<string>();
    const work_ms = await timed(connections, async (connection, index) => {
      for (;;) {
        const claimed = await claim(connection, path, `agent-${index}`);
        if (claimed.task === null) return;
        await heartbeat(connection, path, claimed);
        await complete(connection, path, claimed);
        if (done.has(claimed.task.id)) throw new Error(`${claimed.task.id} was done twice`);
        done.add(claimed.task.id);
      }
    });
    const run = JSON.parse(accepted(path, await (connections[0] as Connection).get(path)).text);
    if (done.size !== tasks || run.run.task_counts.done !== tasks) throw new Error("not every task was done");
    return { create_ms, work_ms };
  });
}

async function timed(
  connections: readonly Connection[],
  work: (connection: Connection, index: number) => Promise<void>,
): Promise<number> {
  const startedMs = performance.now();
  await Promise.all(connections.map(work));
  return performance.now() - startedMs;
}

/** Runs a peer in a process of its own: it brings packages that Baton does not depend on. */
async function runPeer(bench: Bench, name: string): Promise<PeerOutcome> {
  const main = join(import.meta.dirname, "..", "peers", "main.ts");
  const job = [
    "--tasks",
    String(tasks),
    "--agents",
    String(agents),
    "--time-limit",
    String(timeLimitSeconds),
  ];
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", main, name, ...job], {
      signal: bench.signal,
      maxBuffer: maxOutputBytes,
    });
    return JSON.parse(stdout) as PeerOutcome;
  } catch (error) {
    return { ok: false, failed: error instanceof Error ? error.message : String(error) };
  }
}
