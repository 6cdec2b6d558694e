import { describe, expect, it } from "vitest";
import {
  type Answer,
  addTasks,
  call,
  eventually,
  everything,
  freshId,
  newRun,
  type RunRoutes,
  raw,
  routes,
  runOf,
} from "../support.ts";
import { addNativeTasks, allPages, good, type NativeBody, newNativeRun, problem } from "./support.ts";

/** The members of a problem document that say how much of something there was. */
interface Measured extends NativeBody {
  issue_count: number;
  limit_name: string;
  limit: number;
  actual: number;
}

function measured(answer: Answer, status: number, code: string): Measured {
  return problem(answer, status, code) as Measured;
}

/** JSON text of a list with the same element again and again. */
function listOf(length: number, element: string): string {
  return `[${Array.from({ length }, () => element).join(",")}]`;
}

/** JSON text of that many members that no request has. */
function unknownFields(count: number): string {
  return Array.from({ length: count }, (_, index) => `"a${index}":0`).join(",");
}

/** The run as a PUT body, with one member that is JSON text already. */
async function bodyWith(run: RunRoutes, name: string, json: string): Promise<Uint8Array<ArrayBuffer>> {
  const body = JSON.stringify({ ...(await runOf(run)), [name]: "@" });
  return raw(body.replace(`"@"`, json));
}

describe("lists without measure", () => {
  /** Name, what is sent, the list's name, its limit, its length. */
  const tooLong: [string, (run: RunRoutes) => Promise<Answer>, string, number, number][] = [
    [
      "130,000 numbers as mcp_servers",
      () => call("POST", "/v1/runs", raw(`{"objective":"o","mcp_servers":${listOf(130_000, "1")}}`)),
      "mcp_servers",
      1_000,
      130_000,
    ],
    [
      "600,000 empty todos",
      (run) => run.post("/todos/sync", raw(`{"todos":${listOf(600_000, "{}")}}`)),
      "todos",
      1_000,
      600_000,
    ],
    [
      "400,000 empty task rows",
      (run) => run.post("/tasks", raw(`{"tasks":${listOf(400_000, "{}")}}`)),
      "tasks",
      500,
      400_000,
    ],
    [
      "a run of 200,000 empty tasks",
      async (run) => run.put(await bodyWith(run, "tasks", listOf(200_000, "{}"))),
      "tasks",
      30_000,
      200_000,
    ],
    [
      "a run of 200,000 empty steps",
      async (run) => run.put(await bodyWith(run, "steps", listOf(200_000, "{}"))),
      "steps",
      1_000,
      200_000,
    ],
  ];
  it.each(tooLong)(
    "07 D35 %s cross a limit, which is told",
    async (_name, send, limit_name, limit, actual) => {
      const run = await newNativeRun();
      const before = await everything(run);
      const answer = await send(run);
      expect(measured(answer, 413, "LIMIT_EXCEEDED")).toMatchObject({ limit_name, limit, actual });
      expect(answer.text.length).toBeLessThan(64 * 1024);
      expect(await everything(run)).toEqual(before);
    },
  );

  /** Name, what is sent, how many faults it has; null when they are more than can be counted. */
  const faulty: [string, (run: RunRoutes) => Promise<Answer>, number | null][] = [
    [
      "150,000 unknown fields",
      (run) => run.post("/events", raw(`{"type":"note","status":"running",${unknownFields(150_000)}}`)),
      150_000,
    ],
    [
      "51 unknown fields",
      (run) => run.post("/events", raw(`{"type":"note","status":"running",${unknownFields(51)}}`)),
      51,
    ],
    ["500 empty task rows", (run) => run.post("/tasks", raw(`{"tasks":${listOf(500, "{}")}}`)), 500],
    [
      "a run of 30,000 empty tasks",
      async (run) => run.put(await bodyWith(run, "tasks", listOf(30_000, "{}"))),
      null,
    ],
  ];
  it.each(faulty)("design: of %s at most 50 are listed, and all counted", async (_name, send, count) => {
    const run = await newNativeRun();
    const before = await everything(run);
    const answer = await send(run);
    const body = measured(answer, 422, "BODY_INVALID");
    expect(answer.text.length).toBeLessThan(64 * 1024);
    expect(body.issues.length).toBeLessThanOrEqual(50);
    expect(body.issue_count).toBeGreaterThanOrEqual(body.issues.length);
    if (count !== null) expect([body.issues.length, body.issue_count]).toEqual([50, count]);
    expect(await everything(run)).toEqual(before);
  });
});

describe("keys of checkpoints", () => {
  const keyed = (key: string) => ({ "idempotency-key": key });

  it("07 D43 the first checkpoint's key answers the first, also after a second took its place", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    const store = (key: string, reason: string) => run.post("/checkpoints", { reason }, keyed(key));
    const a = await store("a", "first");
    const b = await store("b", "second");
    const [made, replacing] = [good(a, 201).checkpoint, good(b, 201).checkpoint];
    expect(replacing.seq).toBe(made.seq);
    expect(replacing.checkpoint_id).not.toBe(made.checkpoint_id);
    expect(a.headers.get("idempotency-replayed")).toBeNull();
    expect(b.headers.get("idempotency-replayed")).toBeNull();
    for (const [key, reason, checkpoint] of [
      ["a", "first", made],
      ["b", "second", replacing],
      ["a", "first", made],
    ] as const) {
      const again = await store(key, reason);
      expect(good(again, 201).checkpoint).toEqual(checkpoint);
      expect(again.headers.get("idempotency-replayed")).toBe("true");
    }
    expect(good(await run.get("/checkpoints/latest")).checkpoint).toEqual(replacing);
    problem(await store("a", "another"), 422, "COMMAND_ID_CONFLICT");
    good(await run.post("/events", { type: "note", status: "running" }), 201);
    expect(good(await store("a", "first"), 201).checkpoint).toEqual(made);
  });

  /** Mutations that would be accepted, were their key not a checkpoint's. */
  const mutations: [string, Record<string, unknown>][] = [
    ["/tasks/claim", { agent_id: "me" }],
    ["/events", { type: "note", status: "running" }],
    ["/tasks", { tasks: [{ task_type: "t" }] }],
    ["/tasks/t/transition", { action: "status", status: "blocked" }],
    ["/todos/sync", { todos: [{ content: "c" }] }],
    ["/driver/next", {}],
    ["/lease/validate", { phase: "p", current_path: "/srv/ws" }],
    ["/blackboard/patches", { op: "set_rolling_summary", payload: "x" }],
  ];
  it.each(mutations)(
    "07 D39 a checkpoint's key on %s is a conflict, and nothing is done",
    async (sub, body) => {
      const run = await newNativeRun();
      await addNativeTasks(run, { id: "t" });
      // Two at one seq: the first is gone, its key is not.
      good(await run.post("/checkpoints", { reason: "r" }, keyed("first")), 201);
      good(await run.post("/checkpoints", { reason: "r" }, keyed("second")), 201);
      const before = await everything(run);
      for (const key of ["first", "second"]) {
        problem(await run.post(sub, body, keyed(key)), 422, "COMMAND_ID_CONFLICT");
      }
      expect(await everything(run)).toEqual(before);
      const answer = await run.post(sub, body, keyed("free"));
      expect([200, 201], answer.text).toContain(answer.status);
    },
  );

  it("07 D39 a command's key on a checkpoint is a conflict", async () => {
    const run = await newNativeRun();
    good(await run.post("/events", { type: "note", status: "running" }, keyed("used")), 201);
    problem(await run.post("/checkpoints", { reason: "r" }, keyed("used")), 422, "COMMAND_ID_CONFLICT");
    expect(good(await run.get("/checkpoints/latest")).checkpoint).toBeNull();
  });

  it("04§5 as the command id of a task row it drops that row", async () => {
    const run = await newNativeRun();
    good(await run.post("/checkpoints", { reason: "r" }, keyed("first")), 201);
    good(await run.post("/checkpoints", { reason: "r" }, keyed("second")), 201);
    const rows = ["first", "new", "second"].map((id) => ({ id, task_type: "t", command_id: id }));
    const body = good(await run.post("/tasks", { tasks: rows }), 201);
    expect(body).toMatchObject({ deduped: ["first", "second"], tasks: [{ id: "new" }] });
    expect((await runOf(run)).tasks.map((task) => task.id)).toEqual(["new"]);
  });
});

describe("PUT checks what it stores", () => {
  /** What a task of the run is put as; status, code, field of the first issue. */
  const wrong: [Record<string, unknown>, number, string, string | undefined][] = [
    [{ id: "" }, 400, "ID_INVALID", "tasks[0].id"],
    [{ id: " \t" }, 400, "ID_INVALID", "tasks[0].id"],
    [{ depends_on_task_ids: ["a"] }, 422, "TASK_DEPENDENCY_CYCLE", undefined],
    [{ depends_on_task_ids: [" a "] }, 422, "TASK_DEPENDENCY_CYCLE", undefined],
    [{ depends_on_task_ids: ["b"] }, 422, "TASK_DEPENDENCY_CYCLE", undefined],
  ];
  it.each(wrong)("07 D03 D49 %j is refused and stores nothing", async (fields, status, code, field) => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "a" }, { id: "b", depends_on_task_ids: ["a"] });
    const before = await everything(run);
    const stored = await runOf(run);
    const tasks = stored.tasks.map((task) => (task.id === "a" ? { ...task, ...fields } : task));
    const body = problem(await run.put({ ...stored, tasks }), status, code);
    expect(body.issues?.[0]?.field).toBe(field);
    expect(await everything(run)).toEqual(before);
  });

  it("04§1 dependencies are trimmed, and blank ones dropped", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "a" });
    const stored = await runOf(run);
    const tasks = stored.tasks.map((task) => ({ ...task, depends_on_task_ids: [" c ", "", " \t"] }));
    good(await run.put({ ...stored, tasks }));
    const body = good(await run.get("/tasks/a"));
    expect(body).toMatchObject({ claimable: false, open_dependency_ids: ["c"] });
    expect(body.task.depends_on_task_ids).toEqual(["c"]);
  });
});

describe("refusals name what they are about", () => {
  const fine = { task_type: "t" };
  /** The fourth row of a batch; status, code, field of the first issue. */
  const rows: [Record<string, unknown>, number, string, string][] = [
    [{ task_type: "t", payload: [] }, 422, "TASK_CONTRACT_INVALID", "tasks[3]"],
    [{ task_type: "implementation" }, 422, "TASK_OUTPUT_TARGET_REQUIRED", "tasks[3]"],
    [{ task_type: "t", id: "old" }, 409, "TASK_EXISTS", "tasks[3]"],
    [{ task_type: "t", payload: { x: "x".repeat(300_000) } }, 413, "LIMIT_EXCEEDED", "tasks[3]"],
    [{ task_type: "t", id: "me", depends_on_task_ids: ["me"] }, 422, "TASK_DEPENDENCY_CYCLE", "tasks[3]"],
    [{ task_type: " " }, 400, "FIELD_INVALID", "tasks[3].task_type"],
    [{ task_type: "t", id: "a/b" }, 400, "ID_INVALID", "tasks[3].id"],
    [{}, 422, "BODY_INVALID", "tasks[3].task_type"],
  ];
  it.each(rows.map(([row, ...rest]) => [JSON.stringify(row).slice(0, 60), row, ...rest] as const))(
    "design: a batch refused for its row %s names the row",
    async (_name, row, status, code, field) => {
      const run = await newNativeRun();
      await addNativeTasks(run, { id: "old" });
      const before = await everything(run);
      const body = problem(await run.post("/tasks", { tasks: [fine, fine, fine, row] }), status, code);
      expect(body.issues[0]).toMatchObject({
        field,
        rule: expect.stringMatching(/^[a-z_]+$/),
        message: expect.stringMatching(/./),
      });
      expect(body).not.toHaveProperty("row");
      expect(await everything(run)).toEqual(before);
    },
  );

  /** Route below the run (null: creation), body, the member that is missing. */
  const missing: [string | null, Record<string, unknown>, string][] = [
    [null, {}, "objective"],
    [null, { objective: "o", workspace: { workspace_id: "w", canonical_path: "" } }, "workspace.lease_epoch"],
    ["/events", { status: "running" }, "type"],
    ["/events", { type: "note" }, "status"],
    ["/todos/sync", {}, "todos"],
    ["/todos/sync", { todos: [{}] }, "todos[0].content"],
    ["/lease/validate", { phase: "p" }, "current_path"],
    ["/blackboard/patches", { payload: 1 }, "op"],
    ["/tasks", {}, "tasks"],
    ["/tasks/claim", {}, "agent_id"],
    ["/tasks/t/transition", {}, "action"],
    ["/checkpoints", {}, "reason"],
  ];
  it.each(missing)("design: %s %j misses a member: rule required", async (sub, body, field) => {
    const run = await newNativeRun();
    const answer = sub === null ? await call("POST", "/v1/runs", body) : await run.post(sub, body);
    const { issues } = problem(answer, 422, "BODY_INVALID");
    expect(issues.map((issue) => [issue.field, issue.rule])).toEqual([[field, "required"]]);
  });

  /** Route, body, the member that is of the wrong kind, the rule it breaks. */
  const misfits: [string, Record<string, unknown>, string, string][] = [
    ["/events", { type: null, status: "running" }, "type", "string"],
    ["/events", { type: 1, status: "running" }, "type", "string"],
    ["/events", { type: "note", status: "nope" }, "status", "one_of"],
    ["/events", { type: "note", status: null }, "status", "one_of"],
    ["/tasks", { tasks: [{ task_type: "t" }, { task_type: [] }] }, "tasks[1].task_type", "string"],
    ["/tasks", { tasks: null }, "tasks", "array"],
  ];
  it.each(misfits)("design: %s %j has a member of the wrong kind: not rule required", async (...row) => {
    const [sub, body, field, rule] = row;
    const { issues } = problem(await (await newNativeRun()).post(sub, body), 422, "BODY_INVALID");
    expect(issues.map((issue) => [issue.field, issue.rule])).toEqual([[field, rule]]);
  });

  const spellings: [Record<string, unknown>, string][] = [
    [{ model_id: "a", modelId: "b" }, "model_id"],
    [{ model_id: "a", modelId: "a" }, "model_id"],
    [{ model_id: "a", modelId: null }, "model_id"],
    [{ model_id: null, modelId: "b" }, "model_id"],
    [{ model_id: null, modelId: null }, "model_id"],
    [{ model_provider: null, modelProvider: "p" }, "model_provider"],
    [{ mcp_servers: null, mcpServers: ["m"] }, "mcp_servers"],
    [{ mcp_servers: ["m"], mcpServers: null }, "mcp_servers"],
  ];
  it.each(spellings)("02§1.3 %j gives a field twice", async (fields, field) => {
    const run_id = freshId();
    const answer = await call("POST", "/v1/runs", { objective: "o", run_id, ...fields });
    const { issues } = problem(answer, 422, "BODY_INVALID");
    expect(issues.map((issue) => [issue.field, issue.rule])).toEqual([[field, "one_spelling"]]);
    problem(await routes(run_id, "/v1").get(), 404, "RUN_NOT_FOUND");
  });

  it("design: a body that is too large tells the limit", async () => {
    const run = await newNativeRun();
    const payload = "x".repeat(2 * 1024 * 1024);
    const answer = await run.post("/events", { type: "note", status: "running", payload });
    expect(measured(answer, 413, "BODY_TOO_LARGE")).toMatchObject({
      limit_name: "body_bytes",
      limit: 2_097_152,
    });
  });
});

describe("lease/validate", () => {
  it("07 D43 a repeated mismatch under its key is the same 409, and says that it is a repeat", async () => {
    const workspace = { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 1 };
    const run = await newNativeRun({ workspace });
    const probe = { phase: "p", current_path: "/elsewhere" };
    const ask = (key: string) => run.post("/lease/validate", probe, { "idempotency-key": key });
    const first = await ask("k");
    const told = problem(first, 409, "WORKSPACE_MISMATCH");
    expect(first.headers.get("idempotency-replayed")).toBeNull();
    good(await run.post("/events", { type: "run_resumed", status: "running" }), 201);
    const before = await everything(run);
    const again = await ask("k");
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    const { request_id: _id, ...members } = problem(again, 409, "WORKSPACE_MISMATCH");
    expect(told).toMatchObject(members);
    expect(await everything(run)).toEqual(before);
    expect((await ask("l")).headers.get("idempotency-replayed")).toBeNull();
  });
});

describe("the list of runs", () => {
  it("02§2.2 shows created_at_ms as a PUT set it", async () => {
    const source_client = freshId("client");
    const run = await newNativeRun({ source_client });
    const created_at_ms = 1_234_567;
    good(await run.put({ ...(await runOf(run)), status: "running", created_at_ms }));
    const row = await eventually(async () => {
      const { runs } = good(await call("GET", `/v1/runs?source=${source_client}&status=running`));
      return runs[0];
    }, 10_000);
    expect(row).toMatchObject({ run_id: run.id, created_at_ms });
  });
});

describe("pages of long items", () => {
  const ITEMS = 40;
  const ITEM_LENGTH = 200 * 1024;
  /** Beyond the 4 MiB at which a page ends, it holds the item that crossed them. */
  const MAX_ITEMS = Math.ceil((4 * 1024 * 1024) / ITEM_LENGTH) + 1;
  const payload = { text: "x".repeat(ITEM_LENGTH) };
  const numbers = Array.from({ length: ITEMS }, (_, index) => index);
  const minimal = { prefer: "return=minimal" };

  /** Fills a run with long events, or with long tasks, of which every second one is blocked. */
  async function filled(what: "events" | "tasks"): Promise<RunRoutes> {
    const run = await newRun();
    if (what === "events") {
      for (const index of numbers) {
        const event = { type: `e${index}`, status: "running", payload };
        good(await run.post("/events", event));
      }
    } else {
      const rows = numbers.map((index) => ({
        id: `t${index}`,
        task_type: "t",
        status: index % 2 === 0 ? "pending" : "blocked",
        payload,
      }));
      for (let start = 0; start < ITEMS; start += 8) {
        good(await run.post("/tasks", { tasks: rows.slice(start, start + 8) }, minimal));
      }
    }
    return run;
  }

  it("07 D35 events and patches come in pages of about 4 MiB, each once and in order", async () => {
    const run = await filled("events");
    await addTasks(run, { id: "last" });
    const { rows, sizes } = await allPages(
      `/v1/runs/${run.id}/events?limit=1000`,
      (body: NativeBody) => body.events,
    );
    expect(rows.map((event) => event.seq)).toEqual([...numbers.map((index) => index + 1), ITEMS + 1]);
    expect(sizes.length).toBeGreaterThan(1);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(MAX_ITEMS);
  });

  it("07 D35 tasks, and those of one status, come in pages of about 4 MiB, each once and in order", async () => {
    const run = await filled("tasks");
    const all = numbers.map((index) => `t${index}`);
    const lists: [string, string[]][] = [
      ["/tasks?limit=1000", all],
      ["/tasks?limit=1000&status=blocked", all.filter((_, index) => index % 2 === 1)],
    ];
    for (const [path, ids] of lists) {
      const { rows, sizes } = await allPages(`/v1/runs/${run.id}${path}`, (body: NativeBody) => body.tasks);
      expect(rows.map((task) => task.id)).toEqual(ids);
      expect(sizes.length, path).toBeGreaterThan(1);
      expect(Math.max(...sizes), path).toBeLessThanOrEqual(MAX_ITEMS);
    }
    const patches = await allPages(
      `/v1/runs/${run.id}/blackboard/patches?limit=1000`,
      (body: NativeBody) => body.patches,
    );
    expect(patches.rows.map((patch) => patch.seq)).toEqual(numbers.map((index) => index + 1));
    expect(patches.sizes.length).toBeGreaterThan(1);
    expect(Math.max(...patches.sizes)).toBeLessThanOrEqual(MAX_ITEMS);
  });
});

describe("the key of a create call", () => {
  it("07 D43 is the same in the header and in the body", async () => {
    const [key, run_id] = [crypto.randomUUID(), freshId()];
    const create = (body: Record<string, unknown>, headers: Record<string, string>) =>
      call("POST", "/v1/runs", { objective: "o", run_id, ...body }, headers);
    const made = await create({}, { "idempotency-key": key });
    const again = await create({ command_id: key }, {});
    expect([made.status, again.status]).toEqual([201, 201]);
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(good(again, 201).run).toEqual(good(made, 201).run);
  });
});
