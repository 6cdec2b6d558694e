import { noteEvent } from "../appends.ts";
import { type Claimed, claim, complete, mixedTask, newRun } from "../baton.ts";
import { bigRun, bigRunCommits, bigRunNote, bigRunTasks } from "../big-run.ts";
import { accepted, type Connection, withConnections } from "../connection.ts";
import { interleave } from "../drive.ts";
import type { Bench, Measure, Target } from "../measure.ts";
import { median, ratios } from "../stats.ts";

const smallRunTasks = 100;
/** After so many claims a small run is replaced: it must stay small, and must not run out of ready tasks. */
const claimsPerSmallRun = 50;
/** Of some 80 KB each; the write-ahead log of SQLite begins anew after 4 MB. */
const checkpointsPerSmallRun = 60;
const atMost = 1.2;

/** In the order in which they are sent. */
const operations = ["append", "claim", "complete", "list the tail"] as const;
type Operation = (typeof operations)[number];
type Size = "small" | "big";

/** Median latencies of one round, in milliseconds. */
type Medians = Record<Operation, Record<Size, number>>;

/** Whether a run becomes slow as it grows. */
export const growth: Measure = {
  name: "growth",
  title: `Operations on a run of ${bigRunTasks.toLocaleString("en")} tasks and ${bigRunCommits.toLocaleString("en")} commits, against a run of ${smallRunTasks} tasks`,
  async run(bench) {
    const big = await bigRun(bench);
    const baton = await big.serve();
    bench.progress("big and small run in turn");
    const { medians } = await interleave(bench.rounds, {
      medians: () => measureRound(bench, baton, big.path),
    });
    await baton.close();
    return {
      figures: operations.flatMap((operation) => {
        const of = (size: Size) => medians.map((round) => round[operation][size]);
        return [
          { name: `${operation}, small run, median`, unit: "ms", rounds: of("small") },
          { name: `${operation}, big run, median`, unit: "ms", rounds: of("big") },
          {
            name: `${operation}, big ÷ small`,
            unit: "x",
            rounds: ratios(of("big"), of("small")),
            bar: { atMost },
          },
        ];
      }),
      notes: [
        bigRunNote,
        `One connection to one server, each request to the one run and then to the other. A small run is replaced after ${claimsPerSmallRun} claims, at some ${smallRunTasks + 3 * claimsPerSmallRun} commits.`,
        "Checkpoints fill a small run's write-ahead log once before it is measured: until then its writes are slower than those of a run in use, which would flatter the big run.",
      ],
    };
  },
};

/** One run under test. */
interface Subject {
  path: string;
  /** The task that was claimed last, for completing it. */
  claimed: Claimed | null;
  /** Latencies in milliseconds. */
  latencies: Record<Operation, number[]>;
}

function measureRound(bench: Bench, baton: Target, bigPath: string): Promise<Medians> {
  const big = newSubject(bigPath);
  const small = newSubject("");
  // Every operation's share of the round is as long as any other subject's.
  const endMs = performance.now() + bench.roundMs * operations.length;
  return withConnections(baton, 1, async ([connection]) => {
    do {
      small.path = await newSmallRun(baton, connection as Connection);
      for (let cycle = 0; cycle < claimsPerSmallRun; cycle += 1) {
        const subjects = cycle % 2 === 0 ? [big, small] : [small, big];
        for (const operation of operations) {
          for (const subject of subjects) {
            const { elapsedMs } = await send(connection as Connection, operation, subject);
            subject.latencies[operation].push(elapsedMs);
          }
        }
      }
    } while (performance.now() < endMs);
    const medians = operations.map((operation) => [
      operation,
      { small: median(small.latencies[operation]), big: median(big.latencies[operation]) },
    ]);
    return Object.fromEntries(medians) as Medians;
  });
}

/**
 * A small run whose storage has been written to before. A database's first 4 MB of writes are slower, because each
 * makes its write-ahead log longer: beside a small run that has only just begun, the big one would look too good.
 * Checkpoints are no commits, and one takes the place of the other, so the run stays small.
 */
async function newSmallRun(baton: Target, connection: Connection): Promise<string> {
  const path = await newRun(baton, "small run", smallRunTasks, mixedTask);
  for (let index = 0; index < checkpointsPerSmallRun; index += 1) {
    await connection.call(`${path}/checkpoints`, { reason: "growth" });
  }
  return path;
}

function newSubject(path: string): Subject {
  return { path, claimed: null, latencies: { append: [], claim: [], complete: [], "list the tail": [] } };
}

async function send(
  connection: Connection,
  operation: Operation,
  subject: Subject,
): Promise<{ elapsedMs: number }> {
  const { path, claimed } = subject;
  switch (operation) {
    case "append":
      return accepted(path, await connection.post(`${path}/events`, noteEvent));
    case "claim":
      subject.claimed = await claim(connection, path);
      return subject.claimed;
    case "complete":
      if (claimed === null) throw new Error(`nothing of ${path} was claimed`);
      return complete(connection, path, claimed);
    case "list the tail":
      return accepted(path, await connection.get(`${path}/events?tail=20`));
  }
}
