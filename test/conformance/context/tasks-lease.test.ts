import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  claim,
  everything,
  FINGERPRINT,
  freshId,
  lastEvent,
  must,
  newRun,
  type RunRoutes,
  routes,
  taskOf,
} from "../support.ts";

const REQUIRED = { ok: false, code: "TASK_LEASE_REQUIRED", error: "lease token required" };
const INVALID = { ok: false, code: "TASK_LEASE_INVALID", error: "invalid lease token" };

/** A run whose task "t" is leased by agent-1, in progress or blocked. */
async function leasedRun(status: "in_progress" | "blocked"): Promise<{ run: RunRoutes; token: string }> {
  const run = await newRun();
  await addTasks(run, { id: "t" });
  const { lease_token: token } = await claim(run);
  if (status === "blocked") must(await go(run, { action: "status", status, lease_token: token }));
  return { run, token };
}

/** A transition of the task "t". */
function go(run: RunRoutes, body: Record<string, unknown>) {
  return run.post("/tasks/t/transition", body);
}

/** Every request that needs the token, by the status of the leased task it is allowed from. */
const guarded: ["in_progress" | "blocked", Record<string, unknown>][] = [
  ["in_progress", { action: "heartbeat" }],
  ["in_progress", { action: "complete" }],
  ["in_progress", { action: "fail" }],
  ["in_progress", { action: "release" }],
  ...["in_progress", "done", "failed", "blocked", "runnable"].map(
    (status): ["in_progress", Record<string, unknown>] => ["in_progress", { action: "status", status }],
  ),
  ["blocked", { action: "fail" }],
  ["blocked", { action: "release" }],
  ["blocked", { action: "retry" }],
  ...["failed", "blocked", "runnable"].map((status): ["blocked", Record<string, unknown>] => [
    "blocked",
    { action: "status", status },
  ]),
];

describe("the lease token of a transition", () => {
  it.each(guarded)("04§7 a leased %s task: %j needs the token", async (status, request) => {
    const { run, token } = await leasedRun(status);
    const before = await everything(run);
    const fingerprint = (await taskOf(run, "t")).lease_token;
    expect(fingerprint).toMatch(FINGERPRINT);
    expect(must(await go(run, request))).toMatchObject(REQUIRED);
    for (const lease_token of ["", "wrong", ` ${token}`, token.toUpperCase(), fingerprint]) {
      const { ok, code } = must(await go(run, { ...request, lease_token }));
      expect([ok, code], String(lease_token)).toEqual([
        false,
        lease_token === "" ? expect.stringMatching(/^TASK_LEASE_(REQUIRED|INVALID)$/) : "TASK_LEASE_INVALID",
      ]);
    }
    expect(await everything(run)).toEqual(before);
    expect(must(await go(run, { ...request, lease_token: token })).ok).toBe(true);
  });

  it("04§7 the refusals have exactly code and error", async () => {
    const { run } = await leasedRun("in_progress");
    expect(must(await go(run, { action: "complete" }))).toEqual(REQUIRED);
    expect(must(await go(run, { action: "complete", lease_token: "x" }))).toEqual(INVALID);
  });

  it("D55 status pending on a leased task asks for the token before the matrix", async () => {
    const { run, token } = await leasedRun("in_progress");
    const request = { action: "status", status: "pending" };
    expect(must(await go(run, request)).code).toBe("TASK_LEASE_REQUIRED");
    expect(must(await go(run, { ...request, lease_token: token })).code).toBe("TASK_TRANSITION_INVALID");
  });

  it("D05 a transition that proved the token gets it back in task, everybody else a fingerprint", async () => {
    const { run, token } = await leasedRun("in_progress");
    const body = must(await go(run, { action: "heartbeat", lease_token: token }));
    expect(body.task.lease_token).toBe(token);
    const fingerprint = (await taskOf(run, "t")).lease_token;
    expect(fingerprint).toMatch(FINGERPRINT);
    expect(body.patch.payload.lease_token).toBe(fingerprint);
    expect(body.blackboard.tasks[0]?.lease_token).toBe(fingerprint);
    expect((await lastEvent(run)).payload).toMatchObject({ task: { lease_token: fingerprint } });
    expect(JSON.stringify(await everything(run))).not.toContain(token);
  });

  const extensions: [number | undefined, number][] = [
    [undefined, 30_000],
    [1, 5_000],
    [123_456, 123_456],
    [999_999_999, 300_000],
  ];
  it.each(extensions)("04§8 heartbeat with lease_ms %j extends by %i", async (lease_ms, lasts) => {
    const { run, token } = await leasedRun("in_progress");
    const { task, patch } = must(await go(run, { action: "heartbeat", lease_token: token, lease_ms }));
    const event = await lastEvent(run);
    expect(event.payload).toEqual({
      task_id: "t",
      task_rev: 3,
      task: expect.anything(),
      patch_seq: event.seq,
    });
    expect(task).toMatchObject({ lease_owner: "agent-1", assigned_agent: "agent-1", task_rev: 3 });
    expect(task.lease_expires_at_ms).toBe(event.ts_ms + lasts);
    expect(patch.payload).toEqual({
      task_id: "t",
      lease_owner: "agent-1",
      assigned_agent: "agent-1",
      lease_token: expect.stringMatching(FINGERPRINT),
      lease_expires_at_ms: event.ts_ms + lasts,
      task_rev: 3,
    });
  });

  it("D57 a heartbeat by another agent is refused; the owner's and a blank one pass", async () => {
    const { run, token } = await leasedRun("in_progress");
    const before = await everything(run);
    const heartbeat = { action: "heartbeat", lease_token: token };
    expect(must(await go(run, { ...heartbeat, agent_id: "thief" }))).toEqual({
      ok: false,
      code: "TASK_LEASE_INVALID",
      error: "lease is held by another agent",
    });
    expect(await everything(run)).toEqual(before);
    for (const agent_id of ["agent-1", "", "  ", null]) {
      const { task } = must(await go(run, { ...heartbeat, agent_id }));
      expect(task).toMatchObject({ lease_owner: "agent-1", assigned_agent: "agent-1" });
    }
  });

  it("D57 a token sent for an unleased task is ignored, not adopted", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t", status: "in_progress" });
    const { task } = must(await go(run, { action: "heartbeat", lease_token: "made-up", agent_id: "me" }));
    expect(task).not.toHaveProperty("lease_token");
    expect(await taskOf(run, "t")).not.toHaveProperty("lease_token");
    expect(must(await go(run, { action: "complete", lease_token: "other" })).task.status).toBe("done");
  });

  it("04§4 a released task is claimed with a new token; the old one is dead", async () => {
    const { run, token } = await leasedRun("in_progress");
    must(await go(run, { action: "release", lease_token: token }));
    const again = await claim(run, { agent_id: "agent-2" });
    expect(again.lease_token).not.toBe(token);
    expect(must(await go(run, { action: "complete", lease_token: token })).code).toBe("TASK_LEASE_INVALID");
    expect(must(await go(run, { action: "complete", lease_token: again.lease_token })).ok).toBe(true);
  });
});

describe("leases brought in by PUT", () => {
  /** A run with a blocked task whose lease "brought-in" ran out long ago, or has an hour left. */
  async function broughtIn(lease_expires_at_ms: number, status = "blocked"): Promise<RunRoutes> {
    const run = await newRun();
    const lease = { lease_owner: "me", lease_token: "brought-in", lease_expires_at_ms };
    const task = { id: "t", task_type: "t", status, created_ts: 1, updated_ts: 1, task_rev: 1, ...lease };
    await arrange(run, { tasks: [task] });
    return run;
  }
  const anHour = () => Date.now() + 3_600_000;

  it("02§2.4 the token of a PUT is masked in every view and proves the lease", async () => {
    const run = await broughtIn(anHour(), "in_progress");
    expect((await taskOf(run, "t")).lease_token).toMatch(FINGERPRINT);
    expect(JSON.stringify(await everything(run))).not.toContain("brought-in");
    expect(must(await go(run, { action: "complete" })).code).toBe("TASK_LEASE_REQUIRED");
    expect(must(await go(run, { action: "complete", lease_token: "brought-in" })).ok).toBe(true);
  });

  const requests: [Record<string, unknown>, boolean][] = [
    [{ action: "retry" }, false],
    [{ action: "status", status: "runnable" }, false],
    [{ action: "status", status: "blocked" }, true],
    [{ action: "status", status: "failed" }, true],
    [{ action: "fail" }, true],
    [{ action: "release" }, true],
  ];
  it.each(requests)("D55 after expiry a blocked task's %j needs the token: %s", async (request, needed) => {
    const run = await broughtIn(5);
    const body = must(await go(run, request));
    expect(body.code).toBe(needed ? "TASK_LEASE_REQUIRED" : undefined);
    expect(must(await go(await broughtIn(anHour()), request)).code).toBe("TASK_LEASE_REQUIRED");
    if (needed) expect(must(await go(run, { ...request, lease_token: "brought-in" })).ok).toBe(true);
  });
});

describe("the order of checks of a transition", () => {
  const nonsense = { action: "dance", expected_task_rev: 99 };

  it("04§6 a used command id comes before an unknown task and a nonsense action", async () => {
    const { run } = await leasedRun("in_progress");
    must(await run.post("/events", { type: "note", status: "running" }));
    await addTasks(run, { id: "u", command_id: "used" });
    expect(
      must(await run.post("/tasks/nobody/transition", { ...nonsense, command_id: "used" })),
    ).toMatchObject({
      ok: true,
      deduped: true,
      task: null,
    });
  });

  it("04§6 an unknown run, then an unknown task: 404", async () => {
    const { run } = await leasedRun("in_progress");
    const unknownRun = await routes(freshId()).post("/tasks/t/transition", nonsense);
    expect([unknownRun.status, unknownRun.body.code]).toEqual([404, "RUN_NOT_FOUND"]);
    const unknownTask = await run.post("/tasks/nobody/transition", nonsense);
    expect([unknownTask.status, unknownTask.body.code]).toEqual([404, "TASK_NOT_FOUND"]);
  });

  it("04§6 the revision comes before action and lease, and is told", async () => {
    const { run } = await leasedRun("in_progress");
    for (const action of ["dance", "complete", "status", "retry"]) {
      expect(must(await go(run, { action, expected_task_rev: 1 }))).toEqual({
        ok: false,
        code: "TASK_REV_MISMATCH",
        error: "task revision mismatch",
        task_rev: 2,
      });
    }
  });

  it("04§6 the lease comes before the guard", async () => {
    const { run } = await leasedRun("blocked");
    expect(must(await go(run, { action: "heartbeat" })).code).toBe("TASK_LEASE_REQUIRED");
    expect(must(await go(run, { action: "complete", lease_token: "x" })).code).toBe("TASK_LEASE_INVALID");
    expect(must(await go(run, { action: "status", status: "done" })).code).toBe("TASK_LEASE_REQUIRED");
  });

  it("04§7 status without a status and an unknown action are 400 and need no token", async () => {
    const { run } = await leasedRun("in_progress");
    const before = await everything(run);
    for (const body of [
      { action: "status" },
      { action: "status", status: null },
      { action: "dance" },
      { action: "" },
    ]) {
      const answer = await go(run, body);
      expect(answer.status, JSON.stringify(body)).toBe(400);
      expect(answer.body.code).toEqual(expect.any(String));
    }
    expect(await everything(run)).toEqual(before);
  });

  const wrong: Record<string, unknown>[] = [
    {},
    { action: 1 },
    { action: "status", status: "Done" },
    { action: "retry", expected_task_rev: -1 },
    { action: "retry", expected_task_rev: 1.5 },
    { action: "retry", lease_token: 1 },
    { action: "heartbeat", lease_ms: "1" },
    { action: "fail", error: 1 },
    { action: "fail", agent_id: {} },
    { action: "fail", command_id: [] },
  ];
  it.each(wrong)("02§1.3 wrong shape is 422: %j", async (body) => {
    expect((await go((await leasedRun("in_progress")).run, body)).status).toBe(422);
  });
});
