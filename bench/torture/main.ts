import { readFile, writeFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { type Plan, parsePlan } from "../drill/plan.ts";
import { progressLine, summary, type TortureSetting, toJson } from "./report.ts";
import { Interrupted, Torture } from "./torture.ts";

const usage = `Usage: npm run torture [-- options]

Starts a server on fresh storage and tries to break it: drills at full load through a network that cuts, delays and swallows; SIGKILL at
random moments, and a restart on what is left; the cron at odd times; jumps of the clock. Then reads everything back and judges it.

  --kills N        how often the server is killed, 1 to 10000 (20)
  --seed N         0 to 4294967295; fixes what is done and when (random)
  --lanes N        drills at the same time, 1 to 16 (2)
  --agents N       agents of each drill, 1 to 200 (8)
  --plan FILE      the plan that all drills work, as JSON lines (each a random one of its own)
  --json FILE      write the result to this file, too, as JSON
  --help

Exit status: 0 no violation, 1 violations or a torture that broke off, 2 wrong arguments. After a violation the server's storage is kept, and
the last line says where.`;

/** Signals that end it, and the exit status after each, as a shell would tell. */
const interruptions = [
  ["SIGINT", 130],
  ["SIGTERM", 143],
  ["SIGHUP", 129],
] as const;

/** The arguments cannot be used; the message says which, and what would do. */
class UsageError extends Error {
  override readonly name = "UsageError";
}

interface Arguments {
  readonly kills: number;
  readonly seed: number;
  readonly lanes: number;
  readonly agents: number;
  readonly planFile: string | undefined;
  readonly jsonFile: string | undefined;
}

/** Undefined when help was asked for. Throws {@link UsageError}. */
function readArguments(args: string[]): Arguments | undefined {
  const values = parse(args);
  if (values.help === true) return undefined;
  return {
    kills: readWhole("--kills", values.kills ?? "20", 1, 10_000),
    seed: values.seed === undefined ? randomSeed() : readWhole("--seed", values.seed, 0, 2 ** 32 - 1),
    lanes: readWhole("--lanes", values.lanes ?? "2", 1, 16),
    agents: readWhole("--agents", values.agents ?? "8", 1, 200),
    planFile: values.plan,
    jsonFile: values.json,
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        kills: { type: "string" },
        seed: { type: "string" },
        lanes: { type: "string" },
        agents: { type: "string" },
        plan: { type: "string" },
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

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}

/** Throws {@link UsageError} when the file cannot be read or holds no task. */
async function readPlan(planFile: string): Promise<Plan> {
  let text: string;
  try {
    text = await readFile(planFile, "utf8");
  } catch (error) {
    throw new UsageError(`--plan cannot be read: ${messageOf(error)}`);
  }
  const plan = parsePlan(text, { fresh: true });
  if (plan.tasks.length > 0) return plan;
  throw new UsageError(`--plan ${planFile} holds no task (${plan.problems.length} unusable lines)`);
}

async function main(): Promise<number> {
  const args = readArguments(process.argv.slice(2));
  if (args === undefined) {
    process.stdout.write(`${usage}\n`);
    return 0;
  }
  const { kills, seed, lanes, agents, planFile, jsonFile } = args;
  const plan = planFile === undefined ? undefined : await readPlan(planFile);
  // First of all, so that it is known however the torture ends.
  process.stdout.write(`seed ${seed}\n`);
  const isTerminal = process.stderr.isTTY;
  const torture = new Torture({
    kills,
    seed,
    lanes,
    agents,
    ...(plan !== undefined && { plan }),
    onProgress: (progress) => {
      if (isTerminal) process.stderr.write(`\r${progressLine(progress, kills)}\u001b[K`);
    },
  });
  // An interrupted torture leaves no process and no directory behind, and has no result.
  let ending: Promise<number> | undefined;
  for (const [signal, status] of interruptions) {
    process.once(signal, () => {
      ending ??= torture.destroy().then(() => status);
      void ending.then((code) => process.exit(code));
    });
  }
  const setting: TortureSetting = { lanes, agents, ...(planFile !== undefined && { planFile }) };
  const result = await torture.run();
  if (ending !== undefined) return await ending;
  if (isTerminal) process.stderr.write("\r\u001b[K");
  process.stdout.write(`${summary(setting, result)}\n`);
  if (jsonFile !== undefined) await writeFile(jsonFile, `${toJson(setting, result)}\n`);
  return result.findings.some(({ violations }) => violations.length > 0) ? 1 : 0;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

main().then(
  // Whatever was given up for hanging must not keep the program from its end.
  (status) => process.exit(status),
  (error: unknown) => {
    // Whoever interrupted it ends the program, once all is cleared away.
    if (error instanceof Interrupted) return;
    const isUsage = error instanceof UsageError;
    process.stderr.write(
      `torture: ${isUsage ? `${error.message}\nTry --help.` : `broken off: ${messageOf(error)}`}\n`,
    );
    process.exit(isUsage ? 2 : 1);
  },
);
