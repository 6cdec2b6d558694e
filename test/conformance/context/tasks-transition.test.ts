import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  claim,
  everything,
  FINGERPRINT,
  generatedId,
  lastEvent,
  lastPatch,
  must,
  newRun,
  type RunRoutes,
  TASK_STATUSES,
  type Task,
  taskOf,
} from "../support.ts";

/** A run with an unleased task "t" in this status. */
async function runWith(status: string, fields: Record<string, unknown> = {}): Promise<RunRoutes> {
  const run = await newRun();
  await addTasks(run, { id: "t", status });
  if (Object.keys(fields).length > 0)
    await arrange(run, { tasks: [{ ...(await taskOf(run, "t")), ...fields }] });
  return run;
}

/** A transition of the task "t". */
async function go(run: RunRoutes, body: Record<string, unknown>) {
  return must(await run.post("/tasks/t/transition", body));
}

/** Allowed requests of the action "status": row is the current status, column the requested one. */
const MATRIX: Record<string, string> = {
  pending: "pending runnable blocked",
  runnable: "runnable blocked",
  in_progress: "runnable in_progress blocked done failed",
  blocked: "runnable blocked failed",
  done: "done",
  failed: "runnable failed",
};

const EVENT_OF: Record<string, string> = {
  in_progress: "context.task.started",
  done: "context.task.completed",
  failed: "context.task.failed",
  blocked: "context.task.blocked",
  runnable: "context.task.requeued",
  pending: "context.task.requeued",
};

const cells = TASK_STATUSES.flatMap((current) =>
  TASK_STATUSES.map((requested) => ({
    current,
    requested,
    allowed: (MATRIX[current] ?? "").split(" ").includes(requested),
  })),
);

/** Action, statuses it is allowed from, refusal text. */
const ACTIONS: [string, string[], string][] = [
  ["heartbeat", ["in_progress"], "heartbeat requires an in_progress task"],
  ["complete", ["in_progress"], "task must be in_progress before completion"],
  ["fail", ["in_progress", "blocked"], "task must be active before failure is recorded"],
  ["release", ["in_progress", "blocked"], "task must be active before release"],
  ["retry", ["failed", "blocked"], "task must be failed or blocked before retry"],
];
const pairs = ACTIONS.flatMap(([action, from, error]) =>
  TASK_STATUSES.map((current) => ({ action, current, error, allowed: from.includes(current) })),
);

/** What an accepted action makes of an unleased task that had attempt 1, an old error and an agent. */
const EFFECTS: Record<string, (now: number, before: Task) => Record<string, unknown>> = {
  heartbeat: (now) => ({ lease_owner: "new", lease_expires_at_ms: now + 30_000, assigned_agent: "new" }),
  complete: () => ({ status: "done", assigned_agent: "new", last_error: undefined }),
  fail: () => ({ status: "failed", assigned_agent: "new", attempt: 2, last_error: "boom" }),
  release: () => ({ status: "runnable" }),
  retry: (now) => ({ status: "runnable", attempt: 2, last_error: undefined, next_retry_at_ms: now }),
};

const NO_LEASE = { lease_owner: null, lease_token: null, lease_expires_at_ms: null };
/** The patch of an accepted action on that task, besides task_id and task_rev. */
const PATCHES: Record<string, (now: number) => Record<string, unknown>> = {
  heartbeat: (now) => ({
    lease_owner: "new",
    assigned_agent: "new",
    lease_token: null,
    lease_expires_at_ms: now + 30_000,
  }),
  complete: () => ({ status: "done", ...NO_LEASE, assigned_agent: "new", attempt: 1 }),
  fail: () => ({ status: "failed", ...NO_LEASE, assigned_agent: "new", error: "boom", attempt: 2 }),
  release: () => ({ status: "runnable", ...NO_LEASE, assigned_agent: "old", attempt: 1 }),
  retry: (now) => ({
    status: "runnable",
    ...NO_LEASE,
    assigned_agent: "old",
    error: null,
    attempt: 2,
    next_retry_at_ms: now,
  }),
};

describe("POST …/tasks/{task_id}/transition: action status", () => {
  it.each(cells)(
    "04§8.1 $current → $requested allowed: $allowed",
    async ({ current, requested, allowed }) => {
      const run = await runWith(current, { attempt: 1, last_error: "old", assigned_agent: "old" });
      const before = await taskOf(run, "t");
      const all = await everything(run);
      const body = await go(run, { action: "status", status: requested });
      if (!allowed) {
        expect(body).toEqual({
          ok: false,
          code: "TASK_TRANSITION_INVALID",
          error: "invalid task status transition",
          current_status: current,
          requested_status: requested,
        });
        expect(await everything(run)).toEqual(all);
        return;
      }
      const event = await lastEvent(run);
      const task = { ...before, status: requested, task_rev: 2, updated_ts: event.ts_ms };
      expect(body.task).toEqual(task);
      expect(await taskOf(run, "t")).toEqual(task);
      expect(event.type).toBe(EVENT_OF[requested]);
      expect(event.payload).toEqual({
        task_id: "t",
        task_rev: 2,
        status: requested,
        error: null,
        task,
        patch_seq: event.seq,
      });
      expect(body.patch.payload).toEqual({
        task_id: "t",
        status: requested,
        ...NO_LEASE,
        assigned_agent: "old",
        task_rev: 2,
        error: expect.toBeOneOf(["old", null]),
        attempt: 1,
      });
    },
  );

  it("04§8 error and agent of the request are taken over", async () => {
    const run = await runWith("runnable");
    const body = await go(run, { action: "status", status: "blocked", error: "stuck", agent_id: "me" });
    expect(body.task).toMatchObject({
      status: "blocked",
      last_error: "stuck",
      assigned_agent: "me",
      attempt: 0,
    });
    expect((await lastEvent(run)).payload).toMatchObject({ error: "stuck" });
    expect(body.patch.payload).toMatchObject({ error: "stuck", assigned_agent: "me" });
  });

  /** Requested status of a leased task in progress, and whether the lease stays. */
  const leaving: [string, boolean][] = [
    ["in_progress", true],
    ["blocked", true],
    ["done", false],
    ["failed", false],
    ["runnable", false],
  ];
  it.each(leaving)("D56 status %s keeps the lease: %s", async (status, keeps) => {
    const run = await runWith("pending");
    const held = await claim(run);
    const { task, patch } = await go(run, { action: "status", status, lease_token: held.lease_token });
    const seen = await taskOf(run, "t");
    if (keeps) {
      expect(task).toMatchObject({ lease_owner: "agent-1", lease_token: held.lease_token });
      expect(task.lease_expires_at_ms).toBe(held.lease_expires_at_ms);
      expect(seen.lease_token).toMatch(FINGERPRINT);
      expect(patch.payload).toMatchObject({ lease_owner: "agent-1", lease_token: seen.lease_token });
      return;
    }
    for (const name of ["lease_owner", "lease_token", "lease_expires_at_ms"]) {
      expect(task).not.toHaveProperty(name);
      expect(seen).not.toHaveProperty(name);
      expect(patch.payload[name]).toBeNull();
    }
  });
});

describe("POST …/tasks/{task_id}/transition: the other actions", () => {
  it.each(pairs)(
    "04§8 $action from $current allowed: $allowed",
    async ({ action, current, error, allowed }) => {
      const run = await runWith(current, { attempt: 1, last_error: "old", assigned_agent: "old" });
      const before = await taskOf(run, "t");
      const all = await everything(run);
      const body = await go(run, { action, agent_id: "new", error: "boom", command_id: "c" });
      if (!allowed) {
        expect(body).toEqual({ ok: false, code: "TASK_TRANSITION_INVALID", error, current_status: current });
        expect(await everything(run)).toEqual(all);
        return;
      }
      const event = await lastEvent(run);
      const effect = EFFECTS[action]?.(event.ts_ms, before) ?? {};
      const task = { ...before, ...effect, task_rev: 2, updated_ts: event.ts_ms };
      expect(body.task).toEqual(task);
      expect(await taskOf(run, "t")).toEqual(body.task);
      const { patch, blackboard } = body;
      expect(body).toEqual({ ok: true, task: body.task, patch, blackboard });
      expect(patch).toEqual({
        patch_id: generatedId("bbp"),
        run_id: run.id,
        seq: event.seq,
        ts_ms: event.ts_ms,
        source_event_seq: event.seq,
        op: action === "heartbeat" ? "update_task_lease" : "update_task_state",
        payload: { task_id: "t", task_rev: 2, command_id: "c", ...PATCHES[action]?.(event.ts_ms) },
      });
      expect(await lastPatch(run)).toEqual(patch);
      const resulting = action === "heartbeat" ? {} : { status: body.task.status, error: "boom" };
      expect(event).toEqual({
        event_id: generatedId("evt"),
        run_id: run.id,
        seq: 3,
        ts_ms: expect.any(Number),
        type: action === "heartbeat" ? "context.task.heartbeat" : EVENT_OF[body.task.status],
        status: "queued",
        run_status: "queued",
        revision: 4,
        step_id: "t",
        task_id: "t",
        command_id: "c",
        payload: { task_id: "t", task_rev: 2, ...resulting, task: body.task, patch_seq: 3 },
      });
      expect(blackboard).toEqual(must(await run.get("/blackboard")).blackboard);
    },
  );

  it("04§8.4 fail, then retry", async () => {
    const run = await runWith("pending");
    const { lease_token } = await claim(run);
    const failing = { action: "fail", lease_token, error: "boom", command_id: "ff" };
    const failed = (await go(run, failing)).task;
    expect(failed).toMatchObject({ task_rev: 3, status: "failed", attempt: 1, last_error: "boom" });
    for (const name of ["lease_owner", "lease_token", "lease_expires_at_ms"])
      expect(failed).not.toHaveProperty(name);
    expect(await lastEvent(run)).toMatchObject({ type: "context.task.failed", command_id: "ff" });
    expect(await go(run, failing)).toMatchObject({ ok: true, deduped: true, task: failed });
    const retried = (await go(run, { action: "retry" })).task;
    const event = await lastEvent(run);
    expect(retried).toMatchObject({
      task_rev: 4,
      status: "runnable",
      attempt: 2,
      next_retry_at_ms: event.ts_ms,
    });
    expect(retried).not.toHaveProperty("last_error");
    expect(event).toMatchObject({ type: "context.task.requeued", payload: { error: null } });
    expect(await claim(run)).toMatchObject({ id: "t", attempt: 2 });
  });

  it("D58 complete clears last_error; release ignores error and keeps the old one", async () => {
    const run = await runWith("in_progress", { last_error: "old" });
    expect((await go(run, { action: "release", error: "new" })).task.last_error).toBe("old");
    const { lease_token } = await claim(run);
    expect((await go(run, { action: "complete", lease_token, error: "x" })).task).not.toHaveProperty(
      "last_error",
    );
  });

  it("04§8 fail without an error keeps the old one, in the patch too", async () => {
    const run = await runWith("in_progress", { last_error: "old" });
    const body = await go(run, { action: "fail" });
    expect(body.task.last_error).toBe("old");
    expect(body.patch.payload).toMatchObject({ error: "old" });
    expect((await lastEvent(run)).payload).toMatchObject({ error: null });
  });

  it("D35 Prefer: return=minimal leaves out the blackboard", async () => {
    const run = await runWith("failed");
    const body = must(
      await run.post("/tasks/t/transition", { action: "retry" }, { prefer: "return=minimal" }),
    );
    expect(body).toMatchObject({
      ok: true,
      task: { status: "runnable" },
      patch: { op: "update_task_state" },
    });
    expect(body).not.toHaveProperty("blackboard");
  });

  it.each([" COMPLETE ", "Complete"])("04§6 the action %j is trimmed and lower-cased", async (action) => {
    expect((await go(await runWith("in_progress"), { action })).task.status).toBe("done");
  });

  it("02§5.6 the expected revision may be given; max_attempts is not enforced (D47)", async () => {
    const run = await runWith("failed", { attempt: 9, max_attempts: 1 });
    expect((await go(run, { action: "retry", expected_task_rev: 1 })).task).toMatchObject({ attempt: 10 });
  });
});
