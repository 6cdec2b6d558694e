import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** What tells a process from a later one with the same pid. */
export interface ProcessInfo {
  /** When the process started, in a form only good for comparing. */
  startedAt: string;
  /** The command line, its arguments joined by spaces. */
  command: string;
}

/** Describes a process; undefined when no process with this pid runs. */
export function processInfo(pid: number): ProcessInfo | undefined {
  return process.platform === "linux" ? fromProc(pid) : fromPs(pid);
}

function fromProc(pid: number): ProcessInfo | undefined {
  try {
    // The second field is the command's name in parentheses and may itself hold spaces; state is the third field,
    // start time (in clock ticks since boot) the 22nd.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const [state, startedAt] = [fields[0], fields[19]];
    if (startedAt === undefined || state === "Z" || state === "X") return undefined;
    const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").join(" ").trim();
    return { startedAt, command };
  } catch {
    return undefined;
  }
}

function fromPs(pid: number): ProcessInfo | undefined {
  try {
    const line = execFileSync("ps", ["-ww", "-o", "stat=,lstart=,command=", "-p", String(pid)], {
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C" },
      stdio: ["ignore", "pipe", "ignore"],
    });
    // For example: "S+   Mon Nov 23 03:32:42 2026     node scripts/start.ts"
    const [, state, startedAt, command] =
      /^\s*(\S+)\s+(\S+\s+\S+\s+\d+ [\d:]+ \d+)\s+(.*)$/.exec(line.trimEnd()) ?? [];
    if (startedAt === undefined || command === undefined || state?.startsWith("Z")) return undefined;
    return { startedAt, command };
  } catch {
    // ps exits with 1 when there is no such process.
    return undefined;
  }
}
