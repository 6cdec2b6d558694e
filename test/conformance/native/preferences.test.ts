import { describe, expect, it } from "vitest";
import { arrange, type RunRoutes, runOf } from "../support.ts";
import { addNativeTasks, good, newNativeRun } from "./support.ts";

/** A run every mutation succeeds on. */
async function readyRun(): Promise<RunRoutes> {
  const run = await newNativeRun();
  await addNativeTasks(run, { id: "held", status: "in_progress" }, { id: "free" });
  return run;
}

/** Sub-route, body, status, whether the blackboard belongs to the whole answer. */
const mutations: [string, Record<string, unknown>, number, boolean][] = [
  ["/events", { type: "note", status: "running" }, 201, false],
  ["/todos/sync", { todos: [{ content: "c" }] }, 200, false],
  ["/driver/next", {}, 200, false],
  ["/lease/validate", { phase: "p", current_path: "/srv/ws" }, 200, false],
  ["/blackboard/patches", { op: "set_rolling_summary", payload: "x" }, 201, true],
  ["/tasks", { tasks: [{ task_type: "t" }] }, 201, true],
  ["/tasks/claim", { agent_id: "me" }, 200, true],
  ["/tasks/held/transition", { action: "heartbeat" }, 200, true],
];

describe("Prefer at /v1", () => {
  it.each(mutations)("v1 prefer: %s answers only what changed", async (sub, body, status) => {
    const answer = await (await readyRun()).post(sub, body);
    const lean = good(answer, status);
    expect(lean).not.toHaveProperty("run");
    expect(lean).not.toHaveProperty("blackboard");
    expect(answer.headers.get("preference-applied")).toBeNull();
  });

  it.each(mutations)(
    "v1 prefer: %s with return=representation adds the rest",
    async (sub, body, status, board) => {
      const run = await readyRun();
      const answer = await run.post(sub, body, { prefer: "return=representation" });
      const whole = good(answer, status);
      expect(answer.headers.get("preference-applied")).toBe("return=representation");
      expect(whole.run).toEqual(good(await run.get()).run);
      if (board) expect(whole.blackboard).toMatchObject(good(await run.get("/blackboard")).blackboard);
    },
  );

  it("v1 prefer: an unknown preference is ignored", async () => {
    const answer = await (await readyRun()).post("/driver/next", {}, { prefer: "wait=5, handling=lenient" });
    expect(good(answer)).not.toHaveProperty("run");
    expect(answer.headers.get("preference-applied")).toBeNull();
  });

  it("v1 prefer: PUT shows the run as GET does", async () => {
    const run = await readyRun();
    await arrange(run, { objective: "x" });
    const body = good(
      await run.put({ ...(await runOf(run)), objective: "y" }, { prefer: "return=representation" }),
    );
    expect(body.run).toEqual(good(await run.get()).run);
  });
});
