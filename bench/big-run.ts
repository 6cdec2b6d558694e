import { basename } from "node:path";
import { type LocalRuntime, startLocalRuntime } from "../scripts/local-runtime.ts";
import { noteEvent } from "./appends.ts";
import { mixedTask, newRun } from "./baton.ts";
import { accepted, type Connection, withConnections } from "./connection.ts";
import { extendLog } from "./extend-log.ts";
import type { Bench, Target } from "./measure.ts";
import { settled } from "./settled.ts";

/** A run larger than any that is expected, on storage of its own. */
export interface BigRun {
  /** Like `/v1/runs/run-1`, on the servers that `serve` starts. */
  path: string;
  /** Starts a server on the run's storage; one at a time. */
  serve(): Promise<LocalRuntime>;
}

export const bigRunTasks = 100_000;
export const bigRunCommits = 1_000_000;

/** How to read figures of the big run. */
export const bigRunNote = `The big run has ${bigRunTasks.toLocaleString("en")} tasks, created through the API, and ${bigRunCommits.toLocaleString("en")} commits. Those past the tasks' own were written into its storage directly: copies of one appended event, each with its own id, seq, time and revision.`;

let built: Promise<BigRun> | undefined;

/** The big run, built by the first measure that asks. */
export function bigRun(bench: Bench): Promise<BigRun> {
  built ??= build(bench);
  return built;
}

async function build(bench: Bench): Promise<BigRun> {
  const stateDir = await bench.directory("big-run");
  const serve = () => bench.serve(() => startLocalRuntime({ port: 0, stateDir }));

  bench.progress(`creating ${bigRunTasks} tasks`);
  const first = await serve();
  const path = await newRun(first, "big run", bigRunTasks, mixedTask);
  const events = `${path}/events`;
  await withConnections(first, 1, async ([connection]) =>
    accepted(events, await (connection as Connection).post(events, noteEvent)),
  );
  await settled(first, path);
  await first.close();

  bench.progress(`writing commits up to ${bigRunCommits}`);
  await extendLog({ stateDir, runId: basename(path), lastSeq: bigRunCommits, signal: bench.signal });

  const second = await serve();
  await check(second, path);
  await settled(second, path);
  await second.close();
  return { path, serve };
}

/** What the storage was given must be what the API tells. @throws Error */
function check(baton: Target, path: string): Promise<void> {
  return withConnections(baton, 1, async ([connection]) => {
    const only = connection as Connection;
    const { run } = await only.read<{
      run: { last_event_seq: number; revision: number; task_counts: { total: number } };
    }>(path);
    const found = [run.last_event_seq, run.revision, run.task_counts.total];
    const expected = [bigRunCommits, bigRunCommits + 1, bigRunTasks];
    if (String(found) !== String(expected)) throw new Error(`the big run has ${found}, not ${expected}`);
    for (const since of [bigRunTasks - 10, bigRunCommits - 20]) {
      const { events } = await only.read<{ events: { seq: number; revision: number }[] }>(
        `${path}/events?since_seq=${since}&limit=20`,
      );
      const isWhole = events.every(
        ({ seq, revision }, index) => seq === since + 1 + index && revision === seq + 1,
      );
      if (events.length !== 20 || !isWhole) throw new Error(`the big run's log is broken after ${since}`);
    }
  });
}
