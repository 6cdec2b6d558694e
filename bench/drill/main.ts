import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { startLocalRuntime } from "../../scripts/local-runtime.ts";
import { runDrill } from "./drill.ts";
import { type Plan, parsePlan } from "./plan.ts";
import { type DrillSetting, progressLine, summary, toJson } from "./report.ts";

const usage = `Usage: npm run drill -- --plan FILE [options]

Puts a plan on a board, lets a fleet of unreliable agents work it, and audits what the server kept.

  --plan FILE          JSON lines: id, title, description, issue_type, priority, status, labels, dependencies
  --fresh              reopen tasks the plan calls finished
  --agents N           agents at work at the same time, 1 to 1000 (32)
  --crash SHARE        share of claims an agent crashes on, 0 to 0.9 (0.05)
  --fail SHARE         share of other claims whose work fails or is given back, 0 to 0.9 (0.05)
  --retry SHARE        share of commands that are sent more than once, 0 to 1 (0.05)
  --seed N             0 to 4294967295; fixes what befalls each agent (random)
  --lease-ms N         term of each lease in milliseconds, 5000 to 300000 (5000)
  --work-ms MIN-MAX    time spent on one task in milliseconds, up to 60000 (5-40)
  --base-url URL       the deployment to drill; without it a server is started, and removed afterwards
  --token TOKEN        its token; BATON_TOKEN in the environment will do as well
  --json               print the result as JSON
  --help

Exit status: 0 no violation, 1 violations or a drill that broke off, 2 wrong arguments.`;

/** The arguments cannot be used; the message says which, and what would do. */
class UsageError extends Error {
  override readonly name = "UsageError";
}

interface Arguments {
  readonly planFile: string;
  readonly fresh: boolean;
  readonly agents: number;
  readonly crash: number;
  readonly fail: number;
  readonly retry: number;
  readonly seed: number;
  readonly leaseMs: number;
  readonly workMs: { readonly min: number; readonly max: number };
  readonly server: { readonly url: string; readonly token: string } | undefined;
  readonly json: boolean;
}

/** Undefined when help was asked for. Throws {@link UsageError}. */
function readArguments(args: string[], environment: NodeJS.ProcessEnv): Arguments | undefined {
  const values = parse(args);
  if (values.help === true) return undefined;
  if (values.plan === undefined) throw new UsageError("--plan is missing: the file with the plan");
  return {
    planFile: values.plan,
    fresh: values.fresh === true,
    agents: readWhole("--agents", values.agents ?? "32", 1, 1000),
    crash: readShare("--crash", values.crash ?? "0.05", 0.9),
    fail: readShare("--fail", values.fail ?? "0.05", 0.9),
    retry: readShare("--retry", values.retry ?? "0.05", 1),
    seed: values.seed === undefined ? randomSeed() : readWhole("--seed", values.seed, 0, 2 ** 32 - 1),
    leaseMs: readWhole("--lease-ms", values["lease-ms"] ?? "5000", 5_000, 300_000),
    workMs: readRange("--work-ms", values["work-ms"] ?? "5-40", 60_000),
    server: readServer(values["base-url"], values.token, environment.BATON_TOKEN),
    json: values.json === true,
  };
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        plan: { type: "string" },
        fresh: { type: "boolean" },
        agents: { type: "string" },
        crash: { type: "string" },
        fail: { type: "string" },
        retry: { type: "string" },
        seed: { type: "string" },
        "lease-ms": { type: "string" },
        "work-ms": { type: "string" },
        "base-url": { type: "string" },
        token: { type: "string" },
        json: { type: "boolean" },
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

function readShare(name: string, text: string, max: number): number {
  const value = /^(\d+(\.\d*)?|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
  if (value >= 0 && value <= max) return value;
  throw new UsageError(`${name} must be a share from 0 to ${max}, not ${JSON.stringify(text)}`);
}

function readRange(name: string, text: string, max: number): { min: number; max: number } {
  const [, from, to] = /^(\d+)-(\d+)$/.exec(text) ?? [];
  const range = { min: Number(from), max: Number(to) };
  if (range.min <= range.max && range.max <= max) return range;
  throw new UsageError(
    `${name} must be MIN-MAX in milliseconds, at most ${max}, not ${JSON.stringify(text)}`,
  );
}

function readServer(
  baseUrl: string | undefined,
  token: string | undefined,
  tokenOfEnvironment: string | undefined,
): Arguments["server"] {
  if (baseUrl === undefined) {
    if (token !== undefined)
      throw new UsageError("--token needs --base-url: a server started here has its own");
    return undefined;
  }
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined;
  if (
    url === undefined ||
    !["http:", "https:"].includes(url.protocol) ||
    url.search !== "" ||
    url.hash !== ""
  ) {
    throw new UsageError(
      `--base-url must be an http or https URL without a query, not ${JSON.stringify(baseUrl)}`,
    );
  }
  const chosen = token ?? tokenOfEnvironment ?? "";
  // What node:http would refuse as a header later, with a message that shows the token.
  if (!/^[\x21-\x7e]+$/.test(chosen)) {
    throw new UsageError(
      "--base-url needs a token: --token, or BATON_TOKEN in the environment (printable ASCII)",
    );
  }
  return { url: baseUrl.replace(/\/+$/, ""), token: chosen };
}

function randomSeed(): number {
  return crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
}

/** Throws {@link UsageError} when the file cannot be read or holds no task. */
async function readPlan({ planFile, fresh }: Arguments): Promise<Plan> {
  let text: string;
  try {
    text = await readFile(planFile, "utf8");
  } catch (error) {
    throw new UsageError(`--plan cannot be read: ${messageOf(error)}`);
  }
  const plan = parsePlan(text, { fresh });
  if (plan.tasks.length > 0) return plan;
  throw new UsageError(`--plan ${planFile} holds no task (${plan.problems.length} unusable lines)`);
}

/** Starts a server of its own on a fresh state directory. `close` removes both, and may be called again. */
async function startServer(): Promise<{ url: string; token: string; close(): Promise<void> }> {
  const stateDir = await mkdtemp(join(tmpdir(), "baton-drill-"));
  const remove = () => rm(stateDir, { recursive: true, force: true });
  try {
    const runtime = await startLocalRuntime({ port: 0, stateDir });
    let closing: Promise<void> | undefined;
    const close = () => {
      closing ??= runtime.close().finally(remove);
      return closing;
    };
    return { url: runtime.url, token: runtime.token, close };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** Runs the drill against the given server and prints its result. Gives the exit status. */
async function drill(args: Arguments, plan: Plan, server: { url: string; token: string }): Promise<number> {
  const bar = process.stderr.isTTY && !args.json;
  const options = {
    plan,
    baseUrl: server.url,
    token: server.token,
    agents: args.agents,
    crash: args.crash,
    fail: args.fail,
    retry: args.retry,
    seed: args.seed,
    leaseMs: args.leaseMs,
    workMs: args.workMs,
  };
  const setting: DrillSetting = { planFile: args.planFile, options };
  try {
    const result = await runDrill({
      ...options,
      onProgress: (progress) => {
        if (bar)
          process.stderr.write(`\r${progressLine(progress, (process.stderr.columns || 80) - 1)}\u001b[K`);
      },
    });
    if (bar) process.stderr.write("\r\u001b[K");
    process.stdout.write(`${args.json ? toJson(setting, result) : summary(setting, result)}\n`);
    return result.violations.length === 0 ? 0 : 1;
  } catch (error) {
    if (bar) process.stderr.write("\n");
    if (args.json) process.stdout.write(`${JSON.stringify({ ok: false, error: messageOf(error) })}\n`);
    throw error;
  }
}

async function main(): Promise<number> {
  const args = readArguments(process.argv.slice(2), process.env);
  if (args === undefined) {
    process.stdout.write(`${usage}\n`);
    return 0;
  }
  const plan = await readPlan(args);
  if (args.server !== undefined) return await drill(args, plan, args.server);

  const server = await startServer();
  // An interrupted drill leaves no server and no directory behind.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(
      signal,
      () => void server.close().finally(() => process.exit(signal === "SIGINT" ? 130 : 143)),
    );
  }
  try {
    return await drill(args, plan, server);
  } finally {
    await server.close();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`drill: ${error.message}\nTry --help.\n`);
    process.exitCode = 2;
  } else {
    process.stderr.write(`drill: broken off: ${messageOf(error)}\n`);
    process.exitCode = 1;
  }
}
