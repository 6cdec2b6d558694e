import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { contextPath, newRun } from "./baton.ts";
import { accepted, type Connection, withConnections } from "./connection.ts";
import { startCountedBaton } from "./counted-baton.ts";
import { Deliveries, numberedNote } from "./deliveries.ts";
import type { Bench, Figure, Target } from "./measure.ts";
import { settled } from "./settled.ts";
import { withWatchers } from "./watchers.ts";

const watchers = 100;
/** The platform evicts an object that has had nothing to do for 10 seconds. */
const idleMs = 15_000;
const patienceMs = 10_000;

/** How to read the figures of the idle run. */
export const idleNote = `The idle run has ${watchers} watchers and no commit for ${idleMs / 1000} s. Its object is constructed when the run is created, and again for the next commit if it was evicted until then. To count that, the bench serves a Worker of its own, with Baton in it.`;

interface Woken {
  constructionsBefore: number;
  constructions: number;
  unreached: number;
  lastMs: number;
}

/** Whether a run that is watched and idle costs nothing: its object must be evicted, and its watchers must not notice. */
export async function idleWatchers(bench: Bench): Promise<Figure[]> {
  const stateDir = await bench.directory("counted");
  const baton = await bench.serve(() => startCountedBaton(stateDir));
  const found: Woken[] = [];
  for (let round = 0; round < bench.rounds; round += 1) {
    bench.progress(`idle for ${idleMs / 1000} s, ${round + 1} of ${bench.rounds}`);
    found.push(await wake(baton));
  }
  await baton.close();
  const of = (member: keyof Woken) => found.map((one) => one[member]);
  return [
    {
      name: "constructions of an idle run's object, before its next commit",
      unit: "times",
      rounds: of("constructionsBefore"),
    },
    {
      name: "constructions of an idle run's object, with its next commit",
      unit: "times",
      rounds: of("constructions"),
      bar: { atLeast: 2 },
    },
    {
      name: `idle watchers of ${watchers} that the commit did not reach`,
      unit: "watchers",
      rounds: of("unreached"),
      bar: { neverOver: 0 },
    },
    { name: "from sending that commit to the last of them", unit: "ms", rounds: of("lastMs") },
  ];
}

async function wake(baton: Target): Promise<Woken> {
  const path = await newRun(baton, "idle");
  const deliveries = new Deliveries({ watchers, notes: 1, uncounted: 0 });
  const stream = `${contextPath(path)}/events/stream`;
  const options = { path: stream, watchers, received: deliveries.received.bind(deliveries) };
  return withWatchers(baton, options, async () => {
    // What follows a commit by itself is over then: nothing but the watchers could keep the object.
    await settled(baton, path);
    await delay(idleMs);
    return withConnections(baton, 1, async ([connection]) => {
      const only = connection as Connection;
      const constructions = () => only.read<number>(`/bench/constructions/${basename(path)}`);
      const constructionsBefore = await constructions();
      deliveries.sending(0);
      accepted(path, await only.post(`${path}/events`, numberedNote(0)));
      await Promise.race([deliveries.whole(), delay(patienceMs)]);
      return {
        constructionsBefore,
        constructions: await constructions(),
        unreached: watchers - deliveries.latencies.length,
        lastMs: Math.max(...deliveries.latencies),
      };
    });
  });
}
