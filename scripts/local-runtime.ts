import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { type BuildFailure, buildSync } from "esbuild";
import { Log, LogLevel, Miniflare, type MiniflareOptions, type WorkerdStructuredLog } from "miniflare";
import { applyMigrations, readMigrations } from "./migrations.ts";
import { reasonOf, StartError } from "./start-error.ts";
import { claimStateDir } from "./state-claim.ts";
import { loadToken } from "./token.ts";
import { readWorkerConfig, type WorkerConfig } from "./worker-config.ts";

const projectDir = join(import.meta.dirname, "..");
const host = "127.0.0.1";

/** The Worker with its Durable Objects, D1 and R2, served on this machine. */
export interface LocalRuntime {
  /** Where requests are answered, without a slash at the end. */
  url: string;
  /** The token that requests must present. */
  token: string;
  /**
   * Runs the Worker's scheduled handler once for each cron of wrangler.toml.
   *
   * @param scheduledAtMs the time it is told, epoch milliseconds; now when absent.
   * @throws Error when the handler failed.
   */
  runCron(scheduledAtMs?: number): Promise<void>;
  /** Stops the runtime and gives the state directory free. Acknowledged writes are on disk already. */
  close(): Promise<void>;
}

/**
 * Bundles the Worker and serves it from workerd with the bindings of wrangler.toml. Returns when requests are answered.
 *
 * @throws StartError when the port is taken, the state directory is in use or unusable, the token is malformed, or the
 * Worker does not build.
 */
export async function startLocalRuntime(options: {
  /** 0 takes any free port. */
  port: number;
  /** Holds everything that outlives the process; made if missing. */
  stateDir: string;
  /** When absent, a random one is made and kept in the state directory. */
  token?: string;
}): Promise<LocalRuntime> {
  if (process.platform === "win32")
    throw new StartError("the local start needs Linux or macOS (or WSL on Windows)");
  const stateDir = resolve(options.stateDir);
  const config = await readWorkerConfig(projectDir);
  const code = bundleWorker(config.main);
  const claim = await claimStateDir(stateDir);
  // For an exit without close(): Miniflare's own exit hook then ends workerd.
  process.once("exit", claim.release);
  const release = (): void => {
    process.removeListener("exit", claim.release);
    claim.release();
  };
  let miniflare: Miniflare | undefined;
  try {
    const token = await loadToken(stateDir, options.token);
    guardWorkerd();
    miniflare = createMiniflare({
      host,
      port: 0,
      cf: false,
      log: new Log(LogLevel.WARN),
      logRequests: false,
      enableDevRegistry: false,
      handleStructuredLogs: printLog,
      resourcePersistencePath: join(stateDir, "storage"),
      unsafeRuntimeEnv: { BATON_WORKERD_RECORD: claim.runtimeRecord },
      workers: [
        {
          config: workerOptions(config, code, token),
          // Requests go straight to the Worker: Miniflare's own entry in front of it costs more than half the throughput.
          dev: { unsafeDirectSockets: [{ host, port: options.port }] },
        },
      ],
    });
    const running = miniflare;
    await running.ready.catch((error: unknown) => {
      throw asStartError(error, options.port);
    });
    for (const { binding, migrations_dir } of config.d1_databases) {
      const migrations = await readMigrations(join(projectDir, migrations_dir));
      await migrate(running, binding, migrations, stateDir);
    }
    const { origin: url } = await running.unsafeGetDirectURL(config.name);
    await (await fetch(`${url}/global/health`)).arrayBuffer();
    return {
      url,
      token,
      runCron: async (scheduledAtMs = Date.now()) => {
        const worker = await running.getWorker(config.name);
        for (const cron of config.triggers.crons) {
          const { outcome } = await worker.scheduled({ cron, scheduledTime: new Date(scheduledAtMs) });
          if (outcome !== "ok") throw new Error(`the scheduled handler failed (${outcome})`);
        }
      },
      close: async () => {
        await running.dispose();
        release();
      },
    };
  } catch (error) {
    await miniflare?.dispose().catch(() => undefined);
    release();
    throw error;
  }
}

function bundleWorker(main: string): string {
  try {
    // The synchronous form leaves no esbuild process behind.
    const { outputFiles } = buildSync({
      absWorkingDir: projectDir,
      entryPoints: [main],
      bundle: true,
      write: false,
      format: "esm",
      target: "es2024",
      conditions: ["workerd", "worker", "browser"],
      mainFields: ["module", "main"],
      external: ["cloudflare:*", "node:*"],
      sourcemap: "inline",
      logLevel: "silent",
    });
    return outputFiles[0]?.text ?? "";
  } catch (error) {
    const first = (error as Partial<BuildFailure>).errors?.[0];
    const place = first?.location ? `${first.location.file}:${first.location.line}: ` : "";
    throw new StartError(`the Worker does not build: ${place}${first?.text ?? reasonOf(error)}`);
  }
}

function workerOptions(
  config: WorkerConfig,
  code: string,
  token: string,
): MiniflareOptions["workers"][number]["config"] {
  const env: NonNullable<MiniflareOptions["workers"][number]["config"]["env"]> = {};
  for (const [name, value] of Object.entries(config.vars)) env[name] = { type: "text", value };
  for (const { name, class_name } of config.durable_objects.bindings) {
    env[name] = { type: "durable-object", worker: config.name, exportName: class_name };
  }
  for (const { binding, database_id } of config.d1_databases) env[binding] = { type: "d1", id: database_id };
  for (const { binding, bucket_name } of config.r2_buckets) env[binding] = { type: "r2", name: bucket_name };
  env.BATON_TOKEN = { type: "text", value: token };
  return {
    name: config.name,
    compatibilityDate: config.compatibility_date,
    compatibilityFlags: config.compatibility_flags,
    manifest: {
      mainModule: "index.js",
      modulesRoot: "/",
      modules: { "index.js": { type: "esm", contents: code } },
    },
    env,
    exports: config.exports,
    triggers: config.triggers.crons.map((schedule) => ({ type: "scheduled", schedule })),
  };
}

/** Signals are the caller's: Miniflare would exit on them before anything could be closed in order. */
function createMiniflare(options: MiniflareOptions): Miniflare {
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  const before = new Map(signals.map((signal) => [signal, process.listeners(signal)]));
  const miniflare = new Miniflare(options);
  for (const [signal, kept] of before) {
    for (const listener of process.listeners(signal)) {
      if (!kept.includes(listener)) process.removeListener(signal, listener);
    }
  }
  return miniflare;
}

/** Makes Miniflare start workerd through workerd.sh; it reads the variable at every start, also after a crash. */
function guardWorkerd(): void {
  const wrapper = join(projectDir, "scripts", "workerd.sh");
  if (process.env.MINIFLARE_WORKERD_PATH === wrapper) return;
  const fromHere = createRequire(import.meta.url);
  const workerd = createRequire(fromHere.resolve("miniflare"))("workerd") as { default: string };
  process.env.BATON_WORKERD = workerd.default;
  process.env.MINIFLARE_WORKERD_PATH = wrapper;
}

async function migrate(
  miniflare: Miniflare,
  binding: string,
  migrations: Awaited<ReturnType<typeof readMigrations>>,
  stateDir: string,
): Promise<void> {
  const database = await miniflare.getD1Database(binding);
  await applyMigrations(database, migrations).catch((error: unknown) => {
    throw new StartError(`the database ${binding} in ${stateDir} cannot be used: ${reasonOf(error)}`);
  });
}

function asStartError(error: unknown, port: number): StartError {
  if ((error as { code?: unknown }).code === "ERR_ADDRESS_IN_USE") {
    return new StartError(`port ${port} of ${host} is already in use; choose another one with PORT`);
  }
  // What workerd had to say about it has been printed by then.
  return new StartError(`the Workers runtime did not start: ${reasonOf(error)}`);
}

/** What the Worker logs, and workerd's own errors. */
function printLog({ level, message }: WorkerdStructuredLog): void {
  if (level === "error" || level === "warn") console.error(message);
  else console.log(message);
}
