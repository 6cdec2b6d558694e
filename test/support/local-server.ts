import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { startLocalRuntime } from "../../scripts/local-runtime.ts";

declare module "vitest" {
  interface ProvidedContext {
    baseUrl: string;
    token: string;
  }
}

/**
 * Serves the real Worker in workerd for the tests that speak HTTP. With BASE_URL (and TOKEN) in the environment they run
 * against that deployment instead.
 */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const baseUrl = process.env.BASE_URL;
  if (baseUrl !== undefined) {
    project.provide("baseUrl", baseUrl.replace(/\/$/, ""));
    project.provide("token", process.env.TOKEN ?? "");
    return undefined;
  }
  const stateDir = await mkdtemp(join(tmpdir(), "baton-test-"));
  const vars = { REQUEST_LOG: "none" };
  const runtime = await startLocalRuntime({ port: 0, stateDir, token: "test-token", vars });
  project.provide("baseUrl", runtime.url);
  project.provide("token", runtime.token);
  return async () => {
    await runtime.close();
    await rm(stateDir, { recursive: true, force: true });
  };
}
