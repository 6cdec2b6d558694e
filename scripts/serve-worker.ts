import { createRequire } from "node:module";
import { join } from "node:path";
import { Log, LogLevel, Miniflare, type MiniflareOptions, type WorkerdStructuredLog } from "miniflare";
import { keepRunning } from "./keep-running.ts";
import { reasonOf, StartError } from "./start-error.ts";
import { claimStateDir } from "./state-claim.ts";

const host = "127.0.0.1";

/** A Worker as workerd runs it: name, modules, bindings, exported classes. */
export type WorkerDefinition = MiniflareOptions["workers"][number]["config"];

/** A Worker that answers requests on this machine. */
export interface ServedWorker {
  /** Where, without a slash at the end. */
  url: string;
  /** The runtime's own handle, for its bindings and handlers. */
  miniflare: Miniflare;
  /** Resolves when workerd has ended and cannot be started again: nothing is served any more. Never rejects. */
  lost: Promise<StartError>;
  /** Stops the runtime and gives the state directory free. Acknowledged writes are on disk already. */
  close(): Promise<void>;
}

/**
 * Serves one Worker from workerd, without any proxy in front of it. Returns when it listens.
 *
 * @param options.port 0 takes any free port.
 * @param options.stateDir holds everything that outlives the process; made if missing.
 * @param options.inspectorPort where a debugger reaches the isolates, at this machine; nowhere when absent.
 * @param options.worker tells what to serve, once the state directory is this process's own.
 * @param options.prepare makes the Worker's bindings ready, while nobody else can reach it.
 * @throws StartError when the port is taken, or the state directory is in use or unusable.
 */
export async function serveWorker(options: {
  port: number;
  stateDir: string;
  inspectorPort?: number | undefined;
  worker(): Promise<WorkerDefinition>;
  prepare?(miniflare: Miniflare): Promise<void>;
}): Promise<ServedWorker> {
  const claim = await claimStateDir(options.stateDir);
  // For an exit without close(): Miniflare's own exit hook then ends workerd.
  process.once("exit", claim.release);
  const release = (): void => {
    process.removeListener("exit", claim.release);
    claim.release();
  };
  let miniflare: Miniflare | undefined;
  try {
    const worker = await options.worker();
    guardWorkerd();
    const optionsWith = (sockets: { host: string; port: number }[]): MiniflareOptions => ({
      host,
      port: 0,
      ...(options.inspectorPort !== undefined && { inspectorPort: options.inspectorPort }),
      cf: false,
      log: new Log(LogLevel.WARN),
      logRequests: false,
      enableDevRegistry: false,
      handleStructuredLogs: printLog,
      resourcePersistencePath: join(options.stateDir, "storage"),
      unsafeRuntimeEnv: { BATON_WORKERD_RECORD: claim.runtimeRecord },
      // Requests go straight to the Worker: Miniflare's own entry in front of it costs more than half the throughput.
      workers: [{ config: worker, dev: { unsafeDirectSockets: sockets } }],
    });
    const listening = optionsWith([{ host, port: options.port }]);
    const running = createMiniflare(options.prepare === undefined ? listening : optionsWith([]));
    miniflare = running;
    const startError = (error: unknown): never => {
      throw asStartError(error, options.port);
    };
    await running.ready.catch(startError);
    if (options.prepare !== undefined) {
      await options.prepare(running);
      await running.setOptions(listening).catch(startError);
    }
    const { origin: url, port } = await running.unsafeGetDirectURL(worker.name);
    const kept = keepRunning(
      () => running.ready,
      () => running.setOptions(optionsWith([{ host, port: Number(port) }])),
    );
    return {
      url,
      miniflare: running,
      lost: kept.lost.then((error) => asStartError(error, Number(port))),
      close: async () => {
        kept.stop();
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
  const wrapper = join(import.meta.dirname, "workerd.sh");
  if (process.env.MINIFLARE_WORKERD_PATH === wrapper) return;
  const fromHere = createRequire(import.meta.url);
  const workerd = createRequire(fromHere.resolve("miniflare"))("workerd") as { default: string };
  process.env.BATON_WORKERD = workerd.default;
  process.env.MINIFLARE_WORKERD_PATH = wrapper;
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
