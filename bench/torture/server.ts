import { type ChildProcess, fork } from "node:child_process";
import { createWriteStream, readFileSync, type WriteStream } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { processInfo } from "../../scripts/process-info.ts";

/** What a serving process is forked with, as JSON. */
export interface ServerSettings {
  readonly port: number;
  readonly stateDir: string;
  readonly token: string;
  /** The module to serve, from the project's directory. */
  readonly main: string;
  readonly vars: Record<string, string>;
}

export type ToServer =
  | { readonly do: "cron"; readonly id: number; readonly scheduledAtMs: number }
  /** Closes in order, and ends the process with 0. */
  | { readonly do: "close" };

export interface FromServer {
  readonly did: "cron";
  readonly id: number;
  /** Why it failed; absent when it ran. */
  readonly error?: string;
}

/**
 * What is killed: the process that serves, which takes its runtime with it; the runtime alone, which the process then
 * starts anew; both at the same moment.
 */
export type Victim = "server" | "runtime" | "both";

const projectDir = join(import.meta.dirname, "..", "..");

/** How long each may take on a busy machine, in milliseconds. Whatever takes longer hangs. */
const patienceMs = { start: 60_000, die: 10_000, cron: 60_000, close: 30_000 };
const pollMs = 20;

/** The server did not do what it must: start, die, run its cron. The message says which. */
export class ServerFailed extends Error {
  override readonly name = "ServerFailed";
}

/** A server on a port and a state directory of its own, which can be killed and started again as often as one likes. */
export class TorturedServer {
  readonly #settings: Omit<ServerSettings, "vars">;
  readonly #vars: () => Record<string, string>;
  readonly #log: WriteStream;
  readonly #cronsAtWork = new Map<number, (error: string | undefined) => void>();
  #child: ChildProcess | undefined;
  #crons = 0;
  /** A start whose runtime was killed may fail, as one of `npm start` then does; whoever supervises it starts it again. */
  #mayEnd = false;
  #isDestroyed = false;

  /**
   * @param options.logFile what the processes print is added to it
   * @param options.vars the Worker's variables, asked for at each start
   */
  constructor(options: {
    readonly port: number;
    readonly stateDir: string;
    readonly token: string;
    readonly main: string;
    readonly logFile: string;
    vars(): Record<string, string>;
  }) {
    const { port, stateDir, token, main } = options;
    this.#settings = { port, stateDir, token, main };
    this.#vars = options.vars;
    this.#log = createWriteStream(options.logFile, { flags: "a" });
  }

  /** Where it answers, whenever it does; without a slash at the end. */
  get url(): string {
    return `http://127.0.0.1:${this.#settings.port}`;
  }

  /** The runtime's pid, as workerd.sh has left it, while that process lives. */
  get runtimePid(): number | undefined {
    let record: string;
    try {
      record = readFileSync(join(this.#settings.stateDir, "workerd"), "utf8");
    } catch {
      return undefined;
    }
    const [pidLine, args] = record.split("\n");
    const pid = Number(pidLine);
    // The arguments name a port that was random for that start, so a match is that very process and no later one.
    const isIt = pid > 1 && args !== undefined && args !== "" && processInfo(pid)?.command.includes(args);
    return isIt ? pid : undefined;
  }

  /** Forks the serving process. Does not wait for it. @throws ServerFailed when the server was destroyed meanwhile */
  launch(): void {
    if (this.#isDestroyed) throw new ServerFailed("the server was destroyed");
    this.#mayEnd = false;
    const settings: ServerSettings = { ...this.#settings, vars: this.#vars() };
    const child = fork(join(import.meta.dirname, "server-process.ts"), [JSON.stringify(settings)], {
      cwd: projectDir,
      execArgv: ["--import", "tsx"],
      stdio: ["ignore", "pipe", "pipe", "ipc"],
    });
    child.stdout?.pipe(this.#log, { end: false });
    child.stderr?.pipe(this.#log, { end: false });
    // A message to a process that has just died fails; that it died is noticed otherwise.
    child.on("error", () => undefined);
    child.on("message", (message: FromServer) => this.#hear(message));
    child.once("exit", () => {
      for (const tell of this.#cronsAtWork.values()) tell("the server died");
      this.#cronsAtWork.clear();
    });
    this.#child = child;
  }

  /** Resolves when requests are answered. @throws ServerFailed when the process ends instead, or it takes too long */
  async answers(): Promise<void> {
    const deadlineMs = performance.now() + patienceMs.start;
    while (!(await this.#isHealthy())) {
      if (this.#isGone && !this.#mayEnd) {
        throw new ServerFailed(`the server ended by itself (${this.#child?.exitCode})`);
      }
      this.revive();
      if (performance.now() > deadlineMs) {
        throw new ServerFailed(`nothing was answered within ${patienceMs.start} ms of a start`);
      }
      await delay(pollMs);
    }
  }

  /**
   * Kills without a warning (SIGKILL), and returns when the victims are gone. After the death of the serving process
   * nothing of it may be left; it has to be launched again. A runtime that is not there has its process killed instead.
   *
   * @returns who was killed in the end
   * @throws ServerFailed when somebody survives
   */
  async kill(victim: Victim): Promise<Victim> {
    const runtime = this.runtimePid;
    const isAlone = victim === "runtime" && runtime !== undefined;
    this.#mayEnd = isAlone;
    if (!isAlone) this.#child?.kill("SIGKILL");
    if (victim !== "server" && runtime !== undefined) killIfThere(runtime);
    const isOver = (): boolean =>
      (isAlone || this.#isGone) && (runtime === undefined || processInfo(runtime) === undefined);
    const deadlineMs = performance.now() + patienceMs.die;
    while (!isOver()) {
      if (performance.now() > deadlineMs) throw new ServerFailed(`the ${victim} survived SIGKILL`);
      await delay(pollMs);
    }
    return isAlone || victim !== "runtime" ? victim : "server";
  }

  /** Whether the serving process has ended. */
  get #isGone(): boolean {
    return this.#child === undefined || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Launches the process again if it is not there any more. */
  revive(): void {
    if (this.#isGone) this.launch();
  }

  /**
   * Runs the cron once: at once, whatever the server is about, or as soon as one that starts has begun to serve.
   *
   * @param scheduledAtMs the time that the cron is told, epoch milliseconds
   * @returns undefined when it ran, else why it did not
   * @throws ServerFailed when it neither runs nor fails
   */
  async cron(scheduledAtMs: number): Promise<string | undefined> {
    this.#crons += 1;
    const id = this.#crons;
    const told = new Promise<string | undefined>((resolve) => this.#cronsAtWork.set(id, resolve));
    if (this.#isGone || !this.#send({ do: "cron", id, scheduledAtMs })) {
      this.#cronsAtWork.delete(id);
      return "no server";
    }
    const patience = new AbortController();
    const late = delay(patienceMs.cron, "late" as const, { signal: patience.signal });
    const outcome = await Promise.race([told.then((error) => ({ error })), late]);
    patience.abort();
    late.catch(() => undefined);
    if (outcome === "late") {
      throw new ServerFailed(`the cron neither ran nor failed within ${patienceMs.cron} ms`);
    }
    return outcome.error;
  }

  /** Stops the server in order. @throws ServerFailed when it does not end with 0 */
  async close(): Promise<void> {
    if (this.#isGone) return;
    this.#send({ do: "close" });
    const deadlineMs = performance.now() + patienceMs.close;
    while (!this.#isGone && performance.now() < deadlineMs) await delay(pollMs);
    const code = this.#child?.exitCode;
    await this.destroy();
    if (code !== 0) throw new ServerFailed(`a server that was told to close ended with ${code}`);
  }

  /** Ends whatever still runs, at once, and the log with it. May be called again. */
  async destroy(): Promise<void> {
    this.#isDestroyed = true;
    const runtime = this.runtimePid;
    this.#child?.kill("SIGKILL");
    if (runtime !== undefined) killIfThere(runtime);
    const deadlineMs = performance.now() + patienceMs.die;
    while (!this.#isGone && performance.now() < deadlineMs) await delay(pollMs);
    this.#log.end();
  }

  #send(message: ToServer): boolean {
    return this.#child?.connected === true && this.#child.send(message, () => undefined);
  }

  #hear({ id, error }: FromServer): void {
    this.#cronsAtWork.get(id)?.(error);
    this.#cronsAtWork.delete(id);
  }

  async #isHealthy(): Promise<boolean> {
    const patience = AbortSignal.timeout(2_000);
    const answer = await fetch(`${this.url}/global/health`, { signal: patience }).catch(() => undefined);
    await answer?.arrayBuffer().catch(() => undefined);
    return answer?.ok === true;
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone meanwhile.
  }
}
