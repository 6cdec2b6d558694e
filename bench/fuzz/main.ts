import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startLocalRuntime } from "../../scripts/local-runtime.ts";
import { runFuzz } from "./fuzz.ts";
import { freePort, Memory } from "./memory.ts";
import { isGood, summary, toJson } from "./report.ts";

const usage = `Usage: npm run fuzz [-- options]

Starts a server, fills it with runs, tokens, hooks and the like, and sends requests to every route: fitting ones, ones that are wrong
in one place, and garbage. Looks whether any is answered 5xx, or not at all, or is refused and has changed something all the same.

  --requests N   how many, 1 to 10000000 (20000)
  --seed N       0 to 4294967295; fixes what is drawn for each request (random)
  --json FILE    write the result there as JSON, too
  --help

Exit status: 0 nothing was found, 1 something was, or the fuzz broke off, 2 wrong arguments.`;

/** The arguments cannot be used; the message says which, and what would do. */
class UsageError extends Error {
  override readonly name = "UsageError";
}

interface Arguments {
  readonly requests: number;
  readonly seed: number;
  readonly jsonFile: string | undefined;
}

/** Undefined when help was asked for. Throws {@link UsageError}. */
function readArguments(args: string[]): Arguments | undefined {
  const values = parse(args);
  if (values.help === true) return undefined;
  return {
    requests: readWhole("--requests", values.requests ?? "20000", 1, 10_000_000),
    seed:
      values.seed === undefined
        ? (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0)
        : readWhole("--seed", values.seed, 0, 2 ** 32 - 1),
    jsonFile: values.json,
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        requests: { type: "string" },
        seed: { type: "string" },
        json: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    throw new UsageError(messageOf(error));
  }
}

function readWhole(name: string, text: string, min: number, max: number): number {
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(`${name} must be a whole number from ${min} to ${max}, not ${JSON.stringify(text)}`);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

async function main(): Promise<number> {
  const args = readArguments(process.argv.slice(2));
  if (args === undefined) {
    process.stdout.write(`${usage}\n`);
    return 0;
  }
  const stateDir = await mkdtemp(join(tmpdir(), "baton-fuzz-"));
  const remove = () => rm(stateDir, { recursive: true, force: true, maxRetries: 5 });
  // Refusals are what most of this is about; a line for each would say nothing.
  const vars = { REQUEST_LOG: "none" };
  const main = "bench/raw/fuzz/watched-baton.ts";
  const inspectorPort = await freePort();
  const starting = startLocalRuntime({ port: 0, stateDir, main, vars, inspectorPort });
  let closing: Promise<void> | undefined;
  const close = () => {
    closing ??= starting.then((runtime) => runtime.close()).finally(remove);
    return closing;
  };
  // An interrupted fuzz leaves no server and no directory behind.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void close().finally(() => process.exit(signal === "SIGINT" ? 130 : 143)));
  }
  try {
    const server = await starting;
    const memory = await Memory.of(stateDir, inspectorPort);
    const isWatched = process.stderr.isTTY;
    const result = await runFuzz({
      server,
      requests: args.requests,
      seed: args.seed,
      memory,
      runCron: () => server.runCron(),
      onProgress: (done) => {
        if (isWatched) process.stderr.write(`\r${done}/${args.requests}\u001b[K`);
      },
    });
    memory.close();
    if (isWatched) process.stderr.write("\r\u001b[K");
    process.stdout.write(`${summary(result)}\n`);
    if (args.jsonFile !== undefined) await writeFile(args.jsonFile, `${toJson(result)}\n`);
    return isGood(result) ? 0 : 1;
  } finally {
    await close();
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  const isUsage = error instanceof UsageError;
  process.stderr.write(
    `fuzz: ${isUsage ? "" : "broken off: "}${messageOf(error)}\n${isUsage ? "Try --help.\n" : ""}`,
  );
  process.exitCode = isUsage ? 2 : 1;
}
