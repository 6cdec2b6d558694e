import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as z from "zod";
import { processInfo } from "./process-info.ts";
import { reasonOf, StartError } from "./start-error.ts";

/** How long a predecessor that is just stopping may take before the start is refused, in milliseconds. */
const graceMs = 2_000;
const pollMs = 25;

/** The sole right to use a state directory. */
export interface StateClaim {
  /** Where the runtime that serves this directory must leave its pid and arguments (see workerd.sh). */
  runtimeRecord: string;
  /** Gives the directory free. Synchronous, so that it can run while the process exits. */
  release(): void;
}

/**
 * Claims a state directory for this process, making it if it is missing. A runtime left over by a killed predecessor is
 * ended first: two runtimes must never write the same storage.
 *
 * @throws StartError when another living process holds the directory, or it cannot be written.
 */
export async function claimStateDir(stateDir: string): Promise<StateClaim> {
  const lockPath = join(stateDir, "lock");
  const runtimeRecord = join(stateDir, "workerd");
  try {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    await takeLock(lockPath, stateDir);
  } catch (error) {
    if (error instanceof StartError) throw error;
    throw new StartError(`cannot use the state directory ${stateDir}: ${reasonOf(error)}`);
  }
  const release = (): void => rmSync(lockPath, { force: true });
  try {
    await endLeftoverRuntime(runtimeRecord);
  } catch (error) {
    release();
    throw error;
  }
  return { runtimeRecord, release };
}

const lockContent = z.object({ pid: z.int().positive(), startedAt: z.string() });

async function takeLock(path: string, stateDir: string): Promise<void> {
  const mine = JSON.stringify({ pid: process.pid, startedAt: processInfo(process.pid)?.startedAt ?? "" });
  const deadlineMs = Date.now() + graceMs;
  for (;;) {
    try {
      writeFileSync(path, mine, { flag: "wx" });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    }
    const found = readIfThere(path);
    if (found === undefined) continue;
    const holder = parseLock(found);
    const late = Date.now() > deadlineMs;
    // An unreadable lock may be one that is just being written; after the grace it is the remains of a crash.
    if (holder === undefined ? late : processInfo(holder.pid)?.startedAt !== holder.startedAt) {
      discardStale(path, found);
    } else if (holder !== undefined && late) {
      throw new StartError(
        `Baton is already running with the state directory ${stateDir} (pid ${holder.pid})`,
      );
    } else {
      await delay(pollMs);
    }
  }
}

function parseLock(content: string): z.infer<typeof lockContent> | undefined {
  try {
    return lockContent.parse(JSON.parse(content));
  } catch {
    return undefined;
  }
}

/** Moving before removing shows whether the file is still the stale one: another start may have just replaced it. */
function discardStale(path: string, stale: string): void {
  const moved = `${path}.${process.pid}`;
  try {
    renameSync(path, moved);
  } catch {
    return;
  }
  if (readIfThere(moved) === stale) rmSync(moved);
  else renameSync(moved, path);
}

async function endLeftoverRuntime(recordPath: string): Promise<void> {
  const [pidLine, args] = (readIfThere(recordPath) ?? "").split("\n");
  const pid = Number(pidLine);
  if (!Number.isInteger(pid) || pid <= 1 || !args) return;
  // The arguments name a port that was random for that run, so a match is that very runtime and no later process.
  const runs = (): boolean => processInfo(pid)?.command.includes(args) ?? false;
  const deadlineMs = Date.now() + graceMs;
  if (runs()) killIfThere(pid);
  while (runs()) {
    if (Date.now() > deadlineMs) {
      throw new StartError(
        `a runtime left over by an earlier start still runs (pid ${pid}); end it and try again`,
      );
    }
    await delay(pollMs);
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone meanwhile, or not ours to end: the caller's deadline tells.
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}
