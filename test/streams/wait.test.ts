import { runInDurableObject } from "cloudflare:test";
import { describe, expect, it, vi } from "vitest";
import type { RunStatus } from "../../src/protocol/status.ts";
import {
  accepted,
  claimed,
  creation,
  eventually,
  evict,
  newTestRun,
  note,
  objectOf,
  row,
  type TestRun,
} from "../run/support/test-run.ts";
import { type Answered, callAs, mint, newTenant, ROOT } from "../support/tokens.ts";
import { disturb } from "./support/scenario.ts";

vi.setConfig({ testTimeout: 60_000 });

/** Long enough for a busy machine: what is waited for comes much sooner. */
const PATIENCE_MS = 20_000;

function waiting(run: TestRun, wanted: unknown, waitMs = PATIENCE_MS): Promise<Answered> {
  return callAs(ROOT, "POST", `/v1/runs/${run.id}/wait`, { for: wanted, wait_ms: waitMs });
}

const untilFollowed = (run: TestRun, count = 1) =>
  eventually(
    () =>
      runInDurableObject(objectOf(run.id).stub, (_object, state) => state.getWebSockets("follower").length),
    (followers) => followers === count,
    PATIENCE_MS,
  );

const finish = async (run: TestRun, action: string) => {
  const { id, token } = await claimed(run);
  await accepted(run, { op: "transition_task", task_id: id, action, lease_token: token });
};

describe("waiting for a task", () => {
  it("claims: answers at once when it is in such a status", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("t")));
    const { status, body } = await waiting(run, { task_id: "t", status: ["done", "pending"] });
    expect([status, body]).toEqual([200, { matched: true, task: expect.objectContaining({ id: "t" }) }]);
  });

  it.each([
    ["done", "complete"],
    ["failed", "fail"],
  ])("claims: answers when it is %s, and not for what others do", async (status, action) => {
    const run = await newTestRun();
    await accepted(run, creation(row("first", { priority: 1 }), row("t")));
    const wait = waiting(run, { task_id: "t", status: [status] });
    await untilFollowed(run);
    await finish(run, action);
    await accepted(run, note());
    await finish(run, action);
    const { body } = await wait;
    expect(body).toMatchObject({ matched: true, task: { id: "t", status } });
    expect(body.seq).toBeGreaterThan(4);
  });

  it("claims: answers false at its deadline; of an unknown task or run, the problem", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("t")));
    const startMs = performance.now();
    expect((await waiting(run, { task_id: "t", status: ["done"] }, 300)).body).toEqual({
      matched: false,
      seq: 1,
    });
    expect(performance.now() - startMs).toBeGreaterThanOrEqual(290);
    expect(await waiting(run, { task_id: "none", status: ["done"] })).toMatchObject({
      status: 404,
      body: { code: "TASK_NOT_FOUND" },
    });
    expect(await waiting(objectOf(), { task_id: "t", status: ["done"] })).toMatchObject({
      status: 404,
      body: { code: "RUN_NOT_FOUND" },
    });
  });
});

describe("waiting for a run", () => {
  it("claims: answers when it is in such a status", async () => {
    const run = await newTestRun();
    const is = (...statuses: RunStatus[]) => waiting(run, { run_status: statuses });
    expect((await is("queued")).body).toMatchObject({
      matched: true,
      run: { run_id: run.id, status: "queued" },
    });
    const wait = is("completed", "failed");
    await untilFollowed(run);
    await accepted(run, note());
    await accepted(run, note(null, "completed"));
    expect((await wait).body).toMatchObject({ matched: true, seq: 2, run: { status: "completed" } });
  });

  it("claims: deleted meanwhile, it is told the problem", async () => {
    const run = await newTestRun();
    const wait = waiting(run, { run_status: ["completed"] });
    await untilFollowed(run);
    await callAs(ROOT, "DELETE", `/v1/runs/${run.id}`);
    expect(await wait).toMatchObject({ status: 404, body: { code: "RUN_NOT_FOUND" } });
  });
});

describe("waiting for an event", () => {
  const cases: [string, Record<string, unknown>, number][] = [
    ["any", {}, 1],
    ["of a type, whatever its case", { types: [" CONTEXT.task.Completed"] }, 5],
    ["of a task", { task_id: "t" }, 3],
    ["of a type and a task", { types: ["context.task.claimed", "note"], task_id: "t" }, 4],
  ];
  const history = async (run: TestRun) => {
    await accepted(run, note());
    await accepted(run, creation(row("u", { status: "done" }), row("t")));
    await finish(run, "complete");
  };

  it.each(cases)("claims: the next one %s", async (_name, event, seq) => {
    const run = await newTestRun();
    const wait = waiting(run, { event });
    await untilFollowed(run);
    await history(run);
    const { body } = await wait;
    expect(body).toEqual({
      matched: true,
      seq,
      event: expect.objectContaining({ run_id: run.id }),
    });
    expect(body.event.seq).toBe(body.seq);
  });

  it.each(cases)("claims: the first one after since_seq %s, from the log", async (_name, event, seq) => {
    const run = await newTestRun();
    await history(run);
    const { body } = await waiting(run, { event: { ...event, since_seq: 0 } }, 0);
    expect(body).toMatchObject({ matched: true, seq });
  });

  it("claims: with the seq of the last answer, none is missed and none comes twice", async () => {
    const run = await newTestRun();
    const seen: number[] = [];
    let since = 0;
    for (let round = 0; round < 5; round += 1) {
      const wait = waiting(run, { event: { types: ["note"], since_seq: since } });
      if (round % 2 === 0) await Promise.all([accepted(run, note()), accepted(run, note())]);
      const { body } = await wait;
      seen.push(body.event.seq);
      since = body.seq;
    }
    expect(seen).toEqual([1, 2, 3, 4, 5]);
    expect((await waiting(run, { event: { since_seq: 6 } }, 100)).body).toEqual({ matched: false, seq: 6 });
  });

  it("claims: the object may sleep, or be restarted, meanwhile", async () => {
    const run = await newTestRun();
    const wait = waiting(run, { event: {} });
    await untilFollowed(run);
    await evict(run);
    await untilFollowed(run);
    await disturb(run.stub, "abort");
    await untilFollowed(run);
    await accepted(objectOf(run.id), note("x"));
    expect((await wait).body).toMatchObject({ matched: true, event: { payload: "x" } });
  });

  it("claims: the wait of a credential that was revoked is refused", async () => {
    const { token: operator } = await mint({ scopes: ["operator"], tenant: newTenant() });
    const { body } = await callAs(operator, "POST", "/v1/runs", { objective: "o" });
    const path = `/v1/runs/${body.run.run_id}`;
    const viewer = await mint({ scopes: ["viewer"] }, operator);
    const wait = callAs(viewer.token, "POST", `${path}/wait`, { for: { event: {} }, wait_ms: PATIENCE_MS });
    await callAs(operator, "POST", `/v1/tokens/${viewer.token_id}/revoke`);
    await callAs(operator, "POST", `${path}/events`, { type: "note", status: "running", payload: null });
    expect(await wait).toMatchObject({ status: 401, body: { code: "AUTH_REQUIRED" } });
  });
});

describe("what a wait is for", () => {
  it.each([
    ["nothing", {}],
    ["a task without a status", { task_id: "t" }],
    ["a status without a task", { status: ["done"] }],
    ["no status at all", { run_status: [] }],
    ["two things", { run_status: ["failed"], event: {} }],
    ["a task and an event", { task_id: "t", status: ["done"], event: {} }],
    ["an unknown status", { run_status: ["done"] }],
    ["an unknown field", { event: { type: "x" } }],
  ])("claims: %s is refused", async (_name, wanted) => {
    const run = await newTestRun();
    const { status, body } = await waiting(run, wanted);
    expect([status, body.code]).toEqual([422, "BODY_INVALID"]);
    expect(body.issues[0].field).toMatch(/^for/);
  });
});
