import { Console } from "node:console";
import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Children } from "./children.ts";
import { notInstalled } from "./installed.ts";
import { type Peer, type PeerResult, Skipped } from "./peer.ts";

const peers: Record<string, () => Promise<{ run: Peer }>> = {
  restate: () => import("./restate.ts"),
  "pg-boss": () => import("./pg-boss.ts"),
  "graphile-worker": () => import("./graphile-worker.ts"),
  bullmq: () => import("./bullmq.ts"),
};

const usage = `Usage: node --import tsx bench/peers/main.ts PEER [options]

Starts the peer's server, creates tasks, works them with a fleet of agents, and prints one line of JSON:
{"ok":true,"result":…}, {"ok":false,"skipped":"what to install"} or {"ok":false,"failed":"why"}.

  PEER             one of ${Object.keys(peers).join(", ")}
  --tasks N        tasks to create and work (4000)
  --agents N       callers and agents at the same time (16)
  --data-dir DIR   where a folder for the server's data is made, and removed afterwards (${tmpdir()})
  --time-limit S   seconds after which the peer has failed (180)

Exit status: 0 when the line was printed, 2 for wrong arguments.`;

type Outcome =
  | { ok: true; result: PeerResult }
  | { ok: false; skipped: string }
  | { ok: false; failed: string };

interface Arguments {
  load: () => Promise<{ run: Peer }>;
  tasks: number;
  agents: number;
  dataDir: string;
  timeLimitMs: number;
}

/** Undefined when the arguments cannot be used. */
function readArguments(args: string[]): Arguments | undefined {
  try {
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        tasks: { type: "string", default: "4000" },
        agents: { type: "string", default: "16" },
        "data-dir": { type: "string", default: tmpdir() },
        "time-limit": { type: "string", default: "180" },
      },
    });
    const load = Object.entries(peers).find(([name]) => name === positionals[0])?.[1];
    const [tasks, agents, seconds] = [values.tasks, values.agents, values["time-limit"]].map(Number);
    if (load === undefined || positionals.length !== 1) return undefined;
    if (!isCount(tasks, 1_000_000) || !isCount(agents, 1_000) || !isCount(seconds, 86_400)) return undefined;
    return { load, tasks, agents, dataDir: values["data-dir"], timeLimitMs: seconds * 1_000 };
  } catch {
    return undefined;
  }
}

function isCount(value: number | undefined, max: number): value is number {
  return value !== undefined && Number.isInteger(value) && value >= 1 && value <= max;
}

/** Rejects with what ends the run early: a signal, the time limit, a server's end, or an error nobody waits for. */
function earlyEnd(timeLimitMs: number, children: Children): Promise<never> {
  return new Promise((_, end) => {
    // They stay listened to after the first: a second Ctrl-C must not cut the clean-up short.
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => end(new Error(`ended by ${signal}`)));
    }
    process.on("uncaughtException", end);
    process.on("unhandledRejection", end);
    setTimeout(() => end(new Error(`not done after ${timeLimitMs / 1_000} s`)), timeLimitMs);
    void children.broken.then(end);
  });
}

async function outcomeOf({ load, tasks, agents, dataDir, timeLimitMs }: Arguments): Promise<Outcome> {
  const children = new Children();
  const ended = earlyEnd(timeLimitMs, children);
  let folder: string | undefined;
  // The last resort, for an exit that a package calls for.
  process.once("exit", () => {
    children.kill();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });
  try {
    folder = await mkdtemp(join(dataDir, "baton-peer-"));
    const { run } = await Promise.race([ended, load()]);
    return {
      ok: true,
      result: await Promise.race([ended, run({ tasks, agents, dataDir: folder }, children)]),
    };
  } catch (error) {
    const outcome = failureOf(await causeOf(error, children));
    if ("failed" in outcome) console.error(children.output());
    return outcome;
  } finally {
    await children.stop();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** A client often hears of its server's end before this process does. */
async function causeOf(error: unknown, children: Children): Promise<unknown> {
  const waited = new Promise<undefined>((resolve) => setTimeout(resolve, 200));
  return (await Promise.race([children.broken, waited])) ?? error;
}

function failureOf(thrown: unknown): Outcome {
  const missing = missingPackage(thrown);
  const error = missing === undefined ? thrown : notInstalled(missing);
  if (error instanceof Skipped) return { ok: false, skipped: error.message };
  console.error(error);
  return { ok: false, failed: error instanceof Error ? error.message : String(error) };
}

/** The package that an import did not find. A missing file of this folder is an error, not a reason to skip. */
function missingPackage(error: unknown): string | undefined {
  if (!(error instanceof Error) || !("code" in error) || error.code !== "ERR_MODULE_NOT_FOUND")
    return undefined;
  return /^Cannot find package '([^']+)'/.exec(error.message)?.[1];
}

// Standard output carries the one line: what packages print goes to standard error.
globalThis.console = new Console(process.stderr);
const parsed = readArguments(process.argv.slice(2));
if (parsed === undefined) {
  console.error(usage);
  process.exitCode = 2;
} else {
  const outcome = await outcomeOf(parsed).catch(failureOf);
  // Timers and connections of a peer that was cut short would keep the process alive.
  process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0));
}
