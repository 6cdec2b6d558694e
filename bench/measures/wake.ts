import { claim, complete, mixedTask, newRun } from "../baton.ts";
import { bigRun, bigRunNote } from "../big-run.ts";
import { type Connection, withConnections } from "../connection.ts";
import type { Measure, Target } from "../measure.ts";
import { settled } from "../settled.ts";

/** Claims that warm the Worker and its connection to the server, on runs of their own. */
const warmUpRuns = 10;
const warmUpClaims = 10;
const atMost = 50;

/** What an agent waits for when it is the first to ask after a run was asleep. */
export const wake: Measure = {
  name: "wake",
  title: "The first claim after a restart, on the big run and on an empty one",
  async run(bench) {
    const big = await bigRun(bench);
    const empty: number[] = [];
    const full: number[] = [];
    const preparing = await big.serve();
    let emptyPath = await newRun(preparing, "empty run");
    await preparing.close();
    for (let round = 0; round < bench.rounds; round += 1) {
      bench.progress(`restart ${round + 1} of ${bench.rounds}`);
      const baton = await big.serve();
      await withConnections(baton, 1, async ([connection]) => {
        const only = connection as Connection;
        for (let warmUp = 0; warmUp < warmUpRuns; warmUp += 1) await warm(baton, only);
        const timeEmpty = async () => empty.push((await claim(only, emptyPath)).elapsedMs);
        const timeBig = async () => full.push(await claimAndComplete(only, big.path));
        const inOrder = round % 2 === 0 ? [timeEmpty, timeBig] : [timeBig, timeEmpty];
        for (const time of inOrder) await time();
      });
      emptyPath = await newRun(baton, "empty run");
      await settled(baton, big.path);
      await baton.close();
    }
    return {
      figures: [
        { name: "first claim, empty run", unit: "ms", rounds: empty },
        { name: "first claim, big run", unit: "ms", rounds: full },
        {
          name: "first claim, big run − empty run",
          unit: "ms",
          rounds: full.map((elapsedMs, round) => elapsedMs - (empty[round] ?? Number.NaN)),
          bar: { atMost },
        },
      ],
      notes: [
        bigRunNote,
        "A round is a restart of the server. The Worker is warmed up on other runs; both runs lie in storage, their heads saved. The claim on the empty run finds nothing and commits nothing; the one on the big run is a commit.",
      ],
    };
  },
};

async function warm(baton: Target, connection: Connection): Promise<void> {
  const path = await newRun(baton, "warm up", warmUpClaims, mixedTask);
  for (let index = 0; index < warmUpClaims; index += 1) await claimAndComplete(connection, path);
}

/** @returns how long the claim took, in milliseconds. */
async function claimAndComplete(connection: Connection, path: string): Promise<number> {
  const claimed = await claim(connection, path);
  await complete(connection, path, claimed);
  return claimed.elapsedMs;
}
