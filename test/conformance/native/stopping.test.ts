import { describe, expect, it } from "vitest";
import {
  type Answer,
  addTasks,
  eventsOf,
  eventually,
  everything,
  freshId,
  lastEvent,
  type RunRoutes,
  routes,
  runOf,
  taskOf,
} from "../support.ts";
import { addNativeTasks, good, newNativeRun, problem } from "./support.ts";

/** What the wire has for these, beside what both doors have. */
interface Told {
  run_status: string;
  revoke_at_ms: number | null;
  stop: { reason: string; detail?: string; revoke_at_ms: number | null } | null;
  lease: { token: string; fence: number };
  task: { status: string; fence?: number; failure?: { cause: string }; cancellation?: unknown };
}

const told = (answer: Answer) => good(answer) as unknown as Told;

/** A run with one task that an agent holds, and the token. */
async function heldRun(): Promise<{ run: RunRoutes; lease_token: string; fence: number }> {
  const run = await newNativeRun();
  await addNativeTasks(run, { id: "t" }, { id: "spare", priority: -1 });
  const { lease } = told(await run.post("/tasks/claim", { agent_id: "me", lease_ms: 300_000 }));
  return { run, lease_token: lease.token, fence: lease.fence };
}

const beat = (run: RunRoutes, lease_token: string) =>
  run.post("/tasks/t/transition", { action: "heartbeat", lease_token });

const HALTS = [
  ["/pause", "run_paused", "paused"],
  ["/cancel", "run_cancelled", "cancelled"],
] as const;

describe("POST /v1/runs/{id}/pause, /resume, /cancel", () => {
  it.each(HALTS)(
    "v1 %s: 200 {event, run_status, revoke_at_ms}, told to holder and claimers",
    async (sub, reason, status) => {
      const { run, lease_token } = await heldRun();
      const answer = good(await run.post(sub, { reason: "lunch", grace_ms: 60_000 }));
      const event = await lastEvent(run);
      const revoke_at_ms = event.ts_ms + 60_000;
      expect(answer).toEqual({ event, run_status: status, revoke_at_ms });
      expect(event).toMatchObject({
        type: reason,
        run_status: status,
        payload: { reason: "lunch", grace_ms: 60_000 },
        halt: { revoke_at_ms, reason: "lunch" },
      });
      expect(good(await run.get())).toMatchObject({
        run: { status, halt: { seq: event.seq, revoke_at_ms, reason: "lunch" } },
      });
      expect(told(await beat(run, lease_token))).toMatchObject({
        run_status: status,
        stop: { reason, detail: "lunch", revoke_at_ms },
      });
      expect(good(await run.post("/tasks/claim", { agent_id: "other" }))).toEqual({
        task: null,
        lease: null,
        handover: null,
        reason,
        run_status: status,
      });
      // The holder may still finish.
      const done = await run.post("/tasks/t/transition", { action: "complete", lease_token });
      expect(told(done).task.status).toBe("done");
    },
  );

  it.each(HALTS)(
    "v1 %s: at the end of the grace the lease is revoked, and a late finisher refused",
    async (sub) => {
      const { run, lease_token } = await heldRun();
      good(await run.post(sub, { grace_ms: 0 }));
      const event = await lastEvent(run);
      expect(event).toMatchObject({
        type: "context.task.requeued",
        payload: { reason: "revoked", lease_owner: "me" },
      });
      expect(await taskOf(run, "t")).toMatchObject({
        status: "runnable",
        attempt: 0,
        attempts: [{ agent_id: "me", outcome: "revoked" }],
      });
      const late = await run.post("/tasks/t/transition", { action: "complete", lease_token });
      expect(late.status).toBe(409);
    },
  );

  it("v1 pause: the alarm ends the grace by itself", async () => {
    const { run } = await heldRun();
    good(await run.post("/pause", { grace_ms: 200 }));
    const task = await eventually(async () => {
      const found = await taskOf(run, "t");
      return found.status === "runnable" ? found : undefined;
    }, 15_000);
    expect(task).toMatchObject({ attempts: [{ outcome: "revoked" }] });
  });

  it("v1 resume: work goes on, and nothing is said to stop", async () => {
    const { run, lease_token } = await heldRun();
    good(await run.post("/pause"));
    const answer = good(await run.post("/resume", { reason: "back" }));
    expect(answer).toMatchObject({ run_status: "running", revoke_at_ms: null });
    expect(await lastEvent(run)).toMatchObject({ type: "run_resumed", payload: { reason: "back" } });
    expect(good(await run.get()).run).not.toHaveProperty("halt");
    expect(told(await beat(run, lease_token))).toMatchObject({ run_status: "running", stop: null });
    expect(told(await run.post("/tasks/claim", { agent_id: "other" })).task).not.toBeNull();
  });

  it.each([
    ["/pause", "completed"],
    ["/cancel", "failed"],
    ["/resume", "running"],
  ])("v1 %s of a run that is %s: 409 RUN_TRANSITION_INVALID", async (sub, status) => {
    const run = await newNativeRun();
    good(await run.post("/events", { type: "note", status }), 201);
    const before = await everything(run);
    expect(problem(await run.post(sub, {}), 409, "RUN_TRANSITION_INVALID")).toMatchObject({
      run_status: status,
    });
    expect(await everything(run)).toEqual(before);
  });

  it("v1 events: one that pauses the run halts it too; at /context none does", async () => {
    const { run, lease_token } = await heldRun();
    const pausing = { type: "run_paused", status: "paused", halt: { revoke_at_ms: 1 } };
    expect((await routes(run.id).post("/events", pausing)).status).toBe(200);
    expect(await lastEvent(run)).not.toHaveProperty("halt");
    expect(told(await beat(run, lease_token)).stop).toEqual({ reason: "run_paused", revoke_at_ms: null });
    // Clients of /context are given work whatever the run's status is (contract 04 §4).
    expect((await routes(run.id).post("/tasks/claim", { agent_id: "other" })).body.task?.id).toBe("spare");
    good(await run.post("/resume"));
    good(await run.post("/events", { type: "run_paused", status: "paused" }), 201);
    const { halt } = (await lastEvent(run)) as unknown as { halt: { revoke_at_ms: number } };
    expect(told(await beat(run, lease_token)).stop).toEqual({ reason: "run_paused", ...halt });
  });

  it("v1 heartbeat: a repeat says what the first answer said", async () => {
    const { run, lease_token } = await heldRun();
    good(await run.post("/pause", { reason: "lunch" }));
    const key = { "idempotency-key": freshId("key") };
    const body = { action: "heartbeat", lease_token };
    const first = await run.post("/tasks/t/transition", body, key);
    good(await run.post("/resume"));
    expect((await run.post("/tasks/t/transition", body, key)).text).toBe(first.text);
    expect(told(first).stop).toMatchObject({ detail: "lunch" });
  });
});

describe("POST /v1/runs/{id}/tasks/{task_id}/cancel", () => {
  it("v1 cancel task: at once where nobody holds it", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    const answer = await run.post("/tasks/t/cancel", { reason: "no need" });
    expect(good(answer)).toEqual({ task: await taskOf(run, "t"), revoke_at_ms: null });
    expect(answer.headers.get("etag")).toBe('"2"');
    expect(await taskOf(run, "t")).toMatchObject({
      status: "failed",
      failure: { cause: "cancelled", reason: "no need" },
    });
    problem(await run.post("/tasks/t/cancel"), 409, "TASK_TRANSITION_INVALID");
  });

  it("v1 cancel task: the holder is told, and may complete", async () => {
    const { run, lease_token } = await heldRun();
    const { revoke_at_ms } = told(await run.post("/tasks/t/cancel", { reason: "no need", grace_ms: 60_000 }));
    expect((await lastEvent(run)).type).toBe("context.task.cancel_requested");
    expect(told(await beat(run, lease_token)).stop).toEqual({
      reason: "task_cancelled",
      detail: "no need",
      revoke_at_ms,
    });
    expect(
      told(await run.post("/tasks/t/transition", { action: "complete", lease_token })).task,
    ).not.toHaveProperty("cancellation");
  });

  it("v1 cancel task: at the end of the grace, by itself", async () => {
    const { run } = await heldRun();
    good(await run.post("/tasks/t/cancel", { grace_ms: 200 }));
    const event = await eventually(
      async () => (await eventsOf(run)).find(({ type }) => type === "context.task.failed"),
      15_000,
    );
    expect(event.payload).toMatchObject({ reason: "cancelled", lease_owner: "me" });
    expect(await taskOf(run, "t")).toMatchObject({ failure: { cause: "cancelled" } });
  });

  it("v1 cancel task: of another revision, or none there", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    problem(await run.post("/tasks/t/cancel", { expected_task_rev: 9 }), 409, "TASK_REV_MISMATCH");
    problem(await run.post("/tasks/nope/cancel"), 404, "TASK_NOT_FOUND");
  });
});

describe("dependencies at /v1", () => {
  it("v1 tasks: unknown dependencies are told, duplicates and cycles refused with their path", async () => {
    const run = await newNativeRun();
    const rows = [
      { id: "a", task_type: "x", depends_on_task_ids: ["b", "later"] },
      { id: "b", task_type: "x" },
    ];
    const key = { "idempotency-key": freshId("key") };
    const first = await run.post("/tasks", { tasks: rows }, key);
    expect(good(first, 201)).toMatchObject({ unknown_dependency_ids: ["later"] });
    await addNativeTasks(run, { id: "later" });
    expect((await run.post("/tasks", { tasks: rows }, key)).text).toBe(first.text);

    const twice = { id: "c", task_type: "x", depends_on_task_ids: ["a", "b", "a"] };
    expect(
      problem(await run.post("/tasks", { tasks: [{ task_type: "x" }, twice] }), 400, "FIELD_INVALID").issues,
    ).toMatchObject([{ field: "tasks[1].depends_on_task_ids[2]", rule: "unique" }]);
    expect(
      problem(await run.post("/tasks/b/dependencies", { add: ["a"] }), 422, "TASK_DEPENDENCY_CYCLE"),
    ).toMatchObject({ task_id: "b", cycle: ["b", "a", "b"] });
  });

  it("v1 dependencies: 200 {task, unknown_dependency_ids}, while the task waits", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "a", depends_on_task_ids: ["b"] }, { id: "b", priority: -1 });
    const key = { "idempotency-key": freshId("key") };
    const body = { add: ["x"], remove: ["b"] };
    const first = await run.post("/tasks/a/dependencies", body, key);
    expect(good(first)).toEqual({ task: await taskOf(run, "a"), unknown_dependency_ids: ["x"] });
    expect(first.headers.get("etag")).toBe('"2"');
    expect((await taskOf(run, "a")).depends_on_task_ids).toEqual(["x"]);
    await addTasks(run, { id: "x", status: "done" });
    expect((await run.post("/tasks/a/dependencies", body, key)).text).toBe(first.text);
    expect(good(await run.post("/tasks/claim", { agent_id: "me" })).task?.id).toBe("a");
    problem(await run.post("/tasks/a/dependencies", { add: ["b"] }), 409, "TASK_TRANSITION_INVALID");
    problem(await run.post("/tasks/nope/dependencies", { add: ["b"] }), 404, "TASK_NOT_FOUND");
    expect((await runOf(run)).tasks).toHaveLength(3);
  });
});
