import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  eventsOf,
  everything,
  freshId,
  generatedId,
  must,
  newRun,
  patchesOf,
  routes,
  runOf,
  TASK_STATUSES,
  type Task,
} from "../support.ts";

/** Creates one row in a run of its own and answers the body. */
async function create(row: Record<string, unknown>) {
  return must(await (await newRun()).post("/tasks", { tasks: [row] }));
}

describe("POST …/tasks", () => {
  it("04§2 the worked example: answer, event and patch, exactly", async () => {
    const run = await newRun();
    const before = await arrange(run, { status: "paused" });
    const row = { id: "t1", task_type: "fix-proposal", command_id: "c1", priority: 1 };
    const body = must(await run.post("/tasks", { tasks: [row] }));
    const event = (await eventsOf(run)).at(-1);
    const ts = event?.ts_ms;
    const task = {
      id: "t1",
      task_type: "fix_proposal",
      payload: { execution_mode: "strict_nonwriting", task_kind: "fix_proposal" },
      status: "pending",
      depends_on_task_ids: [],
      decision_ids: [],
      artifact_ids: [],
      priority: 1,
      attempt: 0,
      max_attempts: 3,
      task_rev: 1,
      created_ts: ts,
      updated_ts: ts,
    };
    const patch = {
      patch_id: generatedId("bbp"),
      run_id: run.id,
      seq: 2,
      ts_ms: ts,
      source_event_seq: 2,
      op: "add_task",
      payload: { ...task, command_id: "c1" },
    };
    expect(body).toEqual({
      ok: true,
      tasks: [task],
      patches: [patch],
      blackboard: {
        facts: [],
        decisions: [],
        open_questions: [],
        artifacts: [],
        tasks: [task],
        summaries: { rolling: "", latest_context_pack: "" },
        revision: 2,
      },
    });
    expect(event).toEqual({
      event_id: generatedId("evt"),
      run_id: run.id,
      seq: 2,
      ts_ms: expect.any(Number),
      type: "context.task.created",
      status: "paused",
      run_status: "paused",
      revision: 3,
      step_id: "t1",
      task_id: "t1",
      command_id: "c1",
      payload: {
        task_id: "t1",
        task_type: "fix_proposal",
        task_rev: 1,
        workflow_id: null,
        task,
        patch_seq: 2,
      },
    });
    expect(await patchesOf(run)).toEqual([patch]);
    expect(await runOf(run)).toEqual({
      ...before,
      tasks: [task],
      revision: 3,
      last_event_seq: 2,
      updated_at_ms: ts,
    });
  });

  const fields: [string, Record<string, unknown>, Record<string, unknown>][] = [
    ["id trimmed", { id: " t " }, { id: "t" }],
    ["id generated", {}, { id: generatedId("task") }],
    ["task_type trimmed", { task_type: " custom " }, { task_type: "custom" }],
    [
      "workflow ids trimmed",
      { workflow_id: " w ", workflow_node_id: " n ", parent_task_id: " p " },
      {
        workflow_id: "w",
        workflow_node_id: "n",
        parent_task_id: "p",
      },
    ],
    [
      "workflow ids blank → absent",
      { workflow_id: " ", workflow_node_id: "", parent_task_id: null },
      {
        workflow_id: undefined,
        workflow_node_id: undefined,
        parent_task_id: undefined,
      },
    ],
    [
      "dependencies trimmed, blanks dropped",
      { depends_on_task_ids: [" a ", "", " ", "b"] },
      {
        depends_on_task_ids: ["a", "b"],
      },
    ],
    [
      "decision and artifact ids verbatim",
      { decision_ids: [" d ", ""], artifact_ids: ["a", "a"] },
      {
        decision_ids: [" d ", ""],
        artifact_ids: ["a", "a"],
      },
    ],
    ["priority and max_attempts", { priority: -5, max_attempts: 0 }, { priority: -5, max_attempts: 0 }],
    [
      "priority and max_attempts null",
      { priority: null, max_attempts: null },
      { priority: 0, max_attempts: 3 },
    ],
    [
      "the bounds of i32 and u32",
      { priority: 2147483647, max_attempts: 4294967295 },
      {
        priority: 2147483647,
        max_attempts: 4294967295,
      },
    ],
  ];
  it.each(fields)("04§1 %s", async (_name, row, wanted) => {
    const { tasks } = await create({ task_type: "custom", ...row });
    const task: Record<string, unknown> = { ...tasks[0] };
    for (const [name, value] of Object.entries(wanted)) expect(task[name], name).toEqual(value);
  });

  it.each(TASK_STATUSES)("D59 accepts the status %s", async (status) => {
    const { tasks } = await create({ task_type: "custom", status });
    expect(tasks[0]).toMatchObject({ status, task_rev: 1, attempt: 0 });
    for (const name of ["lease_owner", "lease_token", "lease_expires_at_ms"]) {
      expect(tasks[0]).not.toHaveProperty(name);
    }
  });

  const badRows: [string, Record<string, unknown>, number, string | undefined][] = [
    ["blank task_type", { task_type: " " }, 400, undefined],
    ["a payload that is no object", { task_type: "zz", payload: 1 }, 200, "TASK_CONTRACT_INVALID"],
    ["no output target", { task_type: "implementation" }, 200, "TASK_OUTPUT_TARGET_REQUIRED"],
    ["no task_type", {}, 422, "BODY_INVALID"],
    ["an invalid id", { task_type: "zz", id: "a/b" }, 400, "ID_INVALID"],
    [
      "a dependency on itself",
      { task_type: "zz", id: "x", depends_on_task_ids: ["x"] },
      200,
      "TASK_DEPENDENCY_CYCLE",
    ],
  ];
  it.each(badRows)("D21 a batch is all or nothing: last row with %s", async (_name, bad, status, code) => {
    const run = await newRun();
    const before = await everything(run);
    const answer = await run.post("/tasks", {
      tasks: [{ id: "good", task_type: "zz", command_id: "c" }, bad],
    });
    expect(answer.status).toBe(status);
    if (status === 200) expect(answer.body.ok).toBe(false);
    if (code !== undefined) expect(answer.body.code).toBe(code);
    expect(await everything(run)).toEqual(before);
  });

  it("04§2 one event and one patch per row, in row order", async () => {
    const run = await newRun();
    const body = must(
      await run.post("/tasks", { tasks: ["c", "a", "b"].map((id) => ({ id, task_type: "t" })) }),
    );
    expect(body.tasks.map((task) => task.id)).toEqual(["c", "a", "b"]);
    expect(body.patches.map((patch) => patch.seq)).toEqual([1, 2, 3]);
    expect((await eventsOf(run)).map((event) => event.task_id)).toEqual(["c", "a", "b"]);
    expect((await runOf(run)).tasks).toEqual(body.tasks);
    expect(await patchesOf(run)).toEqual(body.patches);
  });

  it("04§2 the event names the workflow", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t", workflow_id: " w " });
    expect((await eventsOf(run))[0]?.payload).toMatchObject({ workflow_id: "w" });
  });

  it("02§5.4 an empty batch is 400; on an unknown run 404 comes first (01§8)", async () => {
    const run = await newRun();
    const answer = await run.post("/tasks", { tasks: [] });
    expect(answer.status).toBe(400);
    expect(answer.body.code).toEqual(expect.any(String));
    for (const tasks of [[], [{ task_type: " " }], [{ task_type: "zz", payload: 1 }]]) {
      const unknown = await routes(freshId()).post("/tasks", { tasks });
      expect(unknown.status).toBe(404);
      expect(unknown.body.code).toBe("RUN_NOT_FOUND");
    }
  });

  it("02§1 500 rows are created, 501 are 413 LIMIT_EXCEEDED", async () => {
    const run = await newRun();
    const rows = Array.from({ length: 501 }, (_, n) => ({ id: `t${n}`, task_type: "t" }));
    const answer = await run.post("/tasks", { tasks: rows });
    expect(answer.status).toBe(413);
    expect(answer.body).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: expect.any(String),
      limit: 500,
      actual: 501,
    });
    const created: Task[] = must(await run.post("/tasks", { tasks: rows.slice(1) })).tasks;
    expect(created).toHaveLength(500);
    expect((await runOf(run)).last_event_seq).toBe(500);
  });

  it("D35 Prefer: return=minimal leaves out the blackboard", async () => {
    const answer = await (await newRun()).post(
      "/tasks",
      { tasks: [{ task_type: "t" }] },
      { prefer: "return=minimal" },
    );
    expect(must(answer).tasks).toHaveLength(1);
    expect(answer.body).not.toHaveProperty("blackboard");
  });

  const wrong: unknown[] = [
    {},
    { tasks: null },
    { tasks: {} },
    { tasks: [null] },
    ...[
      { task_type: 1 },
      { task_type: null },
      { task_type: "t", id: 1 },
      { task_type: "t", status: "Done" },
      { task_type: "t", depends_on_task_ids: null },
      { task_type: "t", depends_on_task_ids: [1] },
      { task_type: "t", decision_ids: null },
      { task_type: "t", artifact_ids: null },
      { task_type: "t", priority: 1.5 },
      { task_type: "t", priority: 2147483648 },
      { task_type: "t", max_attempts: -1 },
      { task_type: "t", max_attempts: 4294967296 },
      { task_type: "t", command_id: 1 },
    ].map((row) => ({ tasks: [row] })),
  ];
  it.for(wrong)("02§1.3 wrong shape is 422: %j", async (body) => {
    const answer = await (await newRun()).post("/tasks", body);
    expect(answer.status).toBe(422);
    expect(answer.body.code).toBe("BODY_INVALID");
  });
});
