import { expect, inject, it } from "vitest";
import { eventsOf, freshId } from "../support.ts";
import { addNativeTasks, good, newNativeRun, problem } from "./support.ts";

const WAIT_MS = 20_000;

it("v1 claim: with wait_ms, agents that wait are given one task each as tasks come", async () => {
  const run = await newNativeRun();
  const agents = Array.from({ length: 10 }, (_, n) => `agent-${n}`);
  const claims = agents.map((agent_id) => run.post("/tasks/claim", { agent_id, wait_ms: WAIT_MS }));
  const ids = agents.map((_, n) => `t${n}`);
  for (const id of ids) await addNativeTasks(run, { id });
  const given = (await Promise.all(claims)).map((answer) => good(answer).task.id);
  expect(given.toSorted()).toEqual(ids.toSorted());
});

it("v1 claim: with wait_ms, null and the reason at the end of it", async () => {
  const run = await newNativeRun();
  expect(good(await run.post("/tasks/claim", { agent_id: "me", wait_ms: 200 }))).toMatchObject({
    task: null,
    lease: null,
    reason: "nothing_claimable",
  });
  const answer = await run.post("/tasks/claim", { agent_id: "me", wait_ms: 55_001 });
  expect(problem(answer, 422, "BODY_INVALID").issues).toMatchObject([{ field: "wait_ms", limit: 55_000 }]);
});

it("v1 claim: a client that left while it waited gets its task under its key when it comes back", async () => {
  const run = await newNativeRun();
  const key = { "idempotency-key": freshId("key") };
  const body = { agent_id: "me", wait_ms: WAIT_MS };
  const leaving = new AbortController();
  const left = fetch(`${inject("baseUrl")}/v1/runs/${run.id}/tasks/claim`, {
    method: "POST",
    headers: { "x-agent-token": inject("token"), "content-type": "application/json", ...key },
    body: JSON.stringify(body),
    signal: leaving.signal,
  });
  // Answered after it, though not because of it.
  good(await run.post("/events", { type: "note", status: "running" }), 201);
  leaving.abort();
  await expect(left).rejects.toThrow();
  await addNativeTasks(run, { id: "t" });
  expect(good(await run.post("/tasks/claim", body, key)).task.id).toBe("t");
  const types = (await eventsOf(run)).map(({ type }) => type);
  expect(types.filter((type) => type === "context.task.claimed")).toHaveLength(1);
});

it("v1 wait: for a task, the run and an event, each as soon as it is so", async () => {
  const run = await newNativeRun();
  await addNativeTasks(run, { id: "t" });
  const wait = (wanted: unknown) => run.post("/wait", { for: wanted, wait_ms: WAIT_MS });
  const waits = [
    wait({ task_id: "t", status: ["done"] }),
    wait({ run_status: ["completed"] }),
    wait({ event: { types: ["context.task.completed"], since_seq: 1 } }),
  ];
  const { lease } = good(await run.post("/tasks/claim", { agent_id: "me" }));
  good(await run.post("/tasks/t/transition", { action: "complete", lease_token: lease.token }));
  good(await run.post("/events", { type: "note", status: "completed" }), 201);
  const [task, status, event] = (await Promise.all(waits)).map((answer) => good(answer));
  expect(task).toMatchObject({ matched: true, task: { id: "t", status: "done" } });
  expect(status).toMatchObject({ matched: true, run: { status: "completed" } });
  expect(event).toMatchObject({ matched: true, seq: 3, event: { seq: 3, task_id: "t" } });
  expect(good(await run.post("/wait", { for: { event: {} }, wait_ms: 50 }))).toEqual({
    matched: false,
    seq: 4,
  });
});
