import { contextPath, newRun } from "../baton.ts";
import { type Connection, withConnections } from "../connection.ts";
import { interleave } from "../drive.ts";
import { fanOut, type Latency, paceMs, type Watched, watchers } from "../fan-out.ts";
import { idleNote, idleWatchers } from "../idle-watchers.ts";
import type { Bench, Figure, Measure, Target } from "../measure.ts";
import { ratios } from "../stats.ts";

const busyRuns = 50;
/** Rounds are paced, so they must be longer than others for as many samples: a hundredth must be more than one note. */
const roundsTimes = 4;
/** Baton's slowest hundredth may take this many times as long as that of objects that can sleep as Baton's can. */
const slowest = { atMost: 1.5 };

/** Live streams with many watchers, against what the platform's own fan-out does with nothing on it. */
export const fanout: Measure = {
  name: "fanout",
  title: `${watchers} watchers of one run, and of a workspace of ${busyRuns} busy runs, against the raw platform`,
  async run(bench) {
    return {
      figures: [
        ...(await compare(bench, "one run", { publish: publishRaw, watchBaton: watchRun })),
        ...(await compare(bench, "workspace", { publish: sourcesRaw, watchBaton: watchWorkspace })),
        ...(await idleWatchers(bench)),
      ],
      notes: [
        `A note is posted every ${paceMs} ms at most, ${1000 / paceMs} a second in all; those to a workspace go to its runs in turn. A latency is from sending the request that posts it to the receipt of its event by one watcher. Every watcher must receive every note exactly once, or the measure fails.`,
        "Raw, one run: one insert, then a send to every watcher. Raw, workspace: one insert in each of as many objects, and a call from there to the one that is watched, which does the same again.",
        "Raw hibernating: the watched object has a hibernatable socket to every watcher's request in the Worker, which passes on what it receives. Raw awake: the watched object writes the responses itself, and can never sleep.",
        `The load runs in one process beside the server. A round lasts ${roundsTimes} times as long as other measures'.`,
        idleNote,
      ],
    };
  },
};

interface Scenario {
  /** Where notes are posted to the raw platform, for a feed of that path. */
  publish(feed: string): string[];
  /** Prepares a stream of Baton's that nobody has used before. */
  watchBaton(baton: Target): Promise<Watched>;
}

async function compare(bench: Bench, scope: string, { publish, watchBaton }: Scenario): Promise<Figure[]> {
  const [baton, raw] = [await bench.baton(), await bench.raw()];
  bench.progress(scope);
  const durationMs = bench.roundMs * roundsTimes;
  const watchRaw = (way: "hibernating" | "awake") => () => {
    const feed = `/feed/${crypto.randomUUID()}`;
    return fanOut({ target: raw, stream: `${feed}/${way}`, sources: publish(feed) }, durationMs);
  };
  const { hibernating, awake, watched } = await interleave(bench.rounds, {
    hibernating: watchRaw("hibernating"),
    awake: watchRaw("awake"),
    watched: async () => fanOut(await watchBaton(baton), durationMs),
  });
  const of = (rounds: Latency[], member: keyof Latency) => rounds.map((round) => round[member]);
  const figures = (member: keyof Latency, name: string, bar?: Figure["bar"]): Figure[] => {
    const [asleep, awakened, ours] = [of(hibernating, member), of(awake, member), of(watched, member)];
    return [
      { name: `raw hibernating, ${name}, ${scope}`, unit: "ms", rounds: asleep },
      { name: `raw awake, ${name}, ${scope}`, unit: "ms", rounds: awakened },
      { name: `Baton, ${name}, ${scope}`, unit: "ms", rounds: ours },
      {
        name: `Baton ÷ raw hibernating, ${name}, ${scope}`,
        unit: "x",
        rounds: ratios(ours, asleep),
        ...(bar !== undefined && { bar }),
      },
      { name: `Baton ÷ raw awake, ${name}, ${scope}`, unit: "x", rounds: ratios(ours, awakened) },
    ];
  };
  return [...figures("p50Ms", "p50"), ...figures("p99Ms", "p99", slowest)];
}

function publishRaw(feed: string): string[] {
  return [`${feed}/publish`];
}

function sourcesRaw(feed: string): string[] {
  return Array.from({ length: busyRuns }, (_, index) => `${feed}/source/${index}`);
}

async function watchRun(baton: Target): Promise<Watched> {
  const path = contextPath(await newRun(baton, "fanout"));
  return { target: baton, stream: `${path}/events/stream`, sources: [`${path}/events`] };
}

async function watchWorkspace(baton: Target): Promise<Watched> {
  const canonical_path = `/bench/ws-${crypto.randomUUID()}`;
  const run = { objective: "fanout", workspace: { workspace_id: "w", canonical_path, lease_epoch: 0 } };
  const sources = await withConnections(baton, 1, async ([connection]) => {
    const paths: string[] = [];
    for (let index = 0; index < busyRuns; index += 1) {
      const created = await (connection as Connection).call<{ run: { run_id: string } }>(
        "/context/runs",
        run,
      );
      paths.push(`/context/runs/${created.run.run_id}/events`);
    }
    return paths;
  });
  const stream = `/context/runs/events/stream?workspace=${encodeURIComponent(canonical_path)}&tail=1`;
  return { target: baton, stream, sources };
}
