import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { processInfo } from "../../scripts/process-info.ts";
import {
  descendants,
  endIfThere,
  launchBaton,
  startBaton,
  temporaryStateDir,
  until,
} from "./baton-process.ts";

async function createRun(baton: { url: string; token: string }): Promise<string> {
  const response = await fetch(`${baton.url}/v1/runs`, {
    method: "POST",
    headers: { authorization: `Bearer ${baton.token}`, "content-type": "application/json" },
    body: JSON.stringify({ objective: "Outlive a crash" }),
  });
  expect(response.status).toBe(201);
  const { run } = (await response.json()) as { run: { run_id: string } };
  return run.run_id;
}

async function statusOfRun(baton: { url: string; token: string }, runId: string): Promise<number> {
  const response = await fetch(`${baton.url}/v1/runs/${runId}`, {
    headers: { authorization: `Bearer ${baton.token}` },
  });
  await response.arrayBuffer();
  return response.status;
}

/** The pid that the runtime left in the state directory. */
async function runtimePid(stateDir: string): Promise<number> {
  return Number((await readFile(join(stateDir, "workerd"), "utf8")).split("\n")[0]);
}

const gone = (pid: number): boolean => processInfo(pid) === undefined;

test("says where it serves and how to create a run, and prints nothing on stderr", async () => {
  const stateDir = await temporaryStateDir();
  const baton = await startBaton({ PORT: "0", STATE_DIR: stateDir });
  expect(baton.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  expect(baton.stdout()).toContain(stateDir);
  expect(baton.stdout()).toContain(`curl -s ${baton.url}/v1/runs -H 'Authorization: Bearer ${baton.token}'`);
  expect((await fetch(`${baton.url}/global/health`)).status).toBe(200);
  await createRun(baton);
  expect(baton.stderr()).toBe("");
});

test.each(["node", "tsx"] as const)(
  "SIGTERM ends it with 0 and leaves no process (launched by %s)",
  async (launcher) => {
    const stateDir = await temporaryStateDir();
    const baton = await startBaton({ PORT: "0", STATE_DIR: stateDir }, launcher);
    const children = descendants(baton.pid);
    expect(children).toContain(await runtimePid(stateDir));
    baton.kill("SIGTERM");
    expect(await baton.exited).toBe(0);
    await until(() => children.every(gone));
    expect(baton.stderr()).toBe("");
  },
);

test("makes a random token that only its owner can read and keeps it over restarts", async () => {
  const stateDir = await temporaryStateDir();
  const first = await startBaton({ PORT: "0", STATE_DIR: stateDir });
  expect(first.token).toMatch(/^baton_[\w-]{32,}$/);
  expect((await stat(join(stateDir, "token"))).mode & 0o777).toBe(0o600);
  first.kill("SIGINT");
  await first.exited;
  const second = await startBaton({ PORT: "0", STATE_DIR: stateDir });
  expect(second.token).toBe(first.token);
});

test.each(["node", "tsx"] as const)(
  "state survives kill -9 of the launched process alone (%s)",
  async (launcher) => {
    const stateDir = await temporaryStateDir();
    const killed = await startBaton({ PORT: "0", STATE_DIR: stateDir, BATON_TOKEN: "chosen" }, launcher);
    const runId = await createRun(killed);
    const { port } = new URL(killed.url);
    const orphans = descendants(killed.pid);
    killed.kill("SIGKILL");
    const restarted = await startBaton({ PORT: port, STATE_DIR: stateDir, BATON_TOKEN: "chosen" }, launcher);
    expect(restarted.url).toBe(killed.url);
    expect(orphans.filter((pid) => !gone(pid))).toEqual([]);
    expect(await statusOfRun(restarted, runId)).toBe(200);
    expect(restarted.stderr()).toBe("");
  },
);

test("ends a runtime that outlived a crash before it serves the same state", async () => {
  const stateDir = await temporaryStateDir();
  const killed = await startBaton({ PORT: "0", STATE_DIR: stateDir, BATON_TOKEN: "chosen" });
  const runId = await createRun(killed);
  const leftover = await runtimePid(stateDir);
  // Without the watcher beside it, the runtime does not notice that its parent is gone.
  for (const watcher of descendants(leftover)) endIfThere(watcher);
  killed.kill("SIGKILL");
  await killed.exited;
  try {
    expect(gone(leftover)).toBe(false);
    const { port } = new URL(killed.url);
    const restarted = await startBaton({ PORT: port, STATE_DIR: stateDir, BATON_TOKEN: "chosen" });
    expect(gone(leftover)).toBe(true);
    expect(await statusOfRun(restarted, runId)).toBe(200);
  } finally {
    endIfThere(leftover);
  }
});

test("serves again on the same port after the runtime crashed", async () => {
  const stateDir = await temporaryStateDir();
  const baton = await startBaton({ PORT: "0", STATE_DIR: stateDir });
  const runId = await createRun(baton);
  const crashed = await runtimePid(stateDir);
  process.kill(crashed, "SIGKILL");
  await expect.poll(() => statusOfRun(baton, runId).catch(() => 0), { timeout: 60_000 }).toBe(200);
  expect(await runtimePid(stateDir)).not.toBe(crashed);
});

/** Kills the runtime, and the one that takes its place before that serves: Miniflare brings no other after it. */
async function killSuccessor(stateDir: string): Promise<void> {
  const first = await runtimePid(stateDir);
  process.kill(first, "SIGKILL");
  let successor = first;
  await until(async () => {
    successor = await runtimePid(stateDir);
    return successor > 0 && successor !== first;
  });
  process.kill(successor, "SIGKILL");
}

test("serves again though the runtime that was to take the place of a crashed one crashed before it served", async () => {
  const stateDir = await temporaryStateDir();
  const baton = await startBaton({ PORT: "0", STATE_DIR: stateDir });
  const runId = await createRun(baton);
  await killSuccessor(stateDir);
  await expect.poll(() => statusOfRun(baton, runId).catch(() => 0), { timeout: 60_000 }).toBe(200);
});

test("ends with 1 and says why when the runtime cannot be brought back", async () => {
  const stateDir = await temporaryStateDir();
  const baton = await startBaton({ PORT: "0", STATE_DIR: stateDir });
  const { port } = new URL(baton.url);
  process.kill(await runtimePid(stateDir), "SIGKILL");
  await takePort(Number(port));
  expect(await baton.exited).toBe(1);
  expect(baton.stderr()).toContain(
    `Baton stopped: port ${port} of 127.0.0.1 is already in use; choose another one with PORT\n`,
  );
});

/** Listens on a port until the test ends, as soon as nobody else does. */
async function takePort(port: number): Promise<void> {
  const server = createServer();
  onTestFinished(() => void server.close());
  await until(
    () =>
      new Promise((resolve) => {
        server.once("error", () => resolve(false));
        server.listen(port, "127.0.0.1", () => resolve(true));
      }),
  );
}

async function refusal(environment: Record<string, string>): Promise<string> {
  const baton = launchBaton(environment);
  expect(await baton.exited).toBe(1);
  expect(baton.stdout()).toBe("");
  return baton.stderr();
}

test("refuses a state directory in use, and a port in use", async () => {
  const stateDir = await temporaryStateDir();
  const baton = await startBaton({ PORT: "0", STATE_DIR: stateDir });
  expect(await refusal({ PORT: "0", STATE_DIR: stateDir })).toBe(
    `Baton did not start: Baton is already running with the state directory ${stateDir} (pid ${baton.pid})\n`,
  );
  const { port } = new URL(baton.url);
  expect(await refusal({ PORT: port, STATE_DIR: await temporaryStateDir() })).toBe(
    `Baton did not start: port ${port} of 127.0.0.1 is already in use; choose another one with PORT\n`,
  );
  expect((await fetch(`${baton.url}/global/health`)).status).toBe(200);
});

test.each(["abc", "-1", "80.5", "65536"])("refuses PORT=%s", async (port) => {
  expect(await refusal({ PORT: port, STATE_DIR: await temporaryStateDir() })).toBe(
    `Baton did not start: PORT must be a whole number from 0 to 65535, not "${port}"\n`,
  );
});

test("refuses a token that no Authorization header can carry", async () => {
  const stateDir = await temporaryStateDir();
  expect(await refusal({ PORT: "0", STATE_DIR: stateDir, BATON_TOKEN: "two words" })).toMatch(
    /^Baton did not start: BATON_TOKEN .*\n$/,
  );
});

test("who waits for health finds the directory there, also at the first start", async () => {
  const port = await freePort();
  launchBaton({ PORT: String(port), STATE_DIR: await temporaryStateDir(), BATON_TOKEN: "chosen" });
  const url = `http://127.0.0.1:${port}`;
  await until(async () => (await fetch(`${url}/global/health`).catch(() => null))?.ok === true);
  const listed = await fetch(`${url}/v1/runs`, { headers: { authorization: "Bearer chosen" } });
  expect(listed.status).toBe(200);
});

/** A port that nobody had a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
