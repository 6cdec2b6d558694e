import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, inject, it } from "vitest";
import { type DrillOptions, type DrillResult, runDrill } from "../../bench/drill/drill.ts";
import { parsePlan } from "../../bench/drill/plan.ts";
import { summary, toJson } from "../../bench/drill/report.ts";

const planFile = fileURLToPath(new URL("../../bench/plans/garden.jsonl", import.meta.url).href);

async function drill(
  options: Partial<DrillOptions>,
): Promise<{ options: DrillOptions; result: DrillResult }> {
  const all: DrillOptions = {
    plan: parsePlan(await readFile(planFile, "utf8"), { fresh: true }),
    baseUrl: inject("baseUrl"),
    token: inject("token"),
    agents: 8,
    crash: 0,
    retry: 0,
    seed: 7,
    ...options,
  };
  return { options: all, result: await runDrill(all) };
}

it("finishes the small plan though agents crash and fail, commands are repeated, tasks cancelled and the run paused", {
  timeout: 180_000,
}, async () => {
  const { options, result } = await drill({ crash: 0.25, fail: 0.25, retry: 0.3 });
  expect(result.violations).toEqual([]);
  expect(result.tasksDone).toBe(options.plan.tasks.length);
  const { crashes, retries, batches, waitedClaims, failures, releases, pauses } = result.counts;
  for (const count of [batches, waitedClaims, failures + releases, pauses]) expect(count).toBeGreaterThan(0);
  expect(crashes.silent + crashes.late + crashes.stalled).toBeGreaterThan(0);
  expect(retries.twice + retries.repeated + retries.cut).toBeGreaterThan(0);
});

it("counts tasks the plan calls finished as done, and reports for people and machines", {
  timeout: 60_000,
}, async () => {
  const plan = parsePlan(await readFile(planFile, "utf8"), { fresh: false });
  const { options, result } = await drill({ plan });
  expect(result.violations).toEqual([]);
  expect(result.tasksDone).toBe(plan.tasks.filter((task) => task.status === "pending").length);

  const setting = { planFile: "garden.jsonl", options };
  expect(summary(setting, result)).toContain("No violation.");
  expect(result.examined?.keys).toBeGreaterThan(0);
  const json = toJson(setting, result);
  expect(JSON.parse(json)).toMatchObject({ ok: true, tasks_done: result.tasksDone, violations: [] });
  expect(json).not.toContain(options.token);
});

it("says what the server refused when the token is wrong", { timeout: 60_000 }, async () => {
  const { result } = await drill({ token: "not-the-token" });
  expect(result.violations).toMatchObject([{ check: "answers", rule: "unexpected_answer" }]);
  expect(result.violations[0]?.detail).toContain("AUTH_REQUIRED");
});
