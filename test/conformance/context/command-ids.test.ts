import { describe, expect, it } from "vitest";
import {
  addTasks,
  call,
  claim,
  eventsOf,
  everything,
  freshId,
  must,
  newRun,
  patchesOf,
  type RunRoutes,
  routes,
  runOf,
  taskOf,
} from "../support.ts";

/** Every command id the events of the run carry. */
async function usedIds(run: RunRoutes): Promise<(string | undefined)[]> {
  return (await eventsOf(run)).map((event) => event.command_id);
}

describe("command ids", () => {
  it("I15 create: a repeated row is dropped and named in deduped", async () => {
    const run = await newRun();
    const row = { id: "a", task_type: "t", command_id: "c1" };
    const first = must(await run.post("/tasks", { tasks: [row] }));
    expect(first).not.toHaveProperty("deduped");
    const before = await everything(run);
    expect(must(await run.post("/tasks", { tasks: [row] }))).toEqual({
      ok: true,
      tasks: [],
      patches: [],
      blackboard: before.blackboard,
      deduped: ["c1"],
    });
    expect(await everything(run)).toEqual(before);
    const mixed = must(
      await run.post("/tasks", { tasks: [row, { id: "b", task_type: "t", command_id: "c2" }] }),
    );
    expect(mixed).toMatchObject({ ok: true, tasks: [{ id: "b" }], patches: [{ seq: 2 }], deduped: ["c1"] });
  });

  it("D42 a command id repeated within a batch drops the later row and says so", async () => {
    const run = await newRun();
    const rows = ["a", "b"].map((id) => ({ id, task_type: "t", command_id: "c" }));
    const body = must(await run.post("/tasks", { tasks: rows }));
    expect(body).toMatchObject({ tasks: [{ id: "a" }], deduped: ["c"] });
    expect((await runOf(run)).tasks.map((task) => task.id)).toEqual(["a"]);
  });

  it("D40 claim: a repeat answers task null, deduped, and the same agent gets its lease again", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a" }, { id: "b" });
    const request = { agent_id: "me", command_id: "c" };
    const { task } = must(await run.post("/tasks/claim", request));
    const before = await everything(run);
    const again = must(await run.post("/tasks/claim", request));
    expect(again).toEqual({
      ok: true,
      deduped: true,
      task: null,
      deduped_task: task,
      blackboard: before.blackboard,
    });
    const other = must(await run.post("/tasks/claim", { agent_id: "other", command_id: "c" }));
    expect(other).toMatchObject({ ok: true, deduped: true, task: null });
    expect(JSON.stringify(other)).not.toContain(task.lease_token);
    expect(await everything(run)).toEqual(before);
  });

  it("D40 claim: deduped_task is the task as it was claimed, whatever happened to it since", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a" });
    const { task } = must(await run.post("/tasks/claim", { agent_id: "me", command_id: "c" }));
    const { lease_token } = task;
    must(await run.post("/tasks/a/transition", { action: "heartbeat", lease_token }));
    must(await run.post("/tasks/a/transition", { action: "complete", lease_token }));
    const again = must(await run.post("/tasks/claim", { agent_id: "me", command_id: "c" }));
    expect(again).toMatchObject({ ok: true, deduped: true, task: null });
    expect(again.deduped_task).toEqual(task);
  });

  it("I12 concurrent repeats of one claim take one task", async () => {
    const run = await newRun();
    await addTasks(run, ...Array.from({ length: 5 }, (_, n) => ({ id: `t${n}` })));
    const bodies = await Promise.all(
      Array.from({ length: 10 }, async () =>
        must(await run.post("/tasks/claim", { agent_id: "me", command_id: "c" })),
      ),
    );
    expect(bodies.filter((body) => body.task !== null)).toHaveLength(1);
    expect(bodies.filter((body) => body.deduped === true)).toHaveLength(9);
    expect((await runOf(run)).revision).toBe(1 + 5 + 1);
  });

  it("I15 transition: a repeat answers deduped with the current task and no patch", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a", status: "in_progress" });
    const request = { action: "fail", command_id: "c", error: "e" };
    must(await run.post("/tasks/a/transition", request));
    must(await run.post("/tasks/a/transition", { action: "retry" }));
    const before = await everything(run);
    expect(must(await run.post("/tasks/a/transition", request))).toEqual({
      ok: true,
      deduped: true,
      task: await taskOf(run, "a"),
      blackboard: before.blackboard,
    });
    expect(await everything(run)).toEqual(before);
  });

  it("D39 one namespace: an id used by a create makes a claim and a transition a no-op", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a", command_id: "c", status: "in_progress" }, { id: "b" });
    const before = await everything(run);
    const claimed = must(await run.post("/tasks/claim", { agent_id: "me", command_id: "c" }));
    expect(claimed).toMatchObject({ ok: true, deduped: true, task: null });
    const moved = must(await run.post("/tasks/a/transition", { action: "complete", command_id: "c" }));
    expect(moved).toMatchObject({ ok: true, deduped: true, task: { status: "in_progress" } });
    expect(
      must(await run.post("/tasks/nobody/transition", { action: "?", command_id: "c" })).task,
    ).toBeNull();
    expect(await everything(run)).toEqual(before);
  });

  it("04§5 only accepted commands are remembered", async () => {
    const run = await newRun();
    const nothing = { agent_id: "me", command_id: "c1" };
    expect(must(await run.post("/tasks/claim", nothing))).toMatchObject({ deduped: false, task: null });
    await addTasks(run, { id: "a" });
    const { task } = must(await run.post("/tasks/claim", nothing));
    expect(task.id).toBe("a");
    const complete = { action: "complete", command_id: "c2" };
    expect(must(await run.post("/tasks/a/transition", complete)).code).toBe("TASK_LEASE_REQUIRED");
    const proven = { ...complete, lease_token: task.lease_token };
    expect(must(await run.post("/tasks/a/transition", { ...proven, expected_task_rev: 9 })).ok).toBe(false);
    expect(must(await run.post("/tasks/a/transition", proven)).task.status).toBe("done");
    expect(await usedIds(run)).toEqual([undefined, "c1", "c2"]);
  });

  it("04§5 ids are compared exactly; they belong to their run", async () => {
    const [run, other] = [await newRun(), await newRun()];
    await addTasks(
      run,
      { id: "a", command_id: "c" },
      { id: "b", command_id: " c " },
      { id: "d", command_id: "C" },
    );
    expect(await usedIds(run)).toEqual(["c", " c ", "C"]);
    expect(await addTasks(other, { id: "a", command_id: "c" })).toHaveLength(1);
  });

  it.each(["", "  "])("D45 the blank command id %j counts as absent", async (command_id) => {
    const run = await newRun();
    await addTasks(run, { id: "a", command_id }, { id: "b", command_id });
    await claim(run, { command_id });
    await claim(run, { command_id });
    expect(await usedIds(run)).toEqual([undefined, undefined, undefined, undefined]);
    expect(JSON.stringify(await patchesOf(run))).not.toContain("command_id");
  });

  it("D38 a command id is remembered after 500 further events", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a", command_id: "c" });
    await addTasks(run, ...Array.from({ length: 500 }, () => ({})));
    must(await run.post("/events", { type: "note", status: "running" }));
    const body = must(await run.post("/tasks", { tasks: [{ id: "z", task_type: "t", command_id: "c" }] }));
    expect(body).toMatchObject({ tasks: [], deduped: ["c"] });
  });

  it("04§5 a command id of 200 characters is fine, a longer one is refused", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a", command_id: "c".repeat(200) });
    const before = await everything(run);
    const long = "c".repeat(201);
    for (const answer of [
      await run.post("/tasks", { tasks: [{ task_type: "t", command_id: long }] }),
      await run.post("/tasks/claim", { agent_id: "me", command_id: long }),
      await run.post("/tasks/a/transition", { action: "retry", command_id: long }),
    ]) {
      expect([400, 413]).toContain(answer.status);
    }
    expect(await everything(run)).toEqual(before);
  });
});

/** Every mutation of a run, as [sub-route, body]. PUT is the empty sub-route. */
const mutations: [string, Record<string, unknown>][] = [
  ["/events", { type: "note", status: "running", payload: { n: 1 } }],
  ["/blackboard/patches", { op: "add_fact", payload: { id: "f", ts_ms: 1, text: "t" } }],
  ["/todos/sync", { todos: [{ content: "c" }] }],
  ["/driver/next", {}],
  ["/lease/validate", { phase: "p", current_path: "/elsewhere" }],
  ["/checkpoints", { reason: "r" }],
  ["/tasks", { tasks: [{ task_type: "t" }] }],
  ["/tasks/claim", { agent_id: "me" }],
  ["/tasks/held/transition", { action: "heartbeat" }],
];

/** A run every mutation succeeds on. */
async function readyRun(): Promise<RunRoutes> {
  const run = await newRun({ workspace: { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 1 } });
  await addTasks(run, { id: "held", status: "in_progress" }, { id: "free" }, { id: "spare" });
  return run;
}

describe("Idempotency-Key", () => {
  it.each(mutations)("D43 %s: a repeat with the same key changes nothing", async (sub, body) => {
    const run = await readyRun();
    const key = { "idempotency-key": freshId("key") };
    const first = must(await run.post(sub, body, key));
    const before = await everything(run);
    const again = must(await run.post(sub, body, key));
    expect(await everything(run)).toEqual(before);
    if (sub !== "/lease/validate") expect(again.ok).toBe(true);
    for (const name of ["event", "checkpoint"] as const) expect(again[name]).toEqual(first[name]);
    if (sub === "/blackboard/patches") expect(again.patch).toEqual(first.patch);
    if (sub === "/checkpoints") return;
    must(await run.post(sub, body, { "idempotency-key": freshId("key") }));
    if (sub !== "/lease/validate")
      expect((await runOf(run)).revision).toBe((before.run as { revision: number }).revision + 1);
  });

  it.each(mutations.slice(0, 6))("D43 %s: command_id in the body works alike", async (sub, body) => {
    const run = await readyRun();
    const once = { ...body, command_id: "c" };
    const first = must(await run.post(sub, once));
    const before = await everything(run);
    const again = must(await run.post(sub, once));
    expect(await everything(run)).toEqual(before);
    for (const name of ["event", "checkpoint"] as const) expect(again[name]).toEqual(first[name]);
  });

  it("D43 PUT: a repeat with the same key changes nothing", async () => {
    const run = await newRun();
    const body = { ...(await runOf(run)), objective: "x" };
    const key = { "idempotency-key": freshId("key") };
    expect(must(await run.put(body, key)).ok).toBe(true);
    const before = await everything(run);
    expect(must(await run.put(body, key)).ok).toBe(true);
    expect(await everything(run)).toEqual(before);
  });

  it("D43 creating a run without an id twice with one key makes one run", async () => {
    const key = { "idempotency-key": freshId("key") };
    const first = must(await call("POST", "/context/runs", { objective: "o" }, key));
    const again = must(await call("POST", "/context/runs", { objective: "o" }, key));
    expect(again.run).toEqual(first.run);
  });

  it("D43 the key of a claim gives the same agent its lease again", async () => {
    const run = await readyRun();
    const key = { "idempotency-key": freshId("key") };
    const { task } = must(await run.post("/tasks/claim", { agent_id: "me" }, key));
    const again = must(await run.post("/tasks/claim", { agent_id: "me" }, key));
    expect(again).toMatchObject({ ok: true, deduped: true, task: null, deduped_task: task });
  });

  it("D43 concurrent repeats append once", async () => {
    const run = await newRun();
    const key = { "idempotency-key": freshId("key") };
    const bodies = await Promise.all(
      Array.from({ length: 10 }, async () =>
        must(await run.post("/events", { type: "note", status: "running" }, key)),
      ),
    );
    expect(new Set(bodies.map((body) => body.event.event_id)).size).toBe(1);
    expect(await eventsOf(routes(run.id))).toHaveLength(1);
  });
});
