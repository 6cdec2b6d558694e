import { describe, expect, it } from "vitest";
import { arrange, eventsOf, everything, freshId, lastEvent, routes, runOf } from "../support.ts";
import { allPages, good, newNativeRun, problem } from "./support.ts";

const unknown = () => routes(freshId(), "/v1");

describe("/v1/runs/{id}/events", () => {
  it("v1 append: 201 {event}, the record the log shows", async () => {
    const run = await newNativeRun();
    const sent = { type: "note", status: "running", step_id: "s", payload: { a: 1 } };
    const body = good(await run.post("/events", sent), 201);
    expect(Object.keys(body)).toEqual(["event"]);
    expect(body.event).toMatchObject({ ...sent, seq: 1, revision: 2, run_status: "running" });
    expect(await eventsOf(run)).toEqual([body.event]);
    expect(good(await run.get("/events"))).toEqual({ events: [body.event], next_cursor: null, next: null });
  });

  it.each(["context.task.created", "Context.Task.X"])(
    "v1 append: %s is 422 TASK_EVENT_APPEND_DISABLED",
    async (type) => {
      const run = await newNativeRun();
      problem(await run.post("/events", { type, status: "running" }), 422, "TASK_EVENT_APPEND_DISABLED");
      expect(await eventsOf(run)).toEqual([]);
    },
  );

  it("v1 append: an engine-owned type is marked origin client", async () => {
    const run = await newNativeRun();
    const { event } = good(await run.post("/events", { type: "todo_synced", status: "running" }), 201);
    expect(event.origin).toBe("client");
  });

  it("v1 events: pages, since_seq and tail", async () => {
    const run = await newNativeRun();
    for (const n of [1, 2, 3, 4, 5])
      good(await run.post("/events", { type: `n${n}`, status: "running" }), 201);
    const events = await eventsOf(run);
    const path = `/v1/runs/${run.id}/events`;
    for (const limit of [1, 2, 5, 1000]) {
      const { rows, sizes } = await allPages(`${path}?limit=${limit}`, (body) => body.events);
      expect(rows).toEqual(events);
      expect(sizes[0]).toBe(Math.min(limit, 5));
    }
    expect((await allPages(`${path}?since_seq=2&limit=2`, (body) => body.events)).rows).toEqual(
      events.slice(2),
    );
    for (const [tail, count] of [
      [0, 0],
      [2, 2],
      [5, 5],
      [9, 5],
    ] as const) {
      const body = good(await run.get(`/events?tail=${tail}`));
      expect(body, `tail ${tail}`).toEqual({
        events: events.slice(5 - count),
        next_cursor: null,
        next: null,
      });
    }
  });

  it("v1 events: 404 RUN_NOT_FOUND", async () => {
    problem(await unknown().get("/events"), 404, "RUN_NOT_FOUND");
    problem(await unknown().post("/events", { type: "note", status: "running" }), 404, "RUN_NOT_FOUND");
  });
});

describe("/v1: steps, driver, workspace", () => {
  it("v1 todos/sync: 200 {event}", async () => {
    const run = await newNativeRun();
    const body = good(await run.post("/todos/sync", { todos: [{ id: "s", content: "c", status: "doing" }] }));
    expect(body).toEqual({ event: await lastEvent(run) });
    expect(body.event.type).toBe("todo_synced");
    expect(await runOf(run)).toMatchObject({
      status: "running",
      steps: [{ step_id: "s", status: "in_progress" }],
    });
  });

  it("v1 driver/next: 200 with the selection and the event; a dry run has no event", async () => {
    const run = await newNativeRun();
    await arrange(run, { steps: [{ step_id: "s", title: "t", status: "pending" }] });
    const selection = {
      selected_step_id: "s",
      target_status: "running",
      why_next_step: "no runnable step available; promoted pending step `s` for execution",
    };
    const before = await everything(run);
    expect(good(await run.post("/driver/next", { dry_run: true }))).toEqual({ dry_run: true, ...selection });
    expect(await everything(run)).toEqual(before);
    const body = good(await run.post("/driver/next"));
    expect(body).toEqual({ dry_run: false, ...selection, event: await lastEvent(run) });
    expect(body.event.type).toBe("meta_next_step_selected");
  });

  it("v1 lease/validate: adopted with event, equal without, different 409 WORKSPACE_MISMATCH", async () => {
    const run = await newNativeRun();
    const validate = (current_path: string) => run.post("/lease/validate", { phase: "p", current_path });
    const adopted = good(await validate("/srv/ws"));
    expect(adopted).toEqual({ mismatch: false, event: await lastEvent(run) });
    expect(adopted.event.type).toBe("workspace_validated");
    expect(good(await validate("/srv/ws"))).toEqual({ mismatch: false });
    expect(problem(await validate("/srv/other"), 409, "WORKSPACE_MISMATCH")).toMatchObject({
      expected_path: "/srv/ws",
      actual_path: "/srv/other",
      run_status: "paused",
    });
    expect((await runOf(run)).status).toBe("paused");
    await arrange(run, { status: "completed" });
    const before = await everything(run);
    expect(problem(await validate("/srv/other"), 409, "WORKSPACE_MISMATCH")).toMatchObject({
      run_status: "completed",
    });
    expect(await everything(run)).toEqual(before);
  });

  it("v1 lease/validate: a blank path on a run without one is 400 FIELD_INVALID", async () => {
    const answer = await (await newNativeRun()).post("/lease/validate", { phase: "p", current_path: " " });
    expect(problem(answer, 400, "FIELD_INVALID").issues).toMatchObject([{ field: "current_path" }]);
  });

  it("v1 steps: 404 RUN_NOT_FOUND", async () => {
    problem(await unknown().post("/todos/sync", { todos: [] }), 404, "RUN_NOT_FOUND");
    problem(await unknown().post("/driver/next", {}), 404, "RUN_NOT_FOUND");
    problem(await unknown().post("/lease/validate", { phase: "p", current_path: "" }), 404, "RUN_NOT_FOUND");
  });
});
