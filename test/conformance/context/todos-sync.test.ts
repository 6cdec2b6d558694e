import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  everything,
  freshId,
  lastEvent,
  must,
  newRun,
  patchesOf,
  routes,
  runOf,
  TERMINAL,
} from "../support.ts";

const step = (step_id: string, title: string, status: string) => ({ step_id, title, status });

describe("POST …/todos/sync", () => {
  const words: [string | null | undefined, string][] = [
    ["in_progress", "in_progress"],
    ["in-progress", "in_progress"],
    ["working", "in_progress"],
    ["doing", "in_progress"],
    [" ACTIVE ", "in_progress"],
    ["runnable", "runnable"],
    ["Ready", "runnable"],
    ["done", "done"],
    ["completed", "done"],
    ["complete", "done"],
    ["blocked", "blocked"],
    ["failed", "failed"],
    ["error", "failed"],
    ["pending", "pending"],
    ["whatever", "pending"],
    ["", "pending"],
    [null, "pending"],
    [undefined, "pending"],
  ];
  it.each(words)("03§5.1 the word %j is %s", async (word, status) => {
    const run = await newRun();
    const body = must(await run.post("/todos/sync", { todos: [{ content: "c", status: word }] }));
    expect(body.run.steps).toEqual([step("todo-1", "c", status)]);
  });

  const numbering: [Record<string, unknown>[], Record<string, unknown>[]][] = [
    [[{ id: " a ", content: " A " }], [step("a", "A", "pending")]],
    [
      [{ id: " ", content: "A" }, { id: null, content: "B" }, { content: "C" }],
      [step("todo-1", "A", "pending"), step("todo-2", "B", "pending"), step("todo-3", "C", "pending")],
    ],
    [
      [{ content: " " }, { content: "B" }, { id: "x", content: "" }, { content: "D" }],
      [step("todo-2", "B", "pending"), step("todo-4", "D", "pending")],
    ],
    [
      [
        { id: "a", content: "A" },
        { id: "a", content: "B" },
      ],
      [step("a", "A", "pending"), step("a", "B", "pending")],
    ],
  ];
  it.for(numbering)("03§5.1 steps of %j", async ([todos, steps]) => {
    expect(must(await (await newRun()).post("/todos/sync", { todos })).run.steps).toEqual(steps);
  });

  const old = [step("a", "A", "done"), step("b", "B", "blocked")];
  const merges: [unknown, Record<string, unknown>[], Record<string, unknown>[]][] = [
    [undefined, [{ id: "b", content: "New" }], [step("b", "New", "pending")]],
    [true, [{ id: "c", content: "C" }], [step("c", "C", "pending")]],
    [true, [], []],
    [
      false,
      [
        { id: "c", content: "C" },
        { id: "a", content: "A2", status: "working" },
      ],
      [step("a", "A2", "in_progress"), step("b", "B", "blocked"), step("c", "C", "pending")],
    ],
    [false, [], old],
  ];
  it.each(merges)("03§5.2 replace %j with %j", async (replace, todos, steps) => {
    const run = await newRun();
    await arrange(run, { steps: old });
    expect(must(await run.post("/todos/sync", { todos, replace })).run.steps).toEqual(steps);
  });

  /** Step statuses of the merged list, the status before, the status after, the reason after. */
  const results: [string[], string, string, string | null][] = [
    [["pending", "in_progress", "runnable"], "queued", "running", "todo-1"],
    [["done", "in_progress"], "paused", "running", "todo-2"],
    [["done", "runnable", "pending"], "queued", "planning", "todo-2"],
    [["done", "done"], "running", "completed", null],
    [["pending"], "running", "planning", "todo-1"],
    [["failed"], "running", "planning", null],
    [["blocked", "done"], "awaiting_approval", "planning", null],
    [[], "paused", "paused", null],
    ...TERMINAL.map((status): [string[], string, string, string] => [
      ["done", "active"],
      status,
      status,
      "todo-2",
    ]),
    ...TERMINAL.map((status): [string[], string, string, null] => [["done"], status, status, null]),
  ];
  it.each(results)("03§5.3 steps %j on a %s run: %s, next %s", async (statuses, before, after, next) => {
    const run = await newRun();
    await arrange(run, { status: before, why_next_step: "old" });
    const todos = statuses.map((status) => ({ content: "c", status }));
    const body = must(await run.post("/todos/sync", { todos }));
    expect(body.run.status).toBe(after);
    expect(body.run.why_next_step).toBe(next && `continue task \`${next}\` from synced todo list`);
    expect(await runOf(run)).toEqual(body.run);
  });

  it("03§5.5 leaves started_at_ms, last_error and tasks alone", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const before = await arrange(run, { status: "running", started_at_ms: 5, last_error: "e" });
    const { run: after } = must(await run.post("/todos/sync", { todos: [{ content: "c" }] }));
    expect(after).toMatchObject({ started_at_ms: 5, last_error: "e", tasks: before.tasks });
  });

  it("D66 ended_at_ms is set when the sync completes the run", async () => {
    const run = await newRun();
    const { run: done } = must(await run.post("/todos/sync", { todos: [{ content: "c", status: "done" }] }));
    expect(done.ended_at_ms).toBe((await lastEvent(run)).ts_ms);
  });

  it("03§3.1 the event todo_synced has exactly these members", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const before = await arrange(run, { steps: [step("a", "A", "done")] });
    const todos = [{ id: "b", content: "B", status: "doing" }, { content: " " }, { content: "C" }];
    const { run: after } = must(
      await run.post("/todos/sync", { todos, replace: false, source_session_id: "s", source_run_id: "r" }),
    );
    const event = await lastEvent(run);
    expect(event).toEqual({
      event_id: expect.stringMatching(/^evt-/),
      run_id: run.id,
      seq: before.last_event_seq + 1,
      ts_ms: after.updated_at_ms,
      type: "todo_synced",
      status: "running",
      run_status: "running",
      revision: after.revision,
      payload: {
        count: 3,
        replace: false,
        source_session_id: "s",
        source_run_id: "r",
        todos: [
          { id: "b", content: "B", status: "doing" },
          { id: null, content: " ", status: null },
          { id: null, content: "C", status: null },
        ],
        why_next_step: "continue task `b` from synced todo list",
        steps: after.steps,
        run: expect.objectContaining({
          run_id: run.id,
          status: "running",
          steps: after.steps,
          tasks: [],
          revision: before.revision,
          last_event_seq: before.last_event_seq,
        }),
      },
    });
    expect(after).toMatchObject({ revision: before.revision + 1, last_event_seq: before.last_event_seq + 1 });
  });

  it("03§3.1 replace, source_session_id and source_run_id have their defaults in the event", async () => {
    const run = await newRun();
    must(await run.post("/todos/sync", { todos: [] }));
    expect((await lastEvent(run)).payload).toMatchObject({
      count: 0,
      replace: true,
      source_session_id: null,
      source_run_id: null,
      todos: [],
      why_next_step: null,
      steps: [],
    });
    expect(await patchesOf(run)).toEqual([]);
  });

  it("D12 concurrent syncs and task commits lose nothing", async () => {
    const run = await newRun();
    await addTasks(run, ...Array.from({ length: 8 }, (_, n) => ({ id: `t${n}` })));
    await Promise.all(
      Array.from({ length: 8 }, (_, n) => [
        run.post("/todos/sync", { todos: [{ id: `s${n}`, content: "c" }], replace: false }),
        run.post("/tasks/claim", { agent_id: `agent-${n}` }),
      ]).flat(),
    );
    const after = await runOf(run);
    expect(after.steps.map((row) => row.step_id).sort()).toEqual(
      Array.from({ length: 8 }, (_, n) => `s${n}`),
    );
    expect(after.tasks.every((task) => task.status === "in_progress")).toBe(true);
    expect(new Set(after.tasks.map((task) => task.lease_owner)).size).toBe(8);
    expect(after.revision).toBe(1 + 8 + 16);
  });

  it("01§8 404 for an unknown run", async () => {
    const answer = await routes(freshId()).post("/todos/sync", { todos: [] });
    expect(answer.status).toBe(404);
    expect(answer.body.code).toBe("RUN_NOT_FOUND");
  });

  it("02§1 1,001 steps are 413 LIMIT_EXCEEDED and change nothing", async () => {
    const run = await newRun();
    const before = await everything(run);
    const todos = Array.from({ length: 1001 }, () => ({ content: "c" }));
    const answer = await run.post("/todos/sync", { todos });
    expect(answer.status).toBe(413);
    expect(answer.body).toMatchObject({ code: "LIMIT_EXCEEDED", limit: 1000, actual: 1001 });
    expect(await everything(run)).toEqual(before);
    expect(must(await run.post("/todos/sync", { todos: todos.slice(1) })).run.steps).toHaveLength(1000);
  });

  const wrong: unknown[] = [
    {},
    { todos: null },
    { todos: {} },
    { todos: [{}] },
    { todos: [{ content: 1 }] },
    { todos: [{ content: "c", id: 1 }] },
    { todos: [{ content: "c", status: true }] },
    { todos: [], replace: "yes" },
    { todos: [], source_run_id: 1 },
  ];
  it.each(wrong)("02§1.3 wrong shape is 422: %j", async (body) => {
    expect((await (await newRun()).post("/todos/sync", body)).status).toBe(422);
  });
});
