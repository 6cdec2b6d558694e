import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, inject, onTestFinished, test } from "vitest";
import { call, must } from "../conformance/support.ts";

/** The shell blocks of a section of the README, in order. */
async function shellBlocks(section: string): Promise<string[]> {
  const readme = await readFile(join(import.meta.dirname, "../../README.md"), "utf8");
  const start = readme.indexOf(`## ${section}`);
  if (start === -1) throw new Error(`the README has no section ${section}`);
  const text = readme.slice(start, readme.indexOf("\n## ", start + 1));
  return [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? "");
}

test("README: the five requests work as they stand, in order", async () => {
  const blocks = await shellBlocks("The five requests an agent needs");
  expect(blocks).toHaveLength(5);
  // The README's run id is taken after the first run of this test against a lasting deployment.
  const runId = `release-${crypto.randomUUID()}`;
  const script = blocks.map((block) => block.replaceAll("release-7", runId)).join("\necho\n");
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], {
    env: { ...process.env, URL: inject("baseUrl"), TOKEN: inject("token") },
  });
  const answers = stdout
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => JSON.parse(line));
  const [created, added, completed, log] = answers;
  expect(created.run).toMatchObject({ run_id: runId, status: "queued" });
  expect(added.tasks.map((task: { id: string }) => task.id)).toEqual(["build", "publish"]);
  expect(completed.task).toMatchObject({ id: "build", status: "done" });
  expect(log.events.map((event: { type: string }) => event.type)).toEqual([
    "context.task.claimed",
    "context.task.completed",
  ]);
});

test("README: work that may fail is put on the board, and a claim waits for it", async () => {
  const runId = `release-${crypto.randomUUID()}`;
  must(await call("POST", "/v1/runs", { run_id: runId, objective: "claims" }), 201);
  const blocks = await shellBlocks("Hand out work that may fail, and wait for it");
  expect(blocks).toHaveLength(2);
  const [creation = "false", claim = "false"] = blocks.map((block) => block.replaceAll("release-7", runId));
  const run = async (script: string) => {
    const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], {
      env: { ...process.env, URL: inject("baseUrl"), TOKEN: inject("token") },
    });
    return JSON.parse(stdout);
  };
  const waiting = run(claim);
  expect((await run(creation)).tasks).toMatchObject([{ id: "smoke-test", max_attempts: 3, retry: {} }]);
  expect(await waiting).toMatchObject({ task: { id: "smoke-test" }, lease: { fence: expect.any(Number) } });
});

test("README: a run is followed live", async () => {
  const runId = `release-${crypto.randomUUID()}`;
  const events = `/runs/${runId}/events`;
  must(await call("POST", "/v1/runs", { run_id: runId, objective: "follow" }), 201);
  must(await call("POST", `/v1${events}`, { type: "first", status: "running" }), 201);
  const [command = "false"] = await shellBlocks("Follow it live");
  const shell = spawn("bash", ["-euo", "pipefail", "-c", `exec ${command.replaceAll("release-7", runId)}`], {
    env: { ...process.env, URL: inject("baseUrl"), TOKEN: inject("token") },
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void shell.kill());
  let text = "";
  let isSecondSent = false;
  for await (const chunk of shell.stdout) {
    text += String(chunk);
    if (text.includes('"second"')) break;
    if (isSecondSent || !text.includes('"first"')) continue;
    isSecondSent = true;
    must(await call("POST", `/v1${events}`, { type: "second", status: "running" }), 201);
  }
  expect(text).toMatch(/^id: 1$/m);
  expect(text).toMatch(/^id: 2$/m);
});

test("README: what agents produce is kept, and the run can be seen as it was", async () => {
  const runId = `release-${crypto.randomUUID()}`;
  must(await call("POST", "/v1/runs", { run_id: runId, objective: "keep" }), 201);
  must(await call("POST", `/v1/runs/${runId}/events`, { type: "first", status: "running" }), 201);
  const blocks = await shellBlocks("Keep what they produce");
  expect(blocks).toHaveLength(2);
  const script = blocks.map((block) => block.replaceAll("release-7", runId)).join("\necho\n");
  const cwd = await mkdtemp(join(tmpdir(), "baton-readme-"));
  onTestFinished(() => rm(cwd, { recursive: true, force: true }));
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], {
    cwd,
    env: { ...process.env, URL: inject("baseUrl"), TOKEN: inject("token") },
  });
  expect(stdout).toContain('"path":"reports/report.txt"');
  expect(stdout).toMatch(/^.*all green$/m);
  const state = JSON.parse(stdout.slice(stdout.lastIndexOf('{"run":')));
  expect(state).toMatchObject({ at_seq: 2, files: [{ path: "reports/report.txt", version: 2 }] });
});

test("README: an agent gets a credential of its own, and other systems start runs and hear of them", async () => {
  const runId = `release-${crypto.randomUUID()}`;
  must(await call("POST", "/v1/runs", { run_id: runId, objective: "credentials" }), 201);
  const credential = await shellBlocks("Give each agent a credential of its own");
  const hooks = await shellBlocks("Let other systems start runs, and hear of them");
  expect([credential.length, hooks.length]).toEqual([1, 2]);
  const script = [...credential, ...hooks]
    .map((block) => block.replaceAll("release-7", runId))
    .join("\necho\n");
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", script], {
    env: { ...process.env, URL: inject("baseUrl"), TOKEN: inject("token") },
  });
  const [token, { hook, secret }, { subscription }] = stdout
    .split("\n")
    .filter((line) => line.trim() !== "")
    .map((line) => JSON.parse(line));
  expect(token).toMatchObject({ scopes: ["agent"], run_id: runId, agent_id: "agent-1" });
  expect(hook).toMatchObject({ name: "issues", enabled: true });
  expect(secret).toMatch(/./);
  expect(subscription).toMatchObject({ events: ["context.task.*"] });
  const ask = (path: string) =>
    fetch(`${inject("baseUrl")}${path}`, { headers: { authorization: `Bearer ${token.token}` } });
  expect((await ask(`/v1/runs/${runId}`)).status).toBe(200);
  expect((await ask("/v1/runs")).status).toBe(403);
  for (const path of [`/v1/hooks/${hook.hook_id}`, `/v1/subscriptions/${subscription.subscription_id}`]) {
    must(await call("DELETE", path), 204);
  }
});

test("README: the drill finishes its plan without a violation", { timeout: 120_000 }, async () => {
  const [command] = await shellBlocks("Watch a fleet finish a plan");
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", command ?? "false"]);
  expect(stdout).toContain("No violation.");
});
