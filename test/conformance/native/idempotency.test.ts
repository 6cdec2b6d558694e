import { describe, expect, it } from "vitest";
import {
  type Answer,
  arrange,
  call,
  eventsOf,
  everything,
  freshId,
  type RunRoutes,
  runOf,
} from "../support.ts";
import { addNativeTasks, good, newNativeRun, problem } from "./support.ts";

/** Every POST of a run that makes a commit: sub-route, body, another body. */
const mutations: [string, Record<string, unknown>, Record<string, unknown>][] = [
  ["/events", { type: "note", status: "running", payload: { n: 1 } }, { type: "note", status: "running" }],
  [
    "/blackboard/patches",
    { op: "set_rolling_summary", payload: "x" },
    { op: "set_rolling_summary", payload: "y" },
  ],
  ["/todos/sync", { todos: [{ content: "c" }] }, { todos: [] }],
  ["/driver/next", {}, { dry_run: false, command_id: undefined }],
  ["/lease/validate", { phase: "p", current_path: "/srv/ws" }, { phase: "q", current_path: "/srv/ws" }],
  ["/checkpoints", { reason: "r" }, { reason: "s" }],
  ["/tasks", { tasks: [{ task_type: "t" }] }, { tasks: [{ task_type: "u" }] }],
  ["/tasks/claim", { agent_id: "me" }, { agent_id: "other" }],
  ["/tasks/held/transition", { action: "heartbeat" }, { action: "complete" }],
  ["/tasks/free/cancel", { reason: "r" }, { reason: "s" }],
  ["/tasks/free/dependencies", { add: ["x"] }, { add: ["y"] }],
  ["/pause", { reason: "r" }, { reason: "s" }],
  ["/cancel", { grace_ms: 1 }, { grace_ms: 2 }],
];
const conflicting = mutations.filter(([sub]) => sub !== "/driver/next");

/** A run every mutation succeeds on. */
async function readyRun(): Promise<RunRoutes> {
  const run = await newNativeRun();
  await addNativeTasks(run, { id: "held", status: "in_progress" }, { id: "free" }, { id: "spare" });
  return run;
}

/** The body without what only the moment of asking decides. */
function timeless(answer: Answer): unknown {
  const body = JSON.parse(answer.text) as { lease?: Record<string, unknown> };
  if (body.lease) body.lease.expires_in_ms = "now";
  return body;
}

describe("Idempotency-Key at /v1", () => {
  it.each(mutations)("v1 idempotency: %s answers a repeat as the first time", async (sub, body) => {
    const run = await readyRun();
    const key = { "idempotency-key": freshId("key") };
    const first = await run.post(sub, body, key);
    expect(first.status, first.text).toBeLessThan(300);
    expect(first.headers.get("idempotency-replayed")).toBeNull();
    const before = await everything(run);
    const again = await run.post(sub, body, key);
    expect(again.status).toBe(first.status);
    expect(timeless(again)).toEqual(timeless(first));
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(again.headers.get("location")).toBe(first.headers.get("location"));
    expect(await everything(run)).toEqual(before);
  });

  it.each(mutations)(
    "v1 idempotency: %s answers a repeat as the first time after later commits",
    async (sub, body) => {
      const run = await readyRun();
      const key = { "idempotency-key": freshId("key") };
      const first = await run.post(sub, body, key);
      good(await run.post("/events", { type: "note", status: "paused" }), 201);
      await arrange(run, { objective: "changed" });
      good(await run.post("/tasks/held/transition", { action: "status", status: "blocked" }));
      expect(timeless(await run.post(sub, body, key))).toEqual(timeless(first));
    },
  );

  it.each(mutations.filter(([sub]) => sub !== "/tasks"))(
    "v1 idempotency: %s takes command_id for the key",
    async (sub, body) => {
      const run = await readyRun();
      const command_id = freshId("key");
      const first = await run.post(sub, { ...body, command_id });
      const before = await everything(run);
      const again = await run.post(sub, { ...body, command_id });
      expect(timeless(again)).toEqual(timeless(first));
      expect(again.headers.get("idempotency-replayed")).toBe("true");
      expect(await everything(run)).toEqual(before);
    },
  );

  it.each(conflicting)(
    "v1 idempotency: %s with another body is 422 COMMAND_ID_CONFLICT",
    async (sub, body, other) => {
      const run = await readyRun();
      const key = { "idempotency-key": freshId("key") };
      await run.post(sub, body, key);
      const before = await everything(run);
      problem(await run.post(sub, other, key), 422, "COMMAND_ID_CONFLICT");
      expect(await everything(run)).toEqual(before);
    },
  );

  it.each(mutations)(
    "v1 idempotency: the key of %s on another route is 422 COMMAND_ID_CONFLICT",
    async (sub, body) => {
      const run = await readyRun();
      const key = { "idempotency-key": freshId("key") };
      await run.post(sub, body, key);
      const before = await everything(run);
      const [otherSub, otherBody] =
        sub === "/events" ? ["/driver/next", {}] : ["/events", { type: "n", status: "queued" }];
      problem(await run.post(otherSub, otherBody, key), 422, "COMMAND_ID_CONFLICT");
      expect(await everything(run)).toEqual(before);
    },
  );

  it("v1 idempotency: PUT", async () => {
    const run = await newNativeRun();
    const body = { ...(await runOf(run)), objective: "x" };
    const key = { "idempotency-key": freshId("key") };
    const first = await run.put(body, key);
    const again = await run.put(body, key);
    expect(good(again)).toEqual(good(first));
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    problem(await run.put({ ...body, objective: "y" }, key), 422, "COMMAND_ID_CONFLICT");
    expect((await runOf(run)).revision).toBe(2);
  });

  it("v1 idempotency: create, with and without an id", async () => {
    for (const id of [{}, { run_id: freshId() }]) {
      const key = { "idempotency-key": freshId("key") };
      const first = await call("POST", "/v1/runs", { objective: "o", ...id }, key);
      const again = await call("POST", "/v1/runs", { objective: "o", ...id }, key);
      expect(good(again, 201)).toEqual(good(first, 201));
      expect(again.headers.get("idempotency-replayed")).toBe("true");
      expect(again.headers.get("location")).toBe(first.headers.get("location"));
      problem(await call("POST", "/v1/runs", { objective: "p", ...id }, key), 422, "COMMAND_ID_CONFLICT");
    }
  });

  it("v1 idempotency: a repeated claim returns the same lease with the same token", async () => {
    const run = await readyRun();
    const key = { "idempotency-key": freshId("key") };
    const first = good(await run.post("/tasks/claim", { agent_id: "me" }, key));
    const again = good(await run.post("/tasks/claim", { agent_id: "me" }, key));
    expect(again.task).toEqual(first.task);
    expect(again.lease.token).toBe(first.lease.token);
    expect(again.lease.expires_at_ms).toBe(first.lease.expires_at_ms);
    expect(good(await run.post("/tasks/claim", { agent_id: "me" })).task.id).not.toBe(first.task.id);
  });

  it("v1 idempotency: a quoted key and a bare one are the same; key and command_id too", async () => {
    const run = await newNativeRun();
    const key = freshId("key");
    const body = { type: "note", status: "running" };
    const first = await run.post("/events", body, { "idempotency-key": key });
    for (const again of [
      await run.post("/events", body, { "idempotency-key": `"${key}"` }),
      await run.post("/events", { ...body, command_id: key }),
    ]) {
      expect(good(again, 201)).toEqual(good(first, 201));
    }
    expect(await eventsOf(run)).toHaveLength(1);
  });

  it("v1 idempotency: refused requests are not remembered", async () => {
    const run = await newNativeRun();
    const key = { "idempotency-key": freshId("key") };
    problem(await run.post("/tasks/t/transition", { action: "retry" }, key), 404, "TASK_NOT_FOUND");
    problem(
      await run.post("/blackboard/patches", { op: "add_fact", payload: 1 }, key),
      422,
      "PATCH_PAYLOAD_INVALID",
    );
    const answer = await run.post("/events", { type: "note", status: "running" }, key);
    good(answer, 201);
    expect(answer.headers.get("idempotency-replayed")).toBeNull();
  });

  it("v1 idempotency: keys belong to their run", async () => {
    const [one, two] = [await newNativeRun(), await newNativeRun()];
    const key = { "idempotency-key": freshId("key") };
    good(await one.post("/events", { type: "a", status: "running" }, key), 201);
    good(await two.post("/events", { type: "b", status: "running" }, key), 201);
    expect(await eventsOf(two)).toHaveLength(1);
  });

  it("v1 idempotency: a key of 200 characters is fine, an empty or longer one is refused", async () => {
    const run = await newNativeRun();
    const body = { type: "note", status: "running" };
    good(await run.post("/events", body, { "idempotency-key": "k".repeat(200) }), 201);
    for (const key of ["k".repeat(201), '""']) {
      const answer = await run.post("/events", body, { "idempotency-key": key });
      expect(answer.status, key).toBeGreaterThanOrEqual(400);
      expect(answer.status, key).toBeLessThan(500);
    }
    expect(await eventsOf(run)).toHaveLength(1);
  });

  it("v1 idempotency: concurrent repeats make one commit and one answer", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, {}, {}, {});
    const key = { "idempotency-key": freshId("key") };
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => run.post("/tasks/claim", { agent_id: "me" }, key)),
    );
    expect(new Set(answers.map((answer) => good(answer).lease.token)).size).toBe(1);
    expect(answers.filter((answer) => answer.headers.get("idempotency-replayed") === null)).toHaveLength(1);
    expect((await runOf(run)).revision).toBe(5);
  });
});
