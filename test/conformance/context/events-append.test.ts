import { describe, expect, it } from "vitest";
import { everything, freshId, generatedId, must, newRun, type RunRoutes, routes, runOf } from "../support.ts";

describe("POST …/events: the record", () => {
  it("02§3.2 answers {ok, event} with exactly the record that is stored", async () => {
    const run = await newRun();
    const payload = { a: [1, { b: null }], task: { id: "x" } };
    const body = must(
      await run.post("/events", { type: "note", status: "running", step_id: " s ", payload }),
    );
    expect(body).toEqual({
      ok: true,
      event: {
        event_id: generatedId("evt"),
        run_id: run.id,
        seq: 1,
        ts_ms: expect.any(Number),
        type: "note",
        status: "running",
        run_status: "running",
        revision: 2,
        step_id: " s ",
        payload,
      },
    });
    expect(must(await run.get("/events")).events).toEqual([body.event]);
  });

  const payloads: unknown[] = [null, 0, -1.5, "", "text", false, [], {}, { "": { é: "\u{1F600}" } }];
  it.for(payloads)("02§3.2 stores any JSON payload: %j", async (payload) => {
    const { event } = must(
      await (await newRun()).post("/events", { type: "note", status: "running", payload }),
    );
    expect(event.payload).toEqual(payload);
  });

  it("01§4.6 payload defaults to null; step_id, task_id and command_id are absent", async () => {
    const { event } = must(
      await (await newRun()).post("/events", { type: "note", status: "running", step_id: null }),
    );
    expect(event.payload).toBeNull();
    for (const name of ["step_id", "task_id", "command_id", "origin"]) expect(event).not.toHaveProperty(name);
  });

  it("D09 a payload with a task or a run changes neither tasks nor the run", async () => {
    const run: RunRoutes = await newRun();
    const task = { id: "t", task_type: "x", status: "pending", created_ts: 1, updated_ts: 1 };
    const forged = { ...(await runOf(run)), objective: "forged", status: "failed" };
    for (const type of ["note", "context.run.replaced", "todo_synced", "context.blackboard.patched"]) {
      must(
        await run.post("/events", {
          type,
          status: "running",
          payload: { task, run: forged, op: "add_fact" },
        }),
      );
    }
    expect(await runOf(run)).toMatchObject({ tasks: [], objective: "", status: "running", revision: 5 });
    expect(must(await run.get("/blackboard/patches")).patches).toEqual([]);
  });

  const owned = [
    "context.run.replaced",
    "context.anything",
    "context.blackboard.patched",
    "context.artifact.added",
    "todo_synced",
    "meta_next_step_selected",
    "workspace_validated",
    "workspace_mismatch",
    "tool_effect_recorded",
    "mutation_checkpoint_recorded",
    "rollback_execution_applied",
    "rollback_execution_blocked",
  ];
  it.each(owned)("D07 a client's %s is stored with origin client", async (type) => {
    const { event } = must(await (await newRun()).post("/events", { type, status: "running" }));
    expect(event).toMatchObject({ type, origin: "client" });
  });

  const guarded = ["context.task.created", " context.task.x ", "context.task.", "Context.Task.Completed"];
  it.each(guarded)("D08 refuses the type %j", async (type) => {
    const run = await newRun();
    const before = await everything(run);
    expect(must(await run.post("/events", { type, status: "running" }))).toEqual({
      ok: false,
      code: "TASK_EVENT_APPEND_DISABLED",
      error: "task events must go through the run task endpoints",
    });
    expect(await everything(run)).toEqual(before);
  });

  it.each(["note", "context.task.x"])("01§8 unknown run: 404 before any other check (%s)", async (type) => {
    const answer = await routes(freshId()).post("/events", { type, status: "running" });
    expect(answer.status).toBe(404);
    expect(answer.body.code).toBe("RUN_NOT_FOUND");
  });

  const wrong: Record<string, unknown>[] = [
    {},
    { type: "note" },
    { status: "running" },
    { type: "note", status: "Running" },
    { type: 1, status: "running" },
    { type: "note", status: null },
    { type: "note", status: "running", step_id: 1 },
  ];
  it.each(wrong)("02§1.3 wrong shape is 422: %j", async (body) => {
    expect((await (await newRun()).post("/events", body)).status).toBe(422);
  });
});
