import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  claim,
  eventsOf,
  eventually,
  generatedId,
  must,
  newRun,
  patchesOf,
  runOf,
  taskOf,
} from "../support.ts";

const LEASE_MS = 5_000;
const DEADLINE_MS = 20_000;

describe("stale leases that were brought in by PUT", () => {
  const bare = {
    task_type: "t",
    status: "in_progress",
    created_ts: 1,
    updated_ts: 1,
    task_rev: 4,
    attempt: 1,
  };
  const rows = [
    {
      ...bare,
      id: "owned",
      lease_owner: "owner",
      assigned_agent: "agent",
      lease_expires_at_ms: 5,
      workflow_id: "w",
    },
    { ...bare, id: "assigned", assigned_agent: "agent", lease_expires_at_ms: 5 },
    { ...bare, id: "no-expiry", lease_owner: "owner" },
    { ...bare, id: "nobody", lease_expires_at_ms: 5, last_error: "old" },
    { ...bare, id: "fresh", lease_owner: "owner", lease_expires_at_ms: Date.now() + 3_600_000 },
    { ...bare, id: "blocked", status: "blocked", lease_owner: "owner", lease_expires_at_ms: 5 },
  ];
  const stale: [string, string][] = [
    ["owned", "owner"],
    ["assigned", "agent"],
    ["nobody", "unknown-agent"],
  ];

  it("04§9 a claim requeues all of them, regardless of filters, and stays in force when it finds nothing", async () => {
    const run = await newRun();
    const before = await arrange(run, { status: "paused", tasks: rows });
    const body = must(await run.post("/tasks/claim", { agent_id: "a", task_type: "other", command_id: "c" }));
    expect(body).toMatchObject({ ok: true, deduped: false, task: null });
    const events = (await eventsOf(run)).slice(1);
    const patches = await patchesOf(run);
    expect(events.map((event) => event.task_id)).toEqual(stale.map(([id]) => id));
    const tasks = (await runOf(run)).tasks;
    for (const [n, [id, who]] of stale.entries()) {
      const event = events[n];
      const last_error = `task lease expired while assigned to ${who}`;
      const { lease_owner, lease_expires_at_ms, ...kept } = before.tasks.find((task) => task.id === id) ?? {};
      const task = {
        ...kept,
        status: "runnable",
        last_error,
        next_retry_at_ms: event?.ts_ms,
        task_rev: 5,
        updated_ts: event?.ts_ms,
      };
      expect(tasks.find((row) => row.id === id)).toEqual(task);
      expect(event).toEqual({
        event_id: generatedId("evt"),
        run_id: run.id,
        seq: n + 2,
        ts_ms: expect.any(Number),
        type: "context.task.stale_requeued",
        status: "paused",
        run_status: "paused",
        revision: n + 3,
        step_id: id,
        task_id: id,
        payload: {
          task_id: id,
          workflow_id: id === "owned" ? "w" : null,
          lease_owner: who,
          stale_requeue: true,
          task,
          patch_seq: n + 2,
        },
      });
      expect(patches[n]).toEqual({
        patch_id: generatedId("bbp"),
        run_id: run.id,
        seq: n + 2,
        ts_ms: event?.ts_ms,
        source_event_seq: n + 2,
        op: "update_task_state",
        payload: {
          task_id: id,
          status: "runnable",
          lease_owner: null,
          lease_token: null,
          lease_expires_at_ms: null,
          task_rev: 5,
          error: last_error,
          attempt: 1,
          next_retry_at_ms: event?.ts_ms,
          stale_requeue: true,
        },
      });
    }
    const untouched = ["no-expiry", "fresh", "blocked"];
    expect(tasks.filter((task) => untouched.includes(task.id))).toEqual(
      before.tasks.filter((task) => untouched.includes(task.id)),
    );
  });

  it("04§9 a requeued task may be claimed in the same call and keeps its old last_error", async () => {
    const run = await newRun();
    await arrange(run, { tasks: rows.slice(0, 1) });
    const task = await claim(run, { agent_id: "next" });
    expect(task).toMatchObject({
      id: "owned",
      lease_owner: "next",
      task_rev: 6,
      attempt: 1,
      last_error: "task lease expired while assigned to owner",
    });
    expect((await eventsOf(run)).slice(1).map((event) => event.type)).toEqual([
      "context.task.stale_requeued",
      "context.task.claimed",
    ]);
  });
});

describe.concurrent("leases that run out", () => {
  it("D53 a timer requeues an expired lease without any claim; a heartbeat keeps another one", async ({
    expect,
  }) => {
    const run = await newRun();
    await addTasks(run, { id: "late" }, { id: "kept" });
    const late = await claim(run, { agent_id: "slow", lease_ms: LEASE_MS });
    const kept = await claim(run, { agent_id: "busy", lease_ms: LEASE_MS });
    const heartbeat = { action: "heartbeat", lease_token: kept.lease_token, lease_ms: 60_000 };
    must(await run.post("/tasks/kept/transition", heartbeat));
    const requeued = await eventually(async () => {
      const task = await taskOf(run, "late");
      return task.status === "runnable" ? task : undefined;
    }, DEADLINE_MS);
    const event = (await eventsOf(run)).at(-1);
    expect(event?.type).toBe("context.task.stale_requeued");
    expect(event?.payload).toMatchObject({ task_id: "late", lease_owner: "slow", stale_requeue: true });
    expect(event?.ts_ms).toBeGreaterThanOrEqual(late.lease_expires_at_ms ?? Number.POSITIVE_INFINITY);
    expect(requeued).toMatchObject({
      task_rev: 3,
      attempt: 0,
      assigned_agent: "slow",
      last_error: "task lease expired while assigned to slow",
      next_retry_at_ms: event?.ts_ms,
    });
    expect((await taskOf(run, "kept")).status).toBe("in_progress");
    const tooLate = await run.post("/tasks/late/transition", {
      action: "complete",
      lease_token: late.lease_token,
    });
    expect(tooLate.body).toMatchObject({
      ok: false,
      code: "TASK_TRANSITION_INVALID",
      current_status: "runnable",
    });
  });

  it("04§9 after expiry another agent claims the task; the first token is dead", async ({ expect }) => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const first = await claim(run, { agent_id: "one", lease_ms: LEASE_MS });
    const second = await eventually(async () => {
      const { task } = must(await run.post("/tasks/claim", { agent_id: "two" }));
      return task ?? undefined;
    }, DEADLINE_MS);
    expect(second).toMatchObject({ lease_owner: "two", task_rev: 4 });
    expect(
      (await eventsOf(run)).filter((event) => event.type === "context.task.stale_requeued"),
    ).toHaveLength(1);
    const late = await run.post("/tasks/t/transition", {
      action: "complete",
      lease_token: first.lease_token,
    });
    expect(late.body).toMatchObject({ ok: false, code: "TASK_LEASE_INVALID" });
  });
});
