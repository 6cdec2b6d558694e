import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { bundleWorker } from "../scripts/bundle.ts";
import { serveWorker } from "../scripts/serve-worker.ts";
import { readWorkerConfig } from "../scripts/worker-config.ts";
import { accepted, type Connection, withConnections } from "./connection.ts";
import { interleave } from "./drive.ts";
import type { Bench } from "./measure.ts";
import { median } from "./stats.ts";

const projectDir = join(import.meta.dirname, "..");

/** A Worker that has nothing to start. */
const emptyWorker = `export default { fetch() { return new Response("ok"); } };`;

/** Starts per round: the median of a few is steadier than one. */
const startsPerRound = 5;
/** The runtime's other threads tidy up for some milliseconds after an answer. */
const tidyUpMs = 20;

/**
 * What starting a Worker costs in CPU time, in milliseconds, once per round: parsing it, evaluating its top level and
 * answering its first health request, less the same for an empty Worker. The CPU time is that of all threads of workerd.
 *
 * @param code the text of the Worker's only module.
 * @throws Error when the system does not tell CPU time by thread.
 */
export async function startupCpuMs(bench: Bench, code: string): Promise<number[]> {
  const { compatibility_date: compatibilityDate, compatibility_flags: compatibilityFlags } =
    await readWorkerConfig(projectDir);
  const stateDir = await bench.directory("startup");
  const text = (value: string) => ({ type: "text" as const, value });
  const { url, close } = await bench.serve(() =>
    serveWorker({
      port: 0,
      stateDir,
      worker: async () => ({
        name: "starter",
        compatibilityDate,
        manifest: {
          mainModule: "index.js",
          modulesRoot: "/",
          modules: {
            "index.js": { type: "esm", contents: bundleWorker(projectDir, "bench/raw/starter.ts") },
          },
        },
        env: {
          LOADER: { type: "worker-loader" },
          COMPATIBILITY: { type: "json", value: { compatibilityDate, compatibilityFlags } },
          WORKER: text(code),
          EMPTY: text(emptyWorker),
        },
      }),
    }),
  );
  const workerd = Number.parseInt(readFileSync(join(stateDir, "workerd"), "utf8"), 10);
  const differences = await withConnections({ url, token: "" }, 1, async ([connection]) => {
    const start = async (path: string): Promise<number> => {
      const beforeMs = cpuMs(workerd);
      accepted(path, await (connection as Connection).get(path));
      await delay(tidyUpMs);
      return cpuMs(workerd) - beforeMs;
    };
    const { difference } = await interleave(bench.rounds, {
      difference: async () => {
        const found: number[] = [];
        for (let index = 0; index < startsPerRound; index += 1) {
          found.push((await start("/worker")) - (await start("/empty")));
        }
        return median(found);
      },
    });
    return difference;
  });
  await close();
  return differences;
}

/** The CPU time that a process's threads have used so far, in milliseconds; to the nanosecond, unlike `ps`. */
function cpuMs(pid: number): number {
  if (process.platform !== "linux") throw new Error("start-up CPU can be read on Linux only");
  const tasks = `/proc/${pid}/task`;
  const nanoseconds = readdirSync(tasks).map((task) =>
    Number.parseInt(readFileSync(join(tasks, task, "schedstat"), "utf8"), 10),
  );
  return nanoseconds.reduce((sum, value) => sum + value, 0) / 1e6;
}
