import { describe, expect, it } from "vitest";
import { addTasks, claim, everything, must, newRun, runOf, taskOf } from "../support.ts";

describe("POST …/tasks: existing ids and cycles", () => {
  it("D50 an existing id is replaced in its old place, with revision 1", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a", priority: 4 }, { id: "b" });
    must(await run.post("/tasks/a/transition", { action: "status", status: "blocked", error: "e" }));
    const [replaced] = await addTasks(run, { id: "a", task_type: "other" });
    expect(replaced).toMatchObject({ task_type: "other", status: "pending", task_rev: 1, priority: 0 });
    expect(replaced).not.toHaveProperty("last_error");
    expect((await runOf(run)).tasks.map((task) => task.id)).toEqual(["a", "b"]);
    expect(await taskOf(run, "a")).toEqual(replaced);
  });

  const guarded: [string, Record<string, unknown>, boolean][] = [
    ["in progress", { status: "in_progress" }, false],
    ["done", { status: "done" }, false],
    ["leased and blocked", { status: "pending" }, true],
  ];
  it.each(guarded)("D50 TASK_EXISTS while the task is %s", async (_name, row, leased) => {
    const run = await newRun();
    await addTasks(run, { id: "a", ...row });
    if (leased) {
      const { lease_token } = await claim(run);
      must(await run.post("/tasks/a/transition", { action: "status", status: "blocked", lease_token }));
    }
    const before = await everything(run);
    const body = must(
      await run.post("/tasks", {
        tasks: [
          { id: "new", task_type: "t" },
          { id: "a", task_type: "t" },
        ],
      }),
    );
    expect(body).toMatchObject({ ok: false, code: "TASK_EXISTS", error: expect.any(String) });
    expect(await everything(run)).toEqual(before);
  });

  it("D49 a cycle over stored tasks or within a batch is refused and shown; forward references are fine", async () => {
    const run = await newRun();
    await addTasks(
      run,
      { id: "a", depends_on_task_ids: ["b"] },
      { id: "c", depends_on_task_ids: ["a", "later"] },
    );
    const before = await everything(run);
    const stored = must(
      await run.post("/tasks", { tasks: [{ id: "b", task_type: "t", depends_on_task_ids: ["c"] }] }),
    );
    expect(stored).toMatchObject({ ok: false, code: "TASK_DEPENDENCY_CYCLE", cycle: expect.any(Array) });
    const cycle = (stored as unknown as { cycle: string[] }).cycle;
    expect([...new Set(cycle)].sort()).toEqual(["a", "b", "c"]);
    const batch = [
      { id: "x", task_type: "t", depends_on_task_ids: ["y"] },
      { id: "y", task_type: "t", depends_on_task_ids: ["x"] },
    ];
    expect(must(await run.post("/tasks", { tasks: batch })).code).toBe("TASK_DEPENDENCY_CYCLE");
    expect(await everything(run)).toEqual(before);
  });
});
