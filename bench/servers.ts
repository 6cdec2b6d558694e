import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { bundleWorker } from "../scripts/bundle.ts";
import { startLocalRuntime } from "../scripts/local-runtime.ts";
import { serveWorker } from "../scripts/serve-worker.ts";
import { readWorkerConfig } from "../scripts/worker-config.ts";
import type { Bench, Target } from "./measure.ts";

const projectDir = join(import.meta.dirname, "..");

/** The raw platform takes any. */
const rawToken = "raw";

/**
 * The servers of one bench run, each started when first asked for, on storage of its own below `parentDir`. `close`
 * ends the servers and removes the storage.
 */
export async function benchServers(
  parentDir: string,
): Promise<Pick<Bench, "baton" | "raw" | "directory"> & { close(): Promise<void> }> {
  await mkdir(parentDir, { recursive: true });
  const dir = await mkdtemp(join(parentDir, "bench-"));
  const closers: (() => Promise<void>)[] = [];
  const once = <T>(start: () => Promise<T>): (() => Promise<T>) => {
    let started: Promise<T> | undefined;
    return () => {
      started ??= start();
      return started;
    };
  };
  return {
    baton: once(async () => {
      const runtime = await startLocalRuntime({ port: 0, stateDir: join(dir, "baton") });
      closers.push(() => runtime.close());
      return runtime;
    }),
    raw: once(async () => {
      const { target, close } = await startRaw(join(dir, "raw"));
      closers.push(close);
      return target;
    }),
    directory: async (name) => {
      const path = join(dir, name);
      await mkdir(path, { recursive: true });
      return path;
    },
    close: async () => {
      for (const close of closers) await close();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

async function startRaw(stateDir: string): Promise<{ target: Target; close(): Promise<void> }> {
  const code = bundleWorker(projectDir, "bench/raw/worker.ts");
  // The same date as Baton's: what it switches on costs both the same.
  const { compatibility_date: compatibilityDate } = await readWorkerConfig(projectDir);
  const name = "raw";
  const { url, close } = await serveWorker({
    port: 0,
    stateDir,
    worker: async () => ({
      name,
      compatibilityDate,
      manifest: {
        mainModule: "index.js",
        modulesRoot: "/",
        modules: { "index.js": { type: "esm", contents: code } },
      },
      env: { RAW: { type: "durable-object", worker: name, exportName: "RawObject" } },
      exports: { RawObject: { type: "durable-object", storage: "sqlite" } },
    }),
  });
  return { target: { url, token: rawToken }, close };
}
