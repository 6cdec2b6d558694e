import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { Interrupted, Torture } from "../../bench/torture/torture.ts";
import { processInfo } from "../../scripts/process-info.ts";
import { descendants, endIfThere, until } from "./baton-process.ts";

const projectDir = join(import.meta.dirname, "..", "..");
/** One drill at a time. */
const small = ["--lanes", "1", "--agents", "6"];
/** Every check must find something to look at, and few of the tasks fail. */
const planSize = 100;

interface RunningTorture {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Where it keeps what is its own; removed after the test. */
  readonly tmp: string;
  stdout(): string;
  stderr(): string;
  readonly exited: Promise<number | null>;
}

async function launch(command: readonly string[]): Promise<RunningTorture> {
  const tmp = await mkdtemp(join(tmpdir(), "baton-torture-test-"));
  const [program = "", ...args] = command;
  const child = spawn(program, args, {
    cwd: projectDir,
    env: { PATH: process.env.PATH, TMPDIR: tmp },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const printed = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (text: string) => {
      printed[name] += text;
    });
  }
  const exited = once(child, "close").then(([code]) => code as number | null);
  const { pid } = child;
  if (pid === undefined) throw new Error("the torture could not be launched");
  onTestFinished(async () => {
    for (const each of [...descendants(pid), pid]) endIfThere(each);
    await exited;
    await rm(tmp, { recursive: true, force: true, maxRetries: 5 });
  });
  return { child, pid, tmp, stdout: () => printed.stdout, stderr: () => printed.stderr, exited };
}

const torture = (...args: string[]) =>
  launch([process.execPath, "--import", "tsx", "bench/torture/main.ts", ...args]);

/** What it has left in its directory: libraries of Node may leave their caches. */
async function leftIn(tmp: string): Promise<string[]> {
  return (await readdir(tmp)).filter((name) => name.startsWith("baton-"));
}

test("the documented command survives its kills without a violation, says so, and leaves nothing behind", {
  timeout: 180_000,
}, async () => {
  const page = await readFile(join(projectDir, "docs/testing.md"), "utf8");
  const [, command = "false"] = /```sh\n(npm run torture .*)\n```/.exec(page) ?? [];
  expect(command).toContain("--kills 20");
  const dir = await mkdtemp(join(tmpdir(), "baton-torture-files-"));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  const [plan, json] = [join(dir, "plan.jsonl"), join(dir, "result.json")];
  await writeFile(plan, planText(planSize));
  const shell = [command.replace("--kills 20", "--kills 2"), ...small, "--plan", plan, "--json", json].join(
    " ",
  );
  const run = await launch(["bash", "-c", `exec ${shell}`]);
  const code = await run.exited;
  expect(run.stdout()).toContain("No violation.");
  expect(code).toBe(0);
  const result = JSON.parse(await readFile(json, "utf8"));
  expect(result).toMatchObject({ ok: true, kept_dir: null });
  const { server, runtime, both } = result.kills;
  expect(server + runtime + both).toBe(2);
  expect(result.network.cut + result.network.swallowed).toBeGreaterThan(0);
  expect(result.clock_jumps.forward + result.clock_jumps.back).toBeGreaterThan(0);
  expect(result.commands.acknowledged).toBeGreaterThan(0);
  expect(await leftIn(run.tmp)).toEqual([]);
});

/** Rows of which each third waits for the one before. */
function planText(size: number): string {
  const rows = Array.from({ length: size }, (_, index) => ({
    id: `row-${index}`,
    title: "Something to do",
    priority: index % 4,
    status: "open",
    dependencies: index % 3 === 2 ? [{ id: `row-${index - 1}`, type: "blocks" }] : [],
  }));
  return rows.map((row) => `${JSON.stringify(row)}\n`).join("");
}

test("an interrupted torture leaves no process and no directory behind", { timeout: 120_000 }, async () => {
  const run = await torture("--kills", "100", "--seed", "1", ...small);
  const isRuntime = (pid: number) => processInfo(pid)?.command.includes("workerd serve") === true;
  await until(() => {
    if (processInfo(run.pid) === undefined) throw new Error(`it ended: ${run.stdout()}${run.stderr()}`);
    return descendants(run.pid).some(isRuntime);
  });
  const below = descendants(run.pid);
  run.child.kill("SIGTERM");
  expect(await run.exited).toBe(143);
  await until(() => below.every((pid) => processInfo(pid) === undefined));
  expect(await leftIn(run.tmp)).toEqual([]);
});

test.each(["killing", "waiting for the server", "at work"])(
  "whatever it is about, who interrupts it is told no verdict: %s",
  async (phase) => {
    const interrupted = Promise.withResolvers<void>();
    let isReached = false;
    const torture: Torture = new Torture({
      kills: 2,
      seed: 1,
      lanes: 1,
      agents: 2,
      onProgress: (progress) => {
        if (isReached || !progress.phase.startsWith(phase)) return;
        isReached = true;
        torture.destroy().then(interrupted.resolve, interrupted.reject);
      },
    });
    onTestFinished(() => torture.destroy());
    await expect(torture.run()).rejects.toThrow(Interrupted);
    await interrupted.promise;
    expect(existsSync(torture.dir)).toBe(false);
    await until(() =>
      descendants(process.pid).every((pid) => !processInfo(pid)?.command.includes(torture.dir)),
    );
  },
);

test.each([
  [["--kills", "0"], "--kills must be a whole number from 1 to 10000"],
  [["--seed", "x"], "--seed must be a whole number"],
  [["--plan", "no-such-file"], "--plan cannot be read"],
  [["--kill", "3"], "--kill"],
])("wrong arguments end it with 2: %j", async (args, told) => {
  const run = await torture(...args);
  expect(await run.exited).toBe(2);
  expect(run.stderr()).toContain(told);
  expect(run.stdout()).toBe("");
});
