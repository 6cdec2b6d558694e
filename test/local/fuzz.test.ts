import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { RULES } from "../../bench/fuzz/checks.ts";
import { type FuzzResult, runFuzz } from "../../bench/fuzz/fuzz.ts";
import { summary } from "../../bench/fuzz/report.ts";
import { type LocalRuntime, startLocalRuntime } from "../../scripts/local-runtime.ts";
import { FOUND } from "./fuzz-found.ts";

const run = promisify(execFile);
let dir: string;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "baton-fuzz-test-"));
});
afterAll(() => rm(dir, { recursive: true, force: true, maxRetries: 5 }));

describe("npm run fuzz", () => {
  it("finds nothing in 300 requests, has looked at everything, and says so for people and programs", {
    timeout: 120_000,
  }, async () => {
    const file = join(dir, "fuzz.json");
    const args = ["run", "-s", "fuzz", "--", "--requests", "300", "--seed", "8", "--json", file];
    // What it finds is to be seen in the failure.
    const { stdout } = await run("npm", args).catch((error: { stdout: string; stderr: string }) => error);
    expect(stdout).toContain("No finding.");
    const result = JSON.parse(await readFile(file, "utf8")) as FuzzResult & { ok: boolean };
    expect(result).toMatchObject({ ok: true, seed: 8, requests: 300, findings: [] });
    for (const rule of Object.keys(RULES)) expect(result.examined).toHaveProperty(rule);
    // Not a wall that everything is refused at.
    expect(result.routes.asked).toBe(result.routes.known);
    expect(result.sorts.fitting?.accepted).toBeGreaterThan(40);
  });

  it("says what is wrong with its arguments", async () => {
    const asked = run("npm", ["run", "-s", "fuzz", "--", "--requests", "none"]);
    await expect(asked).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining("--requests") });
  });
});

describe("the fuzz", () => {
  let runtime: LocalRuntime;
  beforeAll(async () => {
    runtime = await startLocalRuntime({
      port: 0,
      stateDir: join(dir, "broken"),
      main: "bench/raw/fuzz/broken-baton.ts",
      vars: { REQUEST_LOG: "none" },
    });
  });
  afterAll(() => runtime.close());

  it("finds each fault of a server that has one of each kind", { timeout: 120_000 }, async () => {
    const memory = { samples: { heapMib: [], rssMib: [] }, sample: async () => undefined };
    const { requests, answerMs } = { requests: 400, answerMs: 1_000 };
    const result = await runFuzz({
      server: runtime,
      requests,
      answerMs,
      seed: 1,
      memory,
      runCron: async () => {},
    });
    const found = new Set(result.findings.map(({ rule }) => rule));
    // Memory has a test of its own (test/fuzz/checks.test.ts): nothing leaks that fast.
    const wanted = Object.keys(RULES).filter((rule) => rule !== "memory");
    expect([...found].sort()).toEqual(wanted.sort());
    const changes = result.findings.filter(({ rule }) => rule === "changed").map(({ detail }) => detail);
    expect(changes.some((detail) => detail.includes("run commits"))).toBe(true);
    expect(changes.some((detail) => detail.includes("directory maintenance"))).toBe(true);
    expect(summary(result)).toContain("--seed 1");
    expect(result.findings.some(({ request }) => request?.includes("curl -sS -i"))).toBe(true);
    expect(summary(result)).not.toContain(runtime.token);
  });
});

describe("requests that were once answered wrongly", () => {
  it.each(FOUND)("$what", async ({ send, wanted }) => {
    const target = { url: inject("baseUrl"), token: inject("token") };
    expect(await send(target)).toMatchObject(wanted);
  });
});
