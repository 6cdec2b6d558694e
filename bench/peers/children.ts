import { type ChildProcess, fork, type SpawnOptions, spawn } from "node:child_process";
import { basename } from "node:path";

/** The account a process runs under. */
export interface Account {
  uid: number;
  gid: number;
}

/** How a process is started. */
export interface StartOptions {
  cwd: string;
  /** Added to PATH, which is all a process is handed otherwise: no setting of the caller's shell reaches a server. */
  env?: Record<string, string>;
  account?: Account | undefined;
  /** What asks the process to end; SIGTERM when absent. */
  stopSignal?: NodeJS.Signals;
}

interface Running {
  name: string;
  process: ChildProcess;
  output: () => string;
  stopSignal: NodeJS.Signals;
  /** Resolves with how it ended once it and everything it started have let go of its output. */
  ended: Promise<Ending>;
}

interface Ending {
  ok: boolean;
  reason: string;
}

const killAfterMs = 5_000;
const keptOutput = 4_000;
const linesInReason = 3;

/** The processes of one run. None is started after {@link stop}, so none is left behind. */
export class Children {
  /** Resolves, with how, when a server ends that nobody stopped. */
  readonly broken: Promise<Error>;
  readonly #started: Running[] = [];
  readonly #running = new Set<Running>();
  #break: (error: Error) => void = () => undefined;
  #stopping = false;

  constructor() {
    this.broken = new Promise((resolve) => {
      this.#break = resolve;
    });
  }

  /** Runs a command to its end. Throws with its last output when it fails. */
  async run(command: string, args: string[], options: StartOptions): Promise<void> {
    const { ended } = this.#adopt(command, spawn(command, args, this.#spawnOptions(options)), options);
    const { ok, reason } = await ended;
    if (!ok) throw new Error(reason);
  }

  /** Starts a server, which runs until {@link stop}. */
  start(command: string, args: string[], options: StartOptions): void {
    this.#watch(this.#adopt(command, spawn(command, args, this.#spawnOptions(options)), options));
  }

  /** Starts a module of this folder in a Node process of its own and returns the first message it sends. */
  async startModule(path: string, options: StartOptions): Promise<unknown> {
    const child = fork(path, { ...this.#spawnOptions(options), stdio: ["ignore", "pipe", "pipe", "ipc"] });
    this.#watch(this.#adopt(path, child, options));
    return new Promise((resolve) => child.once("message", resolve));
  }

  /** Ends what still runs and returns when it has ended. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(
      [...this.#running].map(async ({ process: child, stopSignal, ended }) => {
        child.kill(stopSignal);
        const impatience = setTimeout(() => child.kill("SIGKILL"), killAfterMs);
        await ended;
        clearTimeout(impatience);
      }),
    );
  }

  /** What each process printed last. */
  output(): string {
    return this.#started.map(({ name, output }) => `${name}: ${output()}`).join("\n");
  }

  /** For an exit that cannot wait for {@link stop}. */
  kill(): void {
    for (const { process: child } of this.#running) child.kill("SIGKILL");
  }

  #spawnOptions({ cwd, env, account }: StartOptions): SpawnOptions & { cwd: string } {
    if (this.#stopping) throw new Error("the run is being ended");
    return {
      cwd,
      env: { PATH: process.env.PATH, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      // A group of its own: a Ctrl-C in the terminal must reach this process alone, which then ends the servers in order.
      detached: true,
      ...account,
    };
  }

  #adopt(command: string, child: ChildProcess, { stopSignal = "SIGTERM" }: StartOptions): Running {
    const name = basename(command);
    let printed = "";
    const output = (): string => printed.trim();
    const keep = (chunk: Buffer): void => {
      printed = (printed + chunk.toString()).slice(-keptOutput);
    };
    child.stdout?.on("data", keep);
    child.stderr?.on("data", keep);
    const ended = new Promise<Ending>((resolve) => {
      child.once("error", ({ message }) => resolve({ ok: false, reason: `${name}: ${message}` }));
      child.once("close", (code, signal) =>
        resolve({
          ok: code === 0,
          reason: `${name} ended with ${signal ?? `code ${code}`}: ${lastLines(output())}`,
        }),
      );
    });
    const running = { name, process: child, output, stopSignal, ended };
    this.#started.push(running);
    this.#running.add(running);
    void ended.then(() => this.#running.delete(running));
    return running;
  }

  #watch({ ended }: Running): void {
    void ended.then(({ reason }) => {
      if (!this.#stopping) this.#break(new Error(reason));
    });
  }
}

function lastLines(text: string): string {
  return text.split("\n").slice(-linesInReason).join("\n");
}
