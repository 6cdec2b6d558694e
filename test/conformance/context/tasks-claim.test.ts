import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  claim,
  eventsOf,
  everything,
  FINGERPRINT,
  freshId,
  generatedId,
  lastEvent,
  lastPatch,
  must,
  newRun,
  patchesOf,
  RUN_STATUSES,
  type RunRoutes,
  routes,
  runOf,
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

describe("POST …/tasks/claim", () => {
  it("04§4 answer, stored task, event and patch, exactly", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t1", workflow_id: "w", status: "runnable", priority: 2, payload: { a: 1 } });
    const before = await arrange(run, { status: "paused" });
    const body = must(
      await run.post("/tasks/claim", { agent_id: " agent-1 ", command_id: "c1", lease_ms: 60_000 }),
    );
    const event = await lastEvent(run);
    const claimed = {
      ...before.tasks[0],
      status: "in_progress",
      assigned_agent: "agent-1",
      lease_owner: "agent-1",
      lease_token: generatedId("lease"),
      lease_expires_at_ms: event.ts_ms + 60_000,
      fence: event.seq,
      claimed_at_ms: event.ts_ms,
      task_rev: 2,
      updated_ts: event.ts_ms,
    };
    const masked = { ...claimed, lease_token: expect.stringMatching(FINGERPRINT) };
    const { blackboard } = body;
    expect(body).toEqual({ ok: true, deduped: false, task: claimed, blackboard });
    expect(blackboard).toMatchObject({ tasks: [masked], revision: event.seq });
    expect(must(await run.get("/blackboard")).blackboard).toEqual(blackboard);
    expect((await runOf(run)).tasks).toEqual([masked]);
    expect(event).toEqual({
      event_id: generatedId("evt"),
      run_id: run.id,
      seq: before.last_event_seq + 1,
      ts_ms: expect.any(Number),
      type: "context.task.claimed",
      status: "paused",
      run_status: "paused",
      revision: before.revision + 1,
      step_id: "t1",
      task_id: "t1",
      command_id: "c1",
      payload: {
        task_id: "t1",
        agent_id: "agent-1",
        task_rev: 2,
        workflow_id: "w",
        task: masked,
        patch_seq: event.seq,
      },
    });
    expect(await lastPatch(run)).toEqual({
      patch_id: generatedId("bbp"),
      run_id: run.id,
      seq: event.seq,
      ts_ms: event.ts_ms,
      source_event_seq: event.seq,
      op: "update_task_state",
      payload: {
        task_id: "t1",
        status: "in_progress",
        assigned_agent: "agent-1",
        lease_owner: "agent-1",
        lease_token: expect.stringMatching(FINGERPRINT),
        lease_expires_at_ms: event.ts_ms + 60_000,
        task_rev: 2,
        command_id: "c1",
      },
    });
    const views = JSON.stringify([await eventsOf(run), await patchesOf(run), await runOf(run), blackboard]);
    expect(views).not.toContain(body.task.lease_token);
  });

  it("04§4 without workflow the event says null; without command id none is stored", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    await claim(run);
    const event = await lastEvent(run);
    expect(event.payload).toMatchObject({ workflow_id: null });
    expect(event).not.toHaveProperty("command_id");
    expect((await lastPatch(run)).payload).not.toHaveProperty("command_id");
  });

  it("04§4 nothing claimable: task null, nothing stored", async () => {
    const run = await newRun();
    await addTasks(run, { status: "done" });
    const before = await everything(run);
    const body = must(await run.post("/tasks/claim", { agent_id: "a", command_id: "c" }));
    expect(body).toEqual({ ok: true, deduped: false, task: null, blackboard: before.blackboard });
    expect(await everything(run)).toEqual(before);
  });

  const leases: [number | null | undefined, number][] = [
    [undefined, 30_000],
    [null, 30_000],
    [0, 5_000],
    [4_999, 5_000],
    [5_001, 5_001],
    [300_000, 300_000],
    [4_000_000_000, 300_000],
  ];
  it.each(leases)("04§4 lease_ms %j lasts %i", async (lease_ms, lasts) => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const task = await claim(run, { lease_ms });
    expect(task.lease_expires_at_ms).toBe((await lastEvent(run)).ts_ms + lasts);
  });

  it.each(RUN_STATUSES)("D51 a %s run is claimable", async (status) => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    await arrange(run, { status });
    expect(await claimOrder(run)).toEqual(["t"]);
    expect(await lastEvent(run)).toMatchObject({ status, run_status: status });
  });

  it("04§4 attempt, last_error, next_retry_at_ms and payload survive a claim", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const changes = { attempt: 2, last_error: "e", next_retry_at_ms: 5, payload: [1], max_attempts: 1 };
    await arrange(run, { tasks: [{ ...(await taskOf(run, "t")), ...changes }] });
    expect(await claim(run)).toMatchObject(changes);
  });

  it("I12 of 20 concurrent claims on one task exactly one holds it", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const bodies = await Promise.all(
      Array.from({ length: 20 }, async (_, n) =>
        must(await run.post("/tasks/claim", { agent_id: `agent-${n}` })),
      ),
    );
    const [winner, ...others] = bodies.filter((body) => body.task !== null);
    expect(others).toEqual([]);
    expect((await taskOf(run, "t")).lease_owner).toBe(winner?.task.lease_owner);
    expect((await eventsOf(run)).map((event) => event.type)).toEqual([
      "context.task.created",
      "context.task.claimed",
    ]);
  });

  it("I12 concurrent claims never share a task", async () => {
    const run = await newRun();
    await addTasks(run, ...Array.from({ length: 10 }, (_, n) => ({ id: `t${n}` })));
    const bodies = await Promise.all(
      Array.from({ length: 20 }, async (_, n) =>
        must(await run.post("/tasks/claim", { agent_id: `agent-${n}` })),
      ),
    );
    const ids = bodies.flatMap((body) => (body.task === null ? [] : [body.task.id]));
    expect(ids.sort()).toEqual(Array.from({ length: 10 }, (_, n) => `t${n}`));
  });

  it("02§5.5 a blank agent is 400, checked before the run is looked up", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const before = await everything(run);
    for (const agent_id of ["", "  "]) {
      const answer = await run.post("/tasks/claim", { agent_id });
      expect(answer.status).toBe(400);
      expect(answer.body.code).toEqual(expect.any(String));
      expect((await routes(freshId()).post("/tasks/claim", { agent_id })).status).toBe(400);
    }
    expect(await everything(run)).toEqual(before);
    expect((await routes(freshId()).post("/tasks/claim", { agent_id: "a" })).status).toBe(404);
  });

  const wrong: Record<string, unknown>[] = [
    {},
    { agent_id: 1 },
    { agent_id: null },
    { agent_id: "a", lease_ms: -1 },
    { agent_id: "a", lease_ms: 5000.5 },
    { agent_id: "a", lease_ms: "5000" },
    { agent_id: "a", task_type: 1 },
    { agent_id: "a", workflow_id: [] },
    { agent_id: "a", command_id: 1 },
  ];
  it.each(wrong)("02§1.3 wrong shape is 422: %j", async (body) => {
    expect((await (await newRun()).post("/tasks/claim", body)).status).toBe(422);
  });

  it("D35 Prefer: return=minimal leaves out the blackboard", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const body = must(await run.post("/tasks/claim", { agent_id: "a" }, { prefer: "return=minimal" }));
    expect(body).toMatchObject({ ok: true, deduped: false, task: { id: "t" } });
    expect(body).not.toHaveProperty("blackboard");
  });
});
