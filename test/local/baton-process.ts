import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { onTestFinished } from "vitest";
import { processInfo } from "../../scripts/process-info.ts";

const projectDir = join(import.meta.dirname, "..", "..");
const tsxCli = createRequire(import.meta.url).resolve("tsx/cli");

/** How scripts/start.ts is launched: by Node itself, or by the tsx command with Node as its child. */
export type Launcher = "node" | "tsx";

/** A running start command and what it has printed. */
export interface BatonProcess {
  /** The launched process: with "tsx" not the server itself but its parent. */
  pid: number;
  stdout(): string;
  stderr(): string;
  kill(signal: NodeJS.Signals): void;
  /** Resolves with the exit code, null after a deadly signal. */
  exited: Promise<number | null>;
}

/** Launches the start command with nothing of this process's environment but PATH, and ends all of it after the test. */
export function launchBaton(environment: Record<string, string>, launcher: Launcher = "node"): BatonProcess {
  const args = launcher === "tsx" ? [tsxCli, "scripts/start.ts"] : ["--import", "tsx", "scripts/start.ts"];
  const child: ChildProcess = spawn(process.execPath, args, {
    cwd: projectDir,
    env: { PATH: process.env.PATH, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const { pid } = child;
  if (pid === undefined) throw new Error("the start command could not be launched");
  const printed = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name]?.setEncoding("utf8").on("data", (text: string) => {
      printed[name] += text;
    });
  }
  const exited = once(child, "exit").then(([code]) => code as number | null);
  onTestFinished(async () => {
    for (const each of [...descendants(pid), pid]) endIfThere(each);
    await exited;
  });
  return {
    pid,
    stdout: () => printed.stdout,
    stderr: () => printed.stderr,
    kill: (signal) => child.kill(signal),
    exited,
  };
}

/** Launches the start command and waits until it has said where it serves. */
export async function startBaton(
  environment: Record<string, string>,
  launcher: Launcher = "node",
): Promise<BatonProcess & { url: string; token: string }> {
  const baton = launchBaton(environment, launcher);
  await until(() => {
    if (processInfo(baton.pid) === undefined) throw new Error(`the start ended: ${baton.stderr()}`);
    return baton.stdout().includes("curl ");
  });
  const [, url = ""] = /URL +(\S+)/.exec(baton.stdout()) ?? [];
  const [, token = ""] = /Token +(\S+)/.exec(baton.stdout()) ?? [];
  return { ...baton, url, token };
}

/** An empty state directory. It is removed after the test, once the processes launched after this call have ended. */
export async function temporaryStateDir(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "baton-start-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true, maxRetries: 5 }));
  return directory;
}

/** The pids of a process's children, their children and so on. */
export function descendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const line of execFileSync("ps", ["-A", "-o", "pid=,ppid="], { encoding: "utf8" })
    .trim()
    .split("\n")) {
    const [child = 0, parent = 0] = line.trim().split(/\s+/).map(Number);
    children.set(parent, [...(children.get(parent) ?? []), child]);
  }
  const below = (parent: number): number[] =>
    (children.get(parent) ?? []).flatMap((child) => [child, ...below(child)]);
  return below(pid);
}

/** Ends a process by its pid, unless it is gone already. */
export function endIfThere(pid: number): void {
  if (processInfo(pid) !== undefined) process.kill(pid, "SIGKILL");
}

/** How long a process may take for anything: on a busy machine a start alone takes ten seconds. */
const PATIENCE_MS = 60_000;

/** Polls until the condition holds; fails when the process takes too long. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = Date.now() + PATIENCE_MS;
  while (!(await condition())) {
    if (Date.now() > deadlineMs) throw new Error(`not reached within ${PATIENCE_MS} ms: ${condition}`);
    await delay(20);
  }
}
