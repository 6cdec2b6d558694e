import { rmSync } from "node:fs";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { bundleWorker } from "../scripts/bundle.ts";
import { startLocalRuntime } from "../scripts/local-runtime.ts";
import { serveWorker } from "../scripts/serve-worker.ts";
import { readWorkerConfig } from "../scripts/worker-config.ts";
import type { Bench, Closable, Target } from "./measure.ts";

const projectDir = join(import.meta.dirname, "..");

/** The raw platform takes any. */
const rawToken = "raw";

/**
 * The servers of one bench run, each started when first asked for, on storage of its own below `parentDir`. `close`
 * ends the servers, whatever state they are in, and removes the storage; calling it again awaits the same end.
 */
export async function benchServers(
  parentDir: string,
): Promise<Pick<Bench, "baton" | "raw" | "directory" | "serve" | "signal"> & Closable> {
  await mkdir(parentDir, { recursive: true });
  const dir = await mkdtemp(join(parentDir, "bench-"));
  // For an end without close(), as when nobody reads the output any more.
  process.once("exit", () => rmSync(dir, { recursive: true, force: true }));
  const ending = new AbortController();
  const closers = new Set<() => Promise<void>>();
  const serve: Bench["serve"] = async (start) => {
    ending.signal.throwIfAborted();
    const starting = start();
    const close = once(async () => {
      const server = await starting.catch(() => undefined);
      await server?.close();
      closers.delete(close);
    });
    // Known from here on: a server that is still starting must be ended too.
    closers.add(close);
    return { ...(await starting), close };
  };
  return {
    baton: once(() => serve(() => startLocalRuntime({ port: 0, stateDir: join(dir, "baton") }))),
    raw: once(() => serve(() => startRaw(join(dir, "raw")))),
    serve,
    signal: ending.signal,
    directory: async (name) => {
      ending.signal.throwIfAborted();
      const path = join(dir, name);
      await mkdir(path, { recursive: true });
      return path;
    },
    close: once(async () => {
      ending.abort(new Error("the bench was ended"));
      await Promise.allSettled([...closers].map((close) => close()));
      // What was aborted may write its last file just now.
      await rm(dir, { recursive: true, force: true, maxRetries: 5 });
    }),
  };
}

/** Calls `start` the first time only. */
function once<T>(start: () => Promise<T>): () => Promise<T> {
  let started: Promise<T> | undefined;
  return () => {
    started ??= start();
    return started;
  };
}

async function startRaw(stateDir: string): Promise<Target & Closable> {
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
      env: {
        RAW: { type: "durable-object", worker: name, exportName: "RawObject" },
        FAN_OUT: { type: "durable-object", worker: name, exportName: "FanOutObject" },
      },
      exports: {
        RawObject: { type: "durable-object", storage: "sqlite" },
        FanOutObject: { type: "durable-object", storage: "sqlite" },
      },
    }),
  });
  return { url, token: rawToken, close };
}
