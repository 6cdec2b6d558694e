import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  everything,
  FINGERPRINT,
  freshId,
  generatedId,
  lastEvent,
  must,
  newRun,
  routes,
  runOf,
  taskOf,
} from "../support.ts";
import { addNativeTasks, allPages, good, newNativeRun, problem } from "./support.ts";

describe("POST /v1/runs/{id}/tasks", () => {
  it("v1 tasks: 201 {tasks, deduped}, Location for a single one", async () => {
    const run = await newNativeRun();
    const row = { id: "a", task_type: "research", command_id: "c" };
    const answer = await run.post("/tasks", { tasks: [row] });
    const body = good(answer, 201);
    expect(body).toEqual({ tasks: [await taskOf(run, "a")], deduped: [], unknown_dependency_ids: [] });
    expect(new URL(answer.headers.get("location") ?? "", "http://any").pathname).toBe(
      `/v1/runs/${run.id}/tasks/a`,
    );
    const two = await run.post("/tasks", {
      tasks: [row, { id: "b", task_type: "x" }, { id: "d", task_type: "x" }],
    });
    expect(good(two, 201)).toMatchObject({ tasks: [{ id: "b" }, { id: "d" }], deduped: ["c"] });
    expect(two.headers.get("location")).toBeNull();
  });

  const refused: [string, Record<string, unknown>, number, string, Record<string, unknown>][] = [
    ["a payload that is no object", { payload: 1 }, 422, "TASK_CONTRACT_INVALID", { task_id: "n" }],
    [
      "no output target",
      { task_type: "implementation" },
      422,
      "TASK_OUTPUT_TARGET_REQUIRED",
      { task_id: "n" },
    ],
    ["a stored pending id", { id: "old" }, 409, "TASK_EXISTS", { task_id: "old" }],
    [
      "a dependency on itself",
      { depends_on_task_ids: ["n"] },
      422,
      "TASK_DEPENDENCY_CYCLE",
      {
        task_id: "n",
        cycle: ["n", "n"],
      },
    ],
    ["a blank task_type", { task_type: " " }, 400, "FIELD_INVALID", {}],
  ];
  it.each(refused)("v1 tasks: %s refuses the whole batch", async (_name, row, status, code, members) => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "old" });
    const before = await everything(run);
    const tasks = [
      { id: "first", task_type: "x" },
      { id: "n", task_type: "x", ...row },
    ];
    expect(problem(await run.post("/tasks", { tasks }), status, code)).toMatchObject(members);
    expect(await everything(run)).toEqual(before);
  });

  it("v1 tasks: a cycle names its ids, the first one again at the end", async () => {
    const run = await newNativeRun();
    await addNativeTasks(
      run,
      { id: "a", depends_on_task_ids: ["b"] },
      { id: "b", depends_on_task_ids: ["c"] },
    );
    const answer = await run.post("/tasks", {
      tasks: [{ id: "c", task_type: "x", depends_on_task_ids: ["a"] }],
    });
    const { cycle } = problem(answer, 422, "TASK_DEPENDENCY_CYCLE") as unknown as { cycle: string[] };
    expect(cycle).toHaveLength(4);
    expect(cycle[0]).toBe(cycle[3]);
    expect([...new Set(cycle)].sort()).toEqual(["a", "b", "c"]);
  });

  it("v1 tasks: an empty batch is 400 FIELD_INVALID, 501 rows 413 LIMIT_EXCEEDED", async () => {
    const run = await newNativeRun();
    expect(problem(await run.post("/tasks", { tasks: [] }), 400, "FIELD_INVALID").issues).toMatchObject([
      { field: "tasks" },
    ]);
    const tasks = Array.from({ length: 501 }, () => ({ task_type: "x" }));
    expect(problem(await run.post("/tasks", { tasks }), 413, "LIMIT_EXCEEDED")).toMatchObject({
      limit: 500,
      actual: 501,
    });
  });
});

describe("GET /v1/runs/{id}/tasks", () => {
  it("v1 tasks: pages in the order they were added, by status too", async () => {
    const run = await newNativeRun();
    const statuses = ["done", "pending", "done", "failed", "done", "pending", "blocked"];
    await addNativeTasks(run, ...statuses.map((status, n) => ({ id: `t${n}`, status, priority: n })));
    const { tasks } = await runOf(run);
    const path = `/v1/runs/${run.id}/tasks`;
    for (const limit of [1, 3, 7, 1000]) {
      const all = await allPages(`${path}?limit=${limit}`, (body) => body.tasks);
      expect(all.rows).toEqual(tasks);
      const done = await allPages(`${path}?limit=${limit}&status=done`, (body) => body.tasks);
      expect(done.rows).toEqual(tasks.filter((task) => task.status === "done"));
    }
    expect(good(await run.get("/tasks?status=runnable")).tasks).toEqual([]);
  });

  it("v1 task: {task, claimable, open_dependency_ids, attempts_exhausted} and an ETag", async () => {
    const run = await newNativeRun();
    await addNativeTasks(
      run,
      { id: "a" },
      { id: "b", status: "done" },
      { id: "t", depends_on_task_ids: ["a", "b", "nobody"], max_attempts: 1 },
    );
    const answer = await run.get("/tasks/t");
    const { open_dependency_ids, ...rest } = good(answer);
    expect(rest).toEqual({ task: await taskOf(run, "t"), claimable: false, attempts_exhausted: false });
    expect([...open_dependency_ids].sort()).toEqual(["a", "nobody"]);
    expect(answer.headers.get("etag")).toBe('"1"');
    expect(good(await run.get("/tasks/a"))).toMatchObject({ claimable: true, open_dependency_ids: [] });
    must(await routes(run.id).post("/tasks", { tasks: [{ id: "spent", task_type: "t", max_attempts: 0 }] }));
    expect(good(await run.get("/tasks/spent"))).toMatchObject({ attempts_exhausted: true });
    good(await run.post("/tasks/claim", { agent_id: "me" }));
    const claimed = await run.get("/tasks/a");
    expect(good(claimed)).toMatchObject({
      claimable: false,
      task: { lease_token: expect.stringMatching(FINGERPRINT) },
    });
    expect(claimed.headers.get("etag")).toBe('"2"');
    problem(await run.get("/tasks/none"), 404, "TASK_NOT_FOUND");
  });
});

describe("POST /v1/runs/{id}/tasks/claim", () => {
  it("v1 claim: {task, lease}; both null when nothing is claimable", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    const body = good(await run.post("/tasks/claim", { agent_id: "me", lease_ms: 60_000 }));
    const event = await lastEvent(run);
    expect(body).toEqual({
      task: { ...(await taskOf(run, "t")), lease_token: body.lease.token },
      lease: {
        token: generatedId("lease"),
        fence: event.seq,
        expires_at_ms: event.ts_ms + 60_000,
        expires_in_ms: 60_000,
      },
      handover: null,
      reason: null,
      run_status: "queued",
    });
    expect(good(await run.post("/tasks/claim", { agent_id: "me" }))).toEqual({
      task: null,
      lease: null,
      handover: null,
      reason: "nothing_claimable",
      run_status: "queued",
    });
  });

  it("v1 claim: with max, several at once, of which a repeat gets the same", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, ...["a", "b", "c"].map((id) => ({ id })));
    const key = { "idempotency-key": freshId("key") };
    const first = await run.post("/tasks/claim", { agent_id: "me", max: 2 }, key);
    const { claims, ...rest } = good(first) as unknown as {
      claims: { task: { id: string; lease_token: string }; lease: { token: string } }[];
    };
    expect(rest).toEqual({ reason: null, run_status: "queued" });
    expect(claims.map(({ task }) => task.id)).toEqual(["a", "b"]);
    for (const { task, lease } of claims) {
      expect(task).toEqual({ ...(await taskOf(run, task.id)), lease_token: lease.token });
      expect(lease).toEqual({
        token: generatedId("lease"),
        fence: expect.any(Number),
        expires_at_ms: expect.any(Number),
        expires_in_ms: 30_000,
      });
    }
    const again = await run.post("/tasks/claim", { agent_id: "me", max: 2 }, key);
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(again.text).toBe(first.text);
    expect(good(await run.post("/tasks/claim", { agent_id: "me", max: 9 }))).toMatchObject({
      claims: [{ task: { id: "c" } }],
    });
    expect(good(await run.post("/tasks/claim", { agent_id: "me", max: 9 }))).toMatchObject({
      claims: [],
      reason: "nothing_claimable",
    });
  });

  it.each([0, 101, 1.5, "2"])("v1 claim: max %j is refused", async (max) => {
    const run = await newNativeRun();
    const answer = await run.post("/tasks/claim", { agent_id: "me", max });
    expect(problem(answer, 422, "BODY_INVALID").issues).toMatchObject([{ field: "max" }]);
  });

  it.each([
    ["run_paused", "paused"],
    ["run_cancelled", "cancelled"],
    ["run_ended", "completed"],
    ["run_ended", "failed"],
  ])("v1 claim: %s, where the run is %s", async (reason, run_status) => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    await arrange(run, { status: run_status });
    expect(good(await run.post("/tasks/claim", { agent_id: "me" }))).toEqual({
      task: null,
      lease: null,
      handover: null,
      reason,
      run_status,
    });
  });

  it.each([
    [0, 5_000],
    [undefined, 30_000],
    [999_999, 300_000],
  ])("v1 claim: lease_ms %j is clamped to %i", async (lease_ms, lasts) => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    const { lease } = good(await run.post("/tasks/claim", { agent_id: "me", lease_ms }));
    expect(lease.expires_at_ms).toBe((await lastEvent(run)).ts_ms + lasts);
  });

  it("v1 claim: filters", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "a", task_type: "x" }, { id: "b", task_type: "y", workflow_id: "w" });
    const next = async (filter: object) =>
      good(await run.post("/tasks/claim", { agent_id: "me", ...filter })).task?.id;
    expect(await next({ task_type: "z" })).toBeUndefined();
    expect(await next({ workflow_id: "w" })).toBe("b");
    expect(await next({ task_type: "x" })).toBe("a");
  });

  it("v1 claim: of 20 concurrent claims exactly one gets the task", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    const bodies = await Promise.all(
      Array.from({ length: 20 }, async (_, n) => good(await run.post("/tasks/claim", { agent_id: `a${n}` }))),
    );
    const winners = bodies.filter((body) => body.task !== null);
    expect(winners).toHaveLength(1);
    expect((await taskOf(run, "t")).lease_owner).toBe(winners[0]?.task.lease_owner);
  });

  it("v1 claim: a blank agent is 400 FIELD_INVALID, an unknown run 404", async () => {
    const answer = await (await newNativeRun()).post("/tasks/claim", { agent_id: " " });
    expect(problem(answer, 400, "FIELD_INVALID").issues).toMatchObject([{ field: "agent_id" }]);
    problem(await routes(freshId(), "/v1").post("/tasks/claim", { agent_id: "a" }), 404, "RUN_NOT_FOUND");
  });
});

describe("POST /v1/runs/{id}/tasks/{task_id}/transition", () => {
  it("v1 transition: 200 {task}, and lease after a heartbeat", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    const { lease } = good(await run.post("/tasks/claim", { agent_id: "me" }));
    const go = (body: object) => run.post("/tasks/t/transition", { lease_token: lease.token, ...body });
    const beat = good(await go({ action: "heartbeat", lease_ms: 120_000 }));
    expect(Object.keys(beat).sort()).toEqual(["lease", "run_status", "stop", "task"]);
    expect(beat.lease).toMatchObject({
      token: lease.token,
      expires_at_ms: (await lastEvent(run)).ts_ms + 120_000,
    });
    expect(beat.task).toMatchObject({ lease_token: lease.token, task_rev: 3 });
    const done = good(await go({ action: "complete", expected_task_rev: 3 }));
    expect(done).toEqual({ task: await taskOf(run, "t") });
    expect(done.task.status).toBe("done");
  });

  /** Request on a leased task in progress of revision 2, status, code, extra members. */
  const refused: [Record<string, unknown>, number, string, Record<string, unknown>][] = [
    [
      { action: "complete" },
      409,
      "TASK_LEASE_REQUIRED",
      { lease_owner: "me", lease_expires_at_ms: expect.any(Number) },
    ],
    [
      { action: "complete", lease_token: "x" },
      409,
      "TASK_LEASE_INVALID",
      {
        lease_owner: "me",
        lease_expires_at_ms: expect.any(Number),
      },
    ],
    [
      { action: "heartbeat", lease_token: "%T", agent_id: "thief" },
      409,
      "TASK_LEASE_INVALID",
      { lease_owner: "me" },
    ],
    [{ action: "complete", expected_task_rev: 1 }, 409, "TASK_REV_MISMATCH", { task_rev: 2 }],
    [
      { action: "retry", lease_token: "%T" },
      409,
      "TASK_TRANSITION_INVALID",
      { current_status: "in_progress" },
    ],
    [
      { action: "status", status: "pending", lease_token: "%T" },
      409,
      "TASK_TRANSITION_INVALID",
      {
        current_status: "in_progress",
        requested_status: "pending",
      },
    ],
    [{ action: "dance" }, 400, "FIELD_INVALID", { issues: [{ field: "action" }] }],
    [{ action: "status" }, 400, "FIELD_INVALID", { issues: [{ field: "status" }] }],
  ];
  it.each(refused)("v1 transition: %j is %i %s", async (body, status, code, members) => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    const { lease } = good(await run.post("/tasks/claim", { agent_id: "me" }));
    const before = await everything(run);
    const sent = { ...body, ...(body.lease_token === "%T" ? { lease_token: lease.token } : {}) };
    expect(problem(await run.post("/tasks/t/transition", sent), status, code)).toMatchObject(members);
    expect(await everything(run)).toEqual(before);
  });

  it("v1 transition: unknown run, unknown task: 404", async () => {
    const run = await newNativeRun();
    problem(await run.post("/tasks/t/transition", { action: "retry" }), 404, "TASK_NOT_FOUND");
    problem(
      await routes(freshId(), "/v1").post("/tasks/t/transition", { action: "retry" }),
      404,
      "RUN_NOT_FOUND",
    );
  });
});

describe("both doors", () => {
  it("v1 two doors: a lease from one is worked at the other", async () => {
    const old = await newRun();
    const native = routes(old.id, "/v1");
    await addTasks(old, { id: "a" });
    await addNativeTasks(native, { id: "b" });
    const { lease } = good(await native.post("/tasks/claim", { agent_id: "me" }));
    const done = await old.post("/tasks/a/transition", { action: "complete", lease_token: lease.token });
    expect(done.body).toMatchObject({ ok: true, task: { status: "done" } });
    const { task } = good(await old.post("/tasks/claim", { agent_id: "me" }));
    const failed = await native.post("/tasks/b/transition", {
      action: "fail",
      lease_token: task.lease_token,
    });
    expect(good(failed).task).toMatchObject({ status: "failed", attempt: 1 });
    await arrange(old, { status: "paused" });
    expect(good(await native.get()).run).toMatchObject({
      status: "paused",
      task_counts: { done: 1, failed: 1, total: 2 },
    });
  });
});
