import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  type Blackboard,
  call,
  claim,
  everything,
  freshId,
  must,
  newRun,
  type Run,
  type RunRoutes,
  routes,
  runOf,
} from "../support.ts";

const CLEAN = {
  mismatch: false,
  status_mismatch: false,
  why_next_step_mismatch: false,
  step_count_mismatch: false,
  blackboard_revision_mismatch: false,
  blackboard_task_count_mismatch: false,
  blackboard_task_status_mismatch: false,
  revision_mismatch: false,
  content_mismatch: false,
  index_mismatch: false,
};

/** Commands that together use every kind of commit. Each makes at least one commit. */
const history: [string, (run: RunRoutes) => Promise<unknown>][] = [
  ["planning", (run) => run.post("/events", { type: "planning_started", status: "planning" })],
  ["approval", (run) => run.post("/events", { type: "plan_approved", status: "running" })],
  ["tasks", (run) => addTasks(run, { id: "a" }, { id: "b", depends_on_task_ids: ["a"] })],
  ["claim", (run) => claim(run)],
  [
    "fact",
    (run) => run.post("/blackboard/patches", { op: "add_fact", payload: { id: "f", ts_ms: 1, text: "t" } }),
  ],
  [
    "release",
    (run) => run.post("/tasks/b/transition", { action: "status", status: "blocked", error: "stuck" }),
  ],
  ["retry", (run) => run.post("/tasks/b/transition", { action: "retry" })],
  ["todos", (run) => run.post("/todos/sync", { todos: [{ id: "s", content: "c", status: "ready" }] })],
  ["driver", (run) => run.post("/driver/next", {})],
  ["adoption", (run) => run.post("/lease/validate", { phase: "p", current_path: "/srv/ws" })],
  ["mismatch", (run) => run.post("/lease/validate", { phase: "p", current_path: "/srv/other" })],
  [
    "step",
    (run) =>
      run.post("/events", { type: "step_failed", status: "failed", step_id: "s", payload: { error: "e" } }),
  ],
  ["put", (run) => arrange(run, { status: "running", objective: "changed", last_error: undefined })],
  ["summary", (run) => run.post("/blackboard/patches", { op: "set_rolling_summary", payload: "so far" })],
];

describe("GET …/replay", () => {
  it("06§3.4 the answer has every member, exactly", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a" });
    must(await run.post("/events", { type: "step_started", status: "running" }));
    const now = await everything(run);
    expect(must(await run.get("/replay"))).toEqual({
      ok: true,
      run_id: run.id,
      from_checkpoint: false,
      checkpoint_seq: null,
      events_applied: 2,
      blackboard_patches_applied: 1,
      replay: now.run,
      replay_blackboard: now.blackboard,
      persisted: now.run,
      persisted_blackboard: now.blackboard,
      drift: { ...CLEAN, compared: true },
    });
    expect(await everything(run)).toEqual(now);
  });

  it("06§3.2 after every command of a mixed history replay equals the live run; upto_seq reaches each past state", async () => {
    const run = await newRun({ objective: "first long line\nsecond long line" });
    const past: { name: string; run: Run; blackboard: Blackboard }[] = [];
    for (const [name, command] of history) {
      await command(run);
      const { run: now, blackboard } = (await everything(run)) as { run: Run; blackboard: Blackboard };
      past.push({ name, run: now, blackboard });
      const body = must(await run.get("/replay?from_checkpoint=false"));
      expect(body.replay, name).toEqual(now);
      expect(body.replay_blackboard, name).toEqual(blackboard);
      expect(body.drift, name).toEqual({ ...CLEAN, compared: true });
    }
    expect(past.at(-1)?.run.last_event_seq).toBeGreaterThan(history.length);
    for (const then of past.slice(0, -1)) {
      const body = must(await run.get(`/replay?upto_seq=${then.run.last_event_seq}`));
      expect(body.replay, then.name).toEqual(then.run);
      expect(body.replay_blackboard, then.name).toEqual(then.blackboard);
      expect(body.persisted, then.name).toEqual(past.at(-1)?.run);
      expect(body.drift, then.name).toEqual({ ...CLEAN, compared: false });
    }
  });

  /** Histories in which the reference engine saw drift or a phantom step; a correct one sees none. */
  const healthy: [string, string, (run: RunRoutes) => Promise<unknown>][] = [
    [
      "D78",
      "planning_started",
      (run) => run.post("/events", { type: "planning_started", status: "planning" }),
    ],
    ["D79", "a built-in reason", (run) => run.post("/events", { type: "run_paused", status: "running" })],
    [
      "D80",
      "steps and a task event",
      async (run) => {
        await run.post("/todos/sync", { todos: [{ content: "c" }] });
        await addTasks(run, { id: "t" });
      },
    ],
    [
      "06§3.5",
      "an event for a step that does not exist",
      (run) =>
        run.post("/events", {
          type: "step_started",
          status: "running",
          step_id: "s1",
          payload: { step_title: "t", step_status: "in_progress", why_next_step: "w" },
        }),
    ],
    [
      "06§3.5",
      "todo sync, then driver",
      async (run) => {
        await run.post("/todos/sync", { todos: [{ content: "c" }] });
        await run.post("/driver/next", {});
      },
    ],
    ["06§3.5", "a PUT of the status", (run) => arrange(run, { status: "blocked" })],
    [
      "06§3.5",
      "driver, lease mismatch, checkpoint",
      async (run) => {
        await arrange(run, { workspace: { workspace_id: "w", canonical_path: "/a", lease_epoch: 1 } });
        await run.post("/driver/next", {});
        await run.post("/lease/validate", { phase: "p", current_path: "/b" });
        await run.post("/checkpoints", { reason: "r" });
      },
    ],
    [
      "D07",
      "forged engine events",
      async (run) => {
        const forged = { ...(await runOf(run)), status: "failed", objective: "forged" };
        for (const type of ["context.run.replaced", "todo_synced", "workspace_mismatch"]) {
          await run.post("/events", {
            type,
            status: "running",
            payload: { run: forged, steps: [{ step_id: "x" }] },
          });
        }
      },
    ],
  ];
  it.each(healthy)("%s no drift: %s", async (_rule, _name, command) => {
    const run = await newRun({ objective: "a long enough line" });
    await command(run);
    for (const query of ["", "?from_checkpoint=false"]) {
      const body = must(await run.get(`/replay${query}`));
      expect(body.drift).toEqual({ ...CLEAN, compared: true });
      expect(body.replay).toEqual(await runOf(run));
    }
  });

  it("06§3.1 starts from the latest checkpoint unless told otherwise", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a" });
    must(await run.post("/checkpoints", { reason: "r" }));
    must(await run.post("/events", { type: "note", status: "running" }));
    await addTasks(run, { id: "b" });
    const from = must(await run.get("/replay"));
    expect(from).toMatchObject({
      from_checkpoint: true,
      checkpoint_seq: 1,
      events_applied: 2,
      blackboard_patches_applied: 1,
    });
    const full = must(await run.get("/replay?from_checkpoint=false"));
    expect(full).toMatchObject({
      from_checkpoint: false,
      checkpoint_seq: null,
      events_applied: 3,
      blackboard_patches_applied: 2,
    });
    expect(from.replay).toEqual(full.replay);
    expect(from.replay_blackboard).toEqual(full.replay_blackboard);
  });

  it("D82 a checkpoint newer than upto_seq is not used; patches are bounded too", async () => {
    const run = await newRun();
    for (const payload of ["one", "two"]) {
      must(await run.post("/blackboard/patches", { op: "set_rolling_summary", payload }));
    }
    must(await run.post("/checkpoints", { reason: "r" }));
    const body = must(await run.get("/replay?upto_seq=1"));
    expect(body).toMatchObject({
      from_checkpoint: false,
      checkpoint_seq: null,
      events_applied: 1,
      blackboard_patches_applied: 1,
      replay_blackboard: { summaries: { rolling: "one" }, revision: 1 },
      drift: { compared: false, mismatch: false },
    });
    expect(must(await run.get("/replay?upto_seq=2"))).toMatchObject({
      from_checkpoint: true,
      events_applied: 0,
    });
    expect(must(await run.get("/replay?upto_seq=99")).drift.compared).toBe(true);
    expect(must(await run.get("/replay?upto_seq=0"))).toMatchObject({
      events_applied: 0,
      replay: { status: "queued" },
    });
  });

  it("D84 the base is the run as it was created", async () => {
    const run = await newRun({ objective: "before" });
    await arrange(run, { objective: "after", steps: [{ step_id: "s", title: "t", status: "done" }] });
    expect(must(await run.get("/replay?upto_seq=0")).replay).toMatchObject({
      objective: "before",
      steps: [],
      revision: 1,
      last_event_seq: 0,
    });
  });

  it.each([
    "upto_seq=",
    "upto_seq=x",
    "upto_seq=-1",
    "from_checkpoint=",
    "from_checkpoint=1",
    "from_checkpoint=True",
  ])("02§1.3 400 for the query %s", async (query) => {
    const answer = await (await newRun()).get(`/replay?${query}`);
    expect(answer.status).toBe(400);
    expect(answer.body.code).toBe("QUERY_INVALID");
  });

  it("01§8 404 for an unknown run", async () => {
    expect((await routes(freshId()).get("/replay")).status).toBe(404);
    expect((await call("GET", `/context/runs/${freshId()}/replay?upto_seq=1`)).body.code).toBe(
      "RUN_NOT_FOUND",
    );
  });
});
