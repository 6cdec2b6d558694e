import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, inject, test } from "vitest";

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

test("README: the drill finishes its plan without a violation", { timeout: 120_000 }, async () => {
  const [command] = await shellBlocks("Watch a fleet finish a plan");
  const { stdout } = await promisify(execFile)("bash", ["-euo", "pipefail", "-c", command ?? "false"]);
  expect(stdout).toContain("No violation.");
});
