import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  claim,
  must,
  newRun,
  type RunRoutes,
  runOf,
  TASK_STATUSES,
  taskOf,
} from "../support.ts";

/** Ids in the order they are claimed until nothing is left. */
async function claimOrder(run: RunRoutes, fields: Record<string, unknown> = {}): Promise<string[]> {
  const ids: string[] = [];
  for (;;) {
    const { task } = must(await run.post("/tasks/claim", { agent_id: "agent", ...fields }));
    if (task === null) return ids;
    ids.push(task.id);
  }
}

describe("POST …/tasks/claim: which task", () => {
  const orders: [string, [string, number][], string[]][] = [
    [
      "priority descending",
      [
        ["a", -1],
        ["b", 0],
        ["c", 7],
      ],
      ["c", "b", "a"],
    ],
    [
      "list order among equals",
      [
        ["b", 0],
        ["a", 0],
        ["c", 0],
      ],
      ["b", "a", "c"],
    ],
    [
      "both",
      [
        ["a", 0],
        ["b", 5],
        ["c", 0],
        ["d", 5],
      ],
      ["b", "d", "a", "c"],
    ],
  ];
  it.each(orders)("04§4 order: %s", async (_name, rows, expected) => {
    const run = await newRun();
    await addTasks(run, ...rows.map(([id, priority]) => ({ id, priority })));
    expect(await claimOrder(run)).toEqual(expected);
  });

  it("04§4 order: created_ts ascending goes before list order", async () => {
    const run = await newRun();
    const task = (id: string, created_ts: number) => ({
      id,
      task_type: "t",
      status: "pending",
      created_ts,
      updated_ts: 9,
    });
    await arrange(run, { tasks: [task("new", 3), task("old", 1), task("mid", 2)] });
    expect(await claimOrder(run)).toEqual(["old", "mid", "new"]);
  });

  it("D52 pending and runnable are claimable alike, nothing else is", async () => {
    const run = await newRun();
    await addTasks(run, ...TASK_STATUSES.map((status) => ({ id: status, status })));
    expect(await claimOrder(run)).toEqual(["pending", "runnable"]);
  });

  const filters: [Record<string, unknown>, string[]][] = [
    [{}, ["a", "b", "c", "d"]],
    [{ task_type: "x" }, ["a", "b"]],
    [{ task_type: " x " }, []],
    [{ task_type: "X" }, []],
    [{ workflow_id: "w1" }, ["a", "c"]],
    [{ workflow_id: "w" }, []],
    [{ task_type: "x", workflow_id: "w1" }, ["a"]],
    [{ task_type: null, workflow_id: null }, ["a", "b", "c", "d"]],
  ];
  it.each(filters)("04§4 filter %j gives %j", async (filter, expected) => {
    const run = await newRun();
    await addTasks(
      run,
      { id: "a", task_type: "x", workflow_id: "w1" },
      { id: "b", task_type: "x", workflow_id: "w2" },
      { id: "c", task_type: "y", workflow_id: "w1" },
      { id: "d", task_type: "y" },
    );
    expect(await claimOrder(run, filter)).toEqual(expected);
  });

  const dependencies: [string, string[], boolean][] = [
    ["none", [], true],
    ["done", ["done"], true],
    ["done twice", ["done", "done"], true],
    ["an unknown id", ["nobody"], false],
    ...TASK_STATUSES.filter((status) => status !== "done").map((status): [string, string[], boolean] => [
      status,
      ["done", status],
      false,
    ]),
  ];
  it.each(dependencies)("04§4 dependencies: %s", async (_name, depends_on_task_ids, claimable) => {
    const run = await newRun();
    const others = TASK_STATUSES.map((status) => ({ id: status, status }));
    await addTasks(run, ...others, { id: "t", task_type: "mine", depends_on_task_ids });
    expect(await claimOrder(run, { task_type: "mine" })).toEqual(claimable ? ["t"] : []);
  });

  it("04§4 a task opens when the last dependency completes, and closes when it is created again", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t", depends_on_task_ids: ["a", "b"], priority: 9 }, { id: "a" }, { id: "b" });
    for (const id of ["a", "b"]) {
      const { id: claimed, lease_token } = await claim(run);
      expect(claimed).toBe(id);
      must(await run.post(`/tasks/${id}/transition`, { action: "complete", lease_token }));
    }
    expect((await claim(run)).id).toBe("t");
    await addTasks(run, { id: "u", depends_on_task_ids: ["v"] });
    expect(await claimOrder(run)).toEqual([]);
    await addTasks(run, { id: "v", status: "done" });
    expect(await claimOrder(run)).toEqual(["u"]);
  });

  it("04§4 a PUT that removes, reopens or finishes a dependency counts", async () => {
    const run = await newRun();
    await addTasks(
      run,
      { id: "a", status: "done" },
      { id: "t", task_type: "mine", depends_on_task_ids: ["a"] },
    );
    const [a, t] = (await runOf(run)).tasks;
    for (const tasks of [[t], [{ ...a, status: "blocked" }, t]]) {
      await arrange(run, { tasks });
      expect(await claimOrder(run)).toEqual([]);
    }
    await arrange(run, { tasks: [t, a] });
    expect(await claimOrder(run)).toEqual(["t"]);
  });

  it("04§4 a dependency that is finished by action status opens its dependents", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a", status: "in_progress" }, { id: "t", depends_on_task_ids: ["a"] });
    expect(await claimOrder(run)).toEqual([]);
    must(await run.post("/tasks/a/transition", { action: "status", status: "done" }));
    expect(await claimOrder(run)).toEqual(["t"]);
  });

  it("04§4 a replaced task has the dependencies of its new row only", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t", depends_on_task_ids: ["nobody"] });
    await addTasks(run, { id: "t" });
    expect(await claimOrder(run)).toEqual(["t"]);
  });

  const retries: [string, number | undefined, boolean][] = [
    ["absent", undefined, true],
    ["past", 1, true],
    ["future", Date.now() + 86_400_000, false],
  ];
  it.each(retries)("04§4 retry window %s", async (_name, next_retry_at_ms, claimable) => {
    const run = await newRun();
    await addTasks(run, { id: "t", status: "runnable" });
    await arrange(run, { tasks: [{ ...(await taskOf(run, "t")), next_retry_at_ms }] });
    expect(await claimOrder(run)).toEqual(claimable ? ["t"] : []);
  });
});
