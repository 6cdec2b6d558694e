import { describe, expect, it } from "vitest";
import { addTasks, call, everything, freshId, must, newRun, type RunRoutes, raw, runOf } from "../support.ts";

const HUGE = "x".repeat(1_900_000);

/** A run in which every request of the table below would be accepted, were its text shorter. */
async function readyRun(): Promise<RunRoutes> {
  const run = await newRun();
  await addTasks(
    run,
    { id: "free" },
    { id: "stuck", status: "blocked" },
    { id: "busy", status: "in_progress" },
  );
  return run;
}

/** Where a text has no limit of its own: name, sub-route, body. */
const places: [string, string, Record<string, unknown>][] = [
  ["the type of an event", "/events", { type: HUGE, status: "running" }],
  ["the step of an event", "/events", { type: "step_started", status: "running", step_id: HUGE }],
  ["the id of a todo", "/todos/sync", { todos: [{ id: HUGE, content: "c" }] }],
  ["the content of a todo", "/todos/sync", { todos: [{ content: HUGE }] }],
  ["the session of a todo sync", "/todos/sync", { todos: [], source_session_id: HUGE }],
  ["the adopted path", "/lease/validate", { phase: "p", current_path: `/${HUGE}` }],
  ["the phase", "/lease/validate", { phase: HUGE, current_path: "/srv/ws" }],
  ["the agent of a claim", "/tasks/claim", { agent_id: HUGE }],
  [
    "the agent of a transition",
    "/tasks/stuck/transition",
    { action: "status", status: "runnable", agent_id: HUGE },
  ],
  ["the agent of a heartbeat", "/tasks/busy/transition", { action: "heartbeat", agent_id: HUGE }],
  ["the error of a failure", "/tasks/busy/transition", { action: "fail", error: HUGE }],
  ["the workflow of a task", "/tasks", { tasks: [{ task_type: "t", workflow_id: HUGE }] }],
  ["the type of a task", "/tasks", { tasks: [{ task_type: HUGE }] }],
  ["a decision of a task", "/tasks", { tasks: [{ task_type: "t", decision_ids: [HUGE] }] }],
  ["the reason of a checkpoint", "/checkpoints", { reason: HUGE }],
];

describe("large requests", () => {
  it.each(places)(
    "02§1 1.9 MB in %s are stored whole or refused with 413, never half",
    async (_name, sub, body) => {
      const run = await readyRun();
      const before = await everything(run);
      const answer = await run.post(sub, body);
      expect([200, 413], answer.text.slice(0, 200)).toContain(answer.status);
      if (answer.status === 413) {
        expect(answer.body.code).toBe("LIMIT_EXCEEDED");
        expect(await everything(run)).toEqual(before);
      }
      const next = must(await run.post("/events", { type: "note", status: "paused" }));
      expect((await runOf(run)).revision).toBe(next.event.revision);
    },
  );

  it("02§1 a payload over 256 KiB is 413 LIMIT_EXCEEDED, one below is stored", async () => {
    const run = await newRun();
    const before = await everything(run);
    const text = "x".repeat(300 * 1024);
    for (const answer of [
      await run.post("/events", { type: "note", status: "running", payload: { text } }),
      await run.post("/tasks", { tasks: [{ task_type: "t", payload: { text } }] }),
      await run.post("/blackboard/patches", { op: "set_rolling_summary", payload: text }),
    ]) {
      expect([answer.status, answer.body.code]).toEqual([413, "LIMIT_EXCEEDED"]);
      expect(answer.body).toMatchObject({
        limit_name: expect.any(String),
        limit: 262_144,
        actual: expect.any(Number),
      });
    }
    expect(await everything(run)).toEqual(before);
    const payload = { text: "x".repeat(250 * 1024) };
    const stored = must(await run.post("/events", { type: "note", status: "running", payload }));
    expect(stored.event.payload).toEqual(payload);
  });

  it("D35 an answer leaves out a blackboard of more than 8 MiB and says so; GET still shows it", async () => {
    const run = await newRun();
    const minimal = { prefer: "return=minimal" };
    const tasks = Array.from({ length: 7 }, () => ({
      task_type: "t",
      payload: { text: "x".repeat(250_000) },
    }));
    for (let n = 0; n < 5; n++) must(await run.post("/tasks", { tasks }, minimal));
    const body = must(await run.post("/blackboard/patches", { op: "set_rolling_summary", payload: "x" }));
    expect(body).toMatchObject({ ok: true, blackboard_omitted: true, patch: { seq: 36 } });
    expect(body).not.toHaveProperty("blackboard");
    expect(must(await run.get("/blackboard")).blackboard.tasks).toHaveLength(35);
  });
});

describe("texts come back as they were sent", () => {
  const odd =
    'nul \u0000, BOM \uFEFF, astral \u{1F600}, noncharacter \uFFFF, combining e\u0301, quote ", \\, newline \n';

  it("01§4 in a run, an event, a task, a patch, a step", async () => {
    const run = await newRun({ objective: odd, source_client: `a${odd}z`, mcp_servers: [`a${odd}z`] });
    const { event } = must(
      await run.post("/events", { type: odd, status: "running", step_id: odd, payload: { [odd]: [odd] } }),
    );
    expect(event).toMatchObject({ type: odd, step_id: odd, payload: { [odd]: [odd] } });
    await addTasks(run, {
      id: "t",
      task_type: `a${odd}z`,
      command_id: `c${odd}`.slice(0, 60),
      payload: { [odd]: odd },
    });
    const agent_id = `a${odd}z`;
    const { task } = must(await run.post("/tasks/claim", { agent_id, task_type: `a${odd}z` }));
    expect(task).toMatchObject({ task_type: `a${odd}z`, lease_owner: agent_id, payload: { [odd]: odd } });
    must(await run.post("/blackboard/patches", { op: "set_rolling_summary", payload: odd }));
    must(await run.post("/todos/sync", { todos: [{ id: `a${odd}z`, content: `a${odd}z` }] }));
    const { run: seen, events, blackboard } = await everything(run);
    expect(seen).toMatchObject({
      objective: odd,
      source_client: `a${odd}z`,
      mcp_servers: [`a${odd}z`],
      steps: [{ step_id: `a${odd}z`, title: `a${odd}z` }],
    });
    expect(events).toMatchObject([{ type: odd }, { command_id: `c${odd}`.slice(0, 60) }, {}, {}, {}]);
    expect(blackboard).toMatchObject({ summaries: { rolling: odd } });
  });

  it("01§4.6 members named __proto__ and constructor are data", async () => {
    const run = await newRun();
    const payload = '{"__proto__":{"a":1},"constructor":2,"toString":null}';
    const answers = [
      await run.post("/events", raw(`{"type":"note","status":"running","payload":${payload}}`)),
      await run.post("/tasks", raw(`{"tasks":[{"id":"t","task_type":"t","payload":${payload}}]}`)),
      await run.get("/events"),
      await run.get("/blackboard"),
      await run.get("/replay"),
    ];
    for (const answer of answers) {
      must(answer);
      expect(answer.text).toContain('"__proto__":{"a":1}');
      expect(answer.text).toContain('"toString":null');
    }
  });

  it("02§1.3 a byte order mark before the document is not JSON", async () => {
    const answer = await call(
      "POST",
      "/context/runs",
      raw(`\uFEFF{"objective":"o","run_id":"${freshId()}"}`),
    );
    expect([answer.status, answer.body.code]).toEqual([400, "BODY_MALFORMED"]);
  });
});
