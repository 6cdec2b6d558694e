import { join, resolve } from "node:path";
import type { Miniflare } from "miniflare";
import { bundleWorker } from "./bundle.ts";
import { LOCAL_VARS } from "./local-vars.ts";
import { applyMigrations, readMigrations } from "./migrations.ts";
import { loadKeys, loadToken } from "./secrets.ts";
import { serveWorker, type WorkerDefinition } from "./serve-worker.ts";
import { reasonOf, StartError } from "./start-error.ts";
import { readWorkerConfig, type WorkerConfig } from "./worker-config.ts";

const projectDir = join(import.meta.dirname, "..");

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
  /** Resolves when workerd has ended and cannot be started again: nothing is served any more. Never rejects. */
  lost: Promise<StartError>;
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
  /** The secret BATON_KEYS. When absent, a random one is made and kept in the state directory. */
  keys?: string;
  /** Variables of the Worker, in place of those of wrangler.toml and of the local start's own. */
  vars?: Record<string, string>;
  /** The module to serve, from the project's directory, in place of the one that wrangler.toml names. */
  main?: string;
  /** Where a debugger reaches the Worker's isolate, at this machine; nowhere when absent. */
  inspectorPort?: number;
}): Promise<LocalRuntime> {
  if (process.platform === "win32")
    throw new StartError("the local start needs Linux or macOS (or WSL on Windows)");
  const stateDir = resolve(options.stateDir);
  const config = await readWorkerConfig(projectDir);
  const code = bundleWorker(projectDir, options.main ?? config.main);
  let secrets = { token: "", keys: "" };
  const { url, miniflare, lost, close } = await serveWorker({
    port: options.port,
    stateDir,
    inspectorPort: options.inspectorPort,
    worker: async () => {
      secrets = {
        token: await loadToken(stateDir, options.token),
        keys: await loadKeys(stateDir, options.keys),
      };
      return workerDefinition(
        { ...config, vars: { ...config.vars, ...LOCAL_VARS, ...options.vars } },
        code,
        secrets,
      );
    },
    // Whoever waits for health to be answered then finds the directory there.
    prepare: async (preparing) => {
      for (const { binding, migrations_dir } of config.d1_databases) {
        const migrations = await readMigrations(join(projectDir, migrations_dir));
        await migrate(preparing, binding, migrations, stateDir);
      }
    },
  });
  try {
    await (await fetch(`${url}/global/health`)).arrayBuffer();
  } catch (error) {
    await close().catch(() => undefined);
    throw error;
  }
  return {
    url,
    token: secrets.token,
    runCron: async (scheduledAtMs = Date.now()) => {
      const worker = await miniflare.getWorker(config.name);
      for (const cron of config.triggers.crons) {
        const { outcome } = await worker.scheduled({ cron, scheduledTime: new Date(scheduledAtMs) });
        if (outcome !== "ok") throw new Error(`the scheduled handler failed (${outcome})`);
      }
    },
    lost,
    close,
  };
}

function workerDefinition(
  config: WorkerConfig,
  code: string,
  { token, keys }: { token: string; keys: string },
): WorkerDefinition {
  const env: NonNullable<WorkerDefinition["env"]> = {};
  for (const [name, value] of Object.entries(config.vars)) env[name] = { type: "text", value };
  for (const { name, class_name } of config.durable_objects.bindings) {
    env[name] = { type: "durable-object", worker: config.name, exportName: class_name };
  }
  for (const { binding, database_id } of config.d1_databases) env[binding] = { type: "d1", id: database_id };
  for (const { binding, bucket_name } of config.r2_buckets) env[binding] = { type: "r2", name: bucket_name };
  for (const { name, namespace_id, simple } of config.ratelimits) {
    env[name] = { type: "rate-limit", namespace: namespace_id, simple };
  }
  env.BATON_TOKEN = { type: "text", value: token };
  env.BATON_KEYS = { type: "text", value: keys };
  // Receivers of webhooks are on this machine too, without certificates.
  env.WEBHOOK_TARGETS = { type: "text", value: "any" };
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
