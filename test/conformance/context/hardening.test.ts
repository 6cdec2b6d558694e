import { describe, expect, it } from "vitest";
import {
  type Answer,
  addTasks,
  arrange,
  call,
  claim,
  eventsOf,
  everything,
  lastEvent,
  must,
  newRun,
  type RunRoutes,
  raw,
  routes,
  runOf,
  taskOf,
} from "../support.ts";

/** JSON text of a list with the same element again and again. */
function listOf(length: number, element: string): string {
  return `[${Array.from({ length }, () => element).join(",")}]`;
}

/** What an operation read, in rows, as its answer tells. */
function rowsRead(answer: Answer): number {
  must(answer);
  const read = answer.headers.get("baton-rows-read");
  if (read === null) throw new Error("the answer does not tell its price");
  return Number(read);
}

/** The run as a PUT body, with one member that is JSON text already. */
async function bodyWith(run: RunRoutes, name: string, json: string): Promise<Uint8Array<ArrayBuffer>> {
  const body = JSON.stringify({ ...(await runOf(run)), [name]: "@" });
  return raw(body.replace(`"@"`, json));
}

describe("lists without measure", () => {
  /** Name, what is sent, status, code. Every body is below the limit of bodies. */
  const huge: [string, (run: RunRoutes) => Promise<Answer>, number, string][] = [
    [
      "130,000 numbers as mcp_servers",
      () => call("POST", "/context/runs", raw(`{"objective":"o","mcp_servers":${listOf(130_000, "1")}}`)),
      413,
      "LIMIT_EXCEEDED",
    ],
    [
      "1,000 numbers as mcp_servers",
      () => call("POST", "/context/runs", raw(`{"objective":"o","mcp_servers":${listOf(1_000, "1")}}`)),
      422,
      "BODY_INVALID",
    ],
    [
      "600,000 empty todos",
      (run) => run.post("/todos/sync", raw(`{"todos":${listOf(600_000, "{}")}}`)),
      413,
      "LIMIT_EXCEEDED",
    ],
    [
      "400,000 empty task rows",
      (run) => run.post("/tasks", raw(`{"tasks":${listOf(400_000, "{}")}}`)),
      413,
      "LIMIT_EXCEEDED",
    ],
    [
      "900,000 numbers as dependencies",
      (run) =>
        run.post(
          "/tasks",
          raw(`{"tasks":[{"task_type":"t","depends_on_task_ids":${listOf(900_000, "1")}}]}`),
        ),
      413,
      "LIMIT_EXCEEDED",
    ],
    [
      "10,000 numbers as artifact ids in each of 50 rows",
      (run) =>
        run.post(
          "/tasks",
          raw(`{"tasks":${listOf(50, `{"task_type":"t","artifact_ids":${listOf(10_000, "1")}}`)}}`),
        ),
      422,
      "BODY_INVALID",
    ],
    [
      "a run of 200,000 empty tasks",
      async (run) => run.put(await bodyWith(run, "tasks", listOf(200_000, "{}"))),
      413,
      "LIMIT_EXCEEDED",
    ],
    [
      "a run of 30,000 empty tasks",
      async (run) => run.put(await bodyWith(run, "tasks", listOf(30_000, "{}"))),
      422,
      "BODY_INVALID",
    ],
    [
      "a run of 200,000 empty steps",
      async (run) => run.put(await bodyWith(run, "steps", listOf(200_000, "{}"))),
      413,
      "LIMIT_EXCEEDED",
    ],
  ];
  it.each(huge)("07 D35 %s are refused, briefly, and store nothing", async (_name, send, status, code) => {
    const run = await newRun();
    const before = await everything(run);
    const answer = await send(run);
    expect([answer.status, answer.body.code], answer.text.slice(0, 500)).toEqual([status, code]);
    expect(answer.text.length).toBeLessThan(64 * 1024);
    expect((answer.body.issues ?? []).length).toBeLessThanOrEqual(50);
    expect(await everything(run)).toEqual(before);
  });
});

describe("the price of an operation", () => {
  it("07 D35 adding the 300th fact, with the blackboard in the answer, reads no more than the 50th", async () => {
    const run = await newRun();
    const add = (n: number) => {
      const payload = { id: `f${n}`, ts_ms: n, text: `fact ${n}` };
      return run.post("/blackboard/patches", { op: "add_fact", payload });
    };
    const prices = new Map<number, number>();
    let shown = 0;
    for (let n = 1; n <= 300; n += 1) {
      const answer = await add(n);
      prices.set(n, rowsRead(answer));
      shown = answer.body.blackboard.facts.length;
    }
    expect(shown).toBe(300);
    expect(prices.get(300)).toBe(prices.get(50));
    expect(prices.get(300)).toBeLessThanOrEqual(10);
  });

  it("design: a command refused for its size leaves caches alone: the next claim reads no more rows", async () => {
    const run = await newRun();
    const lanes = Array.from({ length: 80 }, (_, index) => ({ id: `t${index}`, task_type: `k${index}` }));
    await addTasks(run, ...lanes);
    const next = () => run.post("/tasks/claim", { agent_id: "agent" });
    // The first claim learns the lanes.
    must(await next());
    const usual = rowsRead(await next());
    expect(usual).toBeLessThan(20);
    const artifact_ids = Array.from({ length: 10_000 }, (_, index) => `${index}`.padEnd(120, "-"));
    const refused = await run.post("/tasks", { tasks: [{ task_type: "big", artifact_ids }] });
    expect([refused.status, refused.body]).toMatchObject([
      413,
      { code: "LIMIT_EXCEEDED", limit_name: "commit_bytes" },
    ]);
    const after = await next();
    expect(rowsRead(after)).toBeLessThanOrEqual(usual);
    // The answer shows the whole board, from what was kept.
    expect(after.body.blackboard.tasks).toHaveLength(lanes.length);
  });
});

describe("PUT checks what it stores", () => {
  /** A run with three tasks, and the body that puts it back with these members of the first changed. */
  async function changed(fields: Record<string, unknown>): Promise<[RunRoutes, Record<string, unknown>]> {
    const run = await newRun();
    await addTasks(run, { id: "a" }, { id: "b", depends_on_task_ids: ["a"] }, { id: "c" });
    const stored = await runOf(run);
    const tasks = stored.tasks.map((task) => (task.id === "a" ? { ...task, ...fields } : task));
    return [run, { ...stored, tasks }];
  }

  it.each(["", "  "])("07 D03 the task id %j is refused with 400 and stores nothing", async (id) => {
    const [run, body] = await changed({ id });
    const before = await everything(run);
    const answer = await run.put(body);
    expect([answer.status, answer.body.code]).toEqual([400, "ID_INVALID"]);
    expect(await everything(run)).toEqual(before);
  });

  it("04§1 dependencies are trimmed, blank ones are dropped, and a claim minds what is left", async () => {
    const [run, body] = await changed({ depends_on_task_ids: [" c ", "", "  ", "c2\t"] });
    must(await run.put(body));
    expect((await taskOf(run, "a")).depends_on_task_ids).toEqual(["c", "c2"]);
    const [freed, other] = await changed({ depends_on_task_ids: ["", " "] });
    must(await freed.put(other));
    expect((await claim(freed)).id).toBe("a");
    expect((await claim(run)).id).toBe("c");
  });

  const cycles: [string, string[], string[]][] = [
    ["a task that waits for itself", ["a"], ["a", "a"]],
    ["a task that waits for itself, in blanks", [" a "], ["a", "a"]],
    ["two tasks that wait for each other", ["c", "b"], ["a", "b", "a"]],
  ];
  it.each(cycles)("07 D49 %s: refused, nothing is stored", async (_name, depends_on_task_ids, cycle) => {
    const [run, body] = await changed({ depends_on_task_ids });
    const before = await everything(run);
    const refused = must(await run.put(body));
    expect(refused).toMatchObject({ ok: false, code: "TASK_DEPENDENCY_CYCLE" });
    const told = (refused as unknown as { cycle: string[] }).cycle;
    expect([...new Set(told)].sort()).toEqual([...new Set(cycle)].sort());
    expect([told.length, told.at(-1)]).toEqual([cycle.length, told[0]]);
    expect(await everything(run)).toEqual(before);
  });
});

describe("batches see what their earlier rows did", () => {
  it("07 D49 a task that loses its dependencies in the batch closes no cycle with a later row", async () => {
    const run = await newRun();
    const created = await addTasks(
      run,
      { id: "t1", depends_on_task_ids: ["a"] },
      { id: "t1" },
      { id: "a", depends_on_task_ids: ["t1"] },
    );
    expect(created.map((task) => task.id)).toEqual(["t1", "t1", "a"]);
    expect((await runOf(run)).tasks).toMatchObject([
      { id: "t1", depends_on_task_ids: [] },
      { id: "a", depends_on_task_ids: ["t1"] },
    ]);
  });
});

describe("repeats under a command id", () => {
  const first = { agent_id: "me", command_id: "c", lease_ms: 60_000 };
  /** Claims under the same command id, and whether each is the same request. */
  const repeats: [string, Record<string, unknown>, boolean][] = [
    ["the same request", first, true],
    ["another lease_ms", { ...first, lease_ms: 61_000 }, false],
    ["no lease_ms", { agent_id: "me", command_id: "c" }, false],
    ["a task_type", { ...first, task_type: "custom" }, false],
    ["a workflow_id", { ...first, workflow_id: "w" }, false],
    ["another agent", { ...first, agent_id: "you" }, false],
  ];
  it.each(repeats)(
    "07 D40 claim again with %s: only the same gets deduped_task",
    async (_name, body, same) => {
      const run = await newRun();
      await addTasks(run, { id: "t" }, { id: "u" });
      const { task } = must(await run.post("/tasks/claim", first));
      const answer = must(await run.post("/tasks/claim", body));
      expect(answer).toMatchObject({ ok: true, deduped: true, task: null });
      if (same) expect(answer.deduped_task).toEqual(task);
      else expect(answer).not.toHaveProperty("deduped_task");
      if (!same) expect(JSON.stringify(answer)).not.toContain(task.lease_token);
    },
  );

  it("07 D43 a repeated checkpoint call answers its own checkpoint, also after another took its place", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const store = (reason: string) => run.post("/checkpoints", { reason, command_id: reason });
    const made = must(await store("a")).checkpoint;
    must(await store("b"));
    const again = await store("a");
    expect(must(again).checkpoint).toEqual(made);
    expect(again.headers.get("idempotency-replayed")).toBe("true");
  });

  it("04§5 a checkpoint's command id drops the task row that brings it", async () => {
    const run = await newRun();
    must(await run.post("/checkpoints", { reason: "r", command_id: "used" }));
    const rows = [
      { id: "a", task_type: "t", command_id: "used" },
      { id: "b", task_type: "t", command_id: "new" },
    ];
    const body = must(await run.post("/tasks", { tasks: rows }));
    expect(body).toMatchObject({ ok: true, deduped: ["used"], tasks: [{ id: "b" }] });
    expect((await runOf(run)).tasks.map((task) => task.id)).toEqual(["b"]);
  });
});

describe("workspace mismatches", () => {
  const probe = { phase: "p", current_path: "/elsewhere", step_id: "s" };
  const mismatch = { ok: false, mismatch: true, status: "paused" };

  async function boundRun(): Promise<RunRoutes> {
    const run = await newRun({
      workspace: { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 1 },
    });
    expect(must(await run.post("/lease/validate", probe))).toEqual(mismatch);
    return run;
  }

  const event = (run: RunRoutes, type: string) => run.post("/events", { type, status: "running" });

  /** What happens between two equal mismatches, and whether the second is logged. */
  const between: [string, (run: RunRoutes) => Promise<unknown>, boolean][] = [
    ["nothing", async () => undefined, false],
    ["a note", (run) => run.post("/events", { type: "note", status: "paused" }), false],
    ["a resume", (run) => event(run, "run_resumed"), true],
    [
      "a resume and a pause",
      async (run) => {
        must(await event(run, "run_resumed"));
        must(await event(run, "run_paused"));
      },
      true,
    ],
    [
      "a PUT of another path",
      (run) => arrange(run, { workspace: { workspace_id: "w", canonical_path: "/srv/new", lease_epoch: 1 } }),
      true,
    ],
  ];
  it.each(between)("07 D70 the same mismatch after %s", async (_name, happen, isLogged) => {
    const run = await boundRun();
    await happen(run);
    const before = await eventsOf(run);
    expect(must(await run.post("/lease/validate", probe))).toEqual(mismatch);
    const after = await eventsOf(run);
    expect(after.length - before.length).toBe(isLogged ? 1 : 0);
    expect((await runOf(run)).status).toBe("paused");
    if (!isLogged) return;
    const { workspace } = await runOf(run);
    expect(await lastEvent(run)).toMatchObject({
      type: "workspace_mismatch",
      step_id: "s",
      payload: { expected_path: workspace.canonical_path, actual_path: "/elsewhere" },
    });
    // And that one, repeated, is not.
    expect(must(await run.post("/lease/validate", probe))).toEqual(mismatch);
    expect(await eventsOf(run)).toHaveLength(after.length);
  });
});

describe("paths that everyone may read", () => {
  const token = "not-the-token";
  const wrong: [string, string, Record<string, string | null>][] = [
    ["POST", "/global/health", {}],
    ["PUT", "/global/health", { "x-agent-token": null }],
    ["DELETE", "/global/health", { "x-agent-token": token }],
    ["PUT", "/problems/AUTH_REQUIRED", {}],
    ["POST", "/problems/AUTH_REQUIRED", { "x-agent-token": null }],
    ["PATCH", "/problems/AUTH_REQUIRED", { "x-agent-token": token }],
  ];
  it.each(wrong)(
    "02§1.3 %s %s is 405 and tells the methods that are allowed",
    async (method, path, headers) => {
      const answer = await call(method, path, undefined, headers);
      expect([answer.status, answer.body.code]).toEqual([405, "METHOD_NOT_ALLOWED"]);
      expect(answer.headers.get("allow")?.split(/, */).sort()).toEqual(["GET", "HEAD"]);
      must(await call("GET", path, undefined, headers));
    },
  );
});

describe("event types are matched in ASCII", () => {
  /** `\u212A` is the Kelvin sign, which Unicode lower-cases to `k`. Type, the step's status after it, `origin`. */
  const types: [string, string, string | undefined][] = [
    ["task_started", "in_progress", undefined],
    [" TASK_Started ", "in_progress", undefined],
    ["tas\u212A_started", "pending", undefined],
    ["TAS\u212A_COMPLETED", "pending", undefined],
    ["tas\u212A_failed", "pending", undefined],
    ["WORKSPACE_MISMATCH", "pending", "client"],
    ["wor\u212Aspace_mismatch", "pending", undefined],
    ["context.tas\u212A.created", "pending", "client"],
  ];
  it.each(types)("03§1.1 %j leaves the step %s", async (type, status, origin) => {
    const run = await newRun();
    await arrange(run, { steps: [{ step_id: "s", title: "S", status: "pending" }] });
    const { event, ok } = must(await run.post("/events", { type, status: "running", step_id: "s" }));
    expect([ok, event.type, event.origin]).toEqual([true, type, origin]);
    const after = await runOf(run);
    expect(after.steps).toEqual([{ step_id: "s", title: "S", status }]);
    expect(after.status).toBe("running");
  });

  it("03§1.2 a step-status word with a Kelvin sign is unknown", async () => {
    const run = await newRun();
    await arrange(run, { steps: [{ step_id: "s", title: "S", status: "pending" }] });
    for (const [word, status] of [
      ["bloc\u212Aed", "pending"],
      ["BLOCKED", "blocked"],
    ]) {
      const event = { type: "note", status: "running", step_id: "s", payload: { step_status: word } };
      must(await run.post("/events", event));
      expect((await runOf(run)).steps[0]?.status, word).toBe(status);
    }
    expect((await routes(run.id).get("/replay")).body.drift.mismatch).toBe(false);
  });
});

describe("plans with a wide gate", () => {
  const width = 300;
  const ids = Array.from({ length: width }, (_, index) => `${index}`);

  it("07 D49 rows that nothing waits for are never searched: a gate on many tasks, and many behind it", async () => {
    const run = await newRun();
    const rows = [
      ...ids.slice(0, 150).map((id) => ({ id: `before-${id}`, task_type: "t" })),
      { id: "gate", task_type: "t", depends_on_task_ids: ids.slice(0, 150).map((id) => `before-${id}`) },
      ...ids.map((id) => ({ id: `after-${id}`, task_type: "t", depends_on_task_ids: ["gate"] })),
    ];
    must(await run.post("/tasks", { tasks: rows }));
    const more = ids.map((id) => ({ id: `later-${id}`, task_type: "t", depends_on_task_ids: ["gate"] }));
    must(await run.post("/tasks", { tasks: more }));
    expect((await runOf(run)).tasks).toHaveLength(rows.length + more.length);
  });
});

describe("what was read can be put back", () => {
  it("02§2.4 with long step ids and errors that other routes took", async () => {
    const run = await newRun();
    must(await run.post("/todos/sync", { todos: [{ id: "i".repeat(1_200), content: "c" }] }));
    const error = "e".repeat(70_000);
    must(await run.post("/events", { type: "step_failed", status: "running", payload: { error } }));
    const before = await runOf(run);
    const after = must(await run.put(before)).run;
    expect(after).toMatchObject({ steps: before.steps, last_error: error });
  });

  it.each([
    ["task_rev", Number.MAX_SAFE_INTEGER],
    ["attempt", 2 ** 32 - 1],
  ])("07 D108 a %s with no room to count on is refused", async (name, value) => {
    const run = await newRun();
    await addTasks(run, { id: "t" });
    const before = await runOf(run);
    const tasks = before.tasks.map((task) => ({ ...task, [name]: value }));
    expect((await run.put({ ...before, tasks })).status).toBe(422);
    expect(await runOf(run)).toEqual(before);
  });
});

describe("steps with one id", () => {
  it("03§6 the driver starts the step it selected, not another of the same id", async () => {
    const run = await newRun();
    const todos = [
      { id: "a", content: "first", status: "done" },
      { id: "a", content: "second", status: "pending" },
    ];
    must(await run.post("/todos/sync", { todos }));
    must(await run.post("/driver/next", {}));
    expect((await runOf(run)).steps.map((step) => step.status)).toEqual(["done", "in_progress"]);
  });
});
