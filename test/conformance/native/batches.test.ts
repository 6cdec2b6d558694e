import { describe, expect, it } from "vitest";
import { everything, type RunRoutes } from "../support.ts";
import { addNativeTasks, good, type NativeBody, newNativeRun, problem } from "./support.ts";

interface Batched extends NativeBody {
  results: Record<string, unknown>[];
}

const CREATE = { op: "create_tasks", tasks: [{ id: "new", task_type: "custom" }] };
const NOTE = { op: "append_event", type: "note", status: "running" };

async function run(commands: unknown[], at: RunRoutes, rest: Record<string, unknown> = {}): Promise<Batched> {
  return good(await at.post("/commands", { commands, ...rest })) as Batched;
}

/** Sends a batch that must be refused, and proves that it has done nothing. */
async function refused(
  at: RunRoutes,
  commands: unknown,
  status: number,
  code: string,
  rest: Record<string, unknown> = {},
): Promise<NativeBody> {
  const before = await everything(at);
  const told = problem(await at.post("/commands", { commands, ...rest }), status, code);
  expect(await everything(at)).toEqual(before);
  return told;
}

/** A task that is held, with its token. */
async function held(at: RunRoutes, id: string): Promise<string> {
  await addNativeTasks(at, { id, task_type: `only-${id}` });
  return good(await at.post("/tasks/claim", { agent_id: "me", task_type: `only-${id}` })).lease.token;
}

describe("POST /v1/runs/{id}/commands", () => {
  it("v1 commands: each result has the members of its route's answer, in order, and the run's revision", async () => {
    const at = await newNativeRun();
    const lease_token = await held(at, "held");
    const { results, revision } = await run(
      [
        CREATE,
        { op: "claim", agent_id: "me", task_type: "custom" },
        { op: "claim", agent_id: "me", task_type: "none" },
        { op: "heartbeat", task_id: "held", lease_token },
        { op: "complete", task_id: "held", lease_token },
        NOTE,
        { op: "patch_blackboard", patch_op: "set_rolling_summary", payload: "so far" },
        { op: "sync_todos", todos: [{ content: "c" }] },
        { op: "select_next_step", dry_run: true },
      ],
      at,
    );
    expect(results).toMatchObject([
      { op: "create_tasks", tasks: [{ id: "new" }], deduped: [] },
      {
        op: "claim",
        task: { id: "new", status: "in_progress" },
        lease: { token: expect.stringMatching(/^lease-/) },
      },
      { op: "claim", task: null, lease: null },
      { op: "heartbeat", task: { id: "held" }, lease: { token: lease_token } },
      { op: "complete", task: { id: "held", status: "done" } },
      { op: "append_event", event: { type: "note" } },
      { op: "patch_blackboard", patch: { payload: "so far" } },
      { op: "sync_todos", event: { type: "todo_synced" } },
      { op: "select_next_step", dry_run: true },
    ]);
    expect(revision).toBe(good(await at.get()).run.revision);
  });

  it("v1 commands: the transitions of a task, each under its own name", async () => {
    const at = await newNativeRun();
    const tokens = {
      failed: await held(at, "failed"),
      given: await held(at, "given"),
      stuck: await held(at, "stuck"),
    };
    const { results } = await run(
      [
        { op: "fail", task_id: "failed", lease_token: tokens.failed, error: "broke" },
        { op: "retry", task_id: "failed" },
        { op: "release", task_id: "given", lease_token: tokens.given },
        { op: "status", task_id: "stuck", status: "blocked", lease_token: tokens.stuck },
      ],
      at,
    );
    expect(results.map(({ op, task }) => [op, (task as { status: string }).status])).toEqual([
      ["fail", "failed"],
      ["retry", "runnable"],
      ["release", "runnable"],
      ["status", "blocked"],
    ]);
  });

  it("v1 commands: later tasks may depend on those of earlier commands", async () => {
    const at = await newNativeRun();
    const dependent = { id: "then", task_type: "custom", depends_on_task_ids: ["new"] };
    await run([CREATE, { op: "create_tasks", tasks: [dependent] }], at);
    expect(good(await at.get("/tasks/then"))).toMatchObject({
      claimable: false,
      open_dependency_ids: ["new"],
    });
  });

  it("v1 commands: a refusal is that of the command, which it names; nothing is done", async () => {
    const at = await newNativeRun();
    const lease_token = await held(at, "held");
    const told = await refused(
      at,
      [NOTE, { op: "complete", task_id: "held", lease_token: "lease-wrong" }],
      409,
      "TASK_LEASE_INVALID",
    );
    expect(told).toMatchObject({
      command: 1,
      lease_owner: "me",
      issues: [{ field: "commands[1]", rule: "task_lease_invalid" }],
    });
    await run([NOTE, { op: "complete", task_id: "held", lease_token }], at);
  });

  it("v1 commands: the issues of a refusal name fields of its command", async () => {
    const at = await newNativeRun();
    await addNativeTasks(at, { id: "there" });
    const rows = { op: "create_tasks", tasks: [{ task_type: "t" }, { id: "there", task_type: "t" }] };
    expect(await refused(at, [NOTE, rows], 409, "TASK_EXISTS")).toMatchObject({
      command: 1,
      issues: [{ field: "commands[1].tasks[1]" }],
    });
    expect(await refused(at, [NOTE, { op: "claim", agent_id: " " }], 400, "FIELD_INVALID")).toMatchObject({
      command: 1,
      issues: [{ field: "commands[1].agent_id", rule: "non_blank" }],
    });
  });

  it.each([
    ["an unknown op", { op: "explode" }, "commands[1].op", "one_of"],
    ["no op", {}, "commands[1].op", "required"],
    ["no object", 5, "commands[1]", "object"],
    ["an unknown field", { ...NOTE, extra: 1 }, "commands[1].extra", "unknown_field"],
    ["a missing field", { op: "append_event", type: "n" }, "commands[1].status", "required"],
    ["a key of its own", { ...NOTE, command_id: "k" }, "commands[1].command_id", "unknown_field"],
    ["a wait", { op: "claim", agent_id: "a", wait_ms: 5 }, "commands[1].wait_ms", "unknown_field"],
    ["no task", { op: "complete" }, "commands[1].task_id", "required"],
    ["an action", { op: "complete", task_id: "t", action: "fail" }, "commands[1].action", "unknown_field"],
    ["a patch without its op", { op: "patch_blackboard", payload: 1 }, "commands[1].patch_op", "required"],
    [
      "a field deep within",
      { op: "create_tasks", tasks: [{ task_type: "t", priority: "high" }] },
      "commands[1].tasks[0].priority",
      "number",
    ],
  ])("v1 commands: %s is refused by the place of it", async (_title, command, field, rule) => {
    const told = await refused(await newNativeRun(), [NOTE, command], 422, "BODY_INVALID");
    expect(told.issues).toMatchObject([{ field, rule }]);
  });

  it("v1 commands: a malformed id of a task is told as such", async () => {
    const told = await refused(await newNativeRun(), [{ op: "complete", task_id: "a/b" }], 400, "ID_INVALID");
    expect(told.issues).toMatchObject([{ field: "commands[0].task_id", rule: "id" }]);
  });

  it("v1 commands: none, too many, too many tasks", async () => {
    const at = await newNativeRun();
    await refused(at, [], 400, "FIELD_INVALID");
    const many = Array.from({ length: 501 }, () => NOTE);
    expect(await refused(at, many, 413, "LIMIT_EXCEEDED")).toMatchObject({ limit: 500, actual: 501 });
    const half = { op: "create_tasks", tasks: Array.from({ length: 251 }, () => ({ task_type: "t" })) };
    expect(await refused(at, [half, half], 413, "LIMIT_EXCEEDED")).toMatchObject({ limit: 500, actual: 502 });
    await run(many.slice(1), at);
  });

  it("v1 commands: an expected revision that has passed is 409 with the present one", async () => {
    const at = await newNativeRun();
    const { revision } = await run([NOTE], at, { expected_revision: 1 });
    expect(await refused(at, [NOTE], 409, "RUN_REVISION_MISMATCH", { expected_revision: 1 })).toMatchObject({
      revision,
    });
  });

  it("v1 commands: a dry run answers and does nothing; its leases have no tokens", async () => {
    const at = await newNativeRun();
    const before = await everything(at);
    const commands = [CREATE, { op: "claim", agent_id: "me" }];
    const key = { "idempotency-key": "dry" };
    const dry = good(await at.post("/commands", { commands, dry_run: true }, key)) as Batched;
    expect(dry).toMatchObject({
      dry_run: true,
      results: [{}, { task: { id: "new" }, lease: { token: "" } }],
    });
    expect(await everything(at)).toEqual(before);
    const real = await run(commands, at);
    expect(real).toMatchObject({ results: [{}, { lease: { token: expect.stringMatching(/^lease-/) } }] });
    expect(real.dry_run).toBeUndefined();
    expect(real.revision).toBe(dry.revision);
  });

  it("v1 commands: a repeat is answered as the first time, with the same tokens; another body is refused", async () => {
    const at = await newNativeRun();
    const body = { commands: [CREATE, { op: "claim", agent_id: "me" }, { op: "claim", agent_id: "me" }] };
    const key = { "idempotency-key": "k" };
    const first = good(await at.post("/commands", body, key)) as Batched;
    await run([NOTE], at);
    const before = await everything(at);
    const again = await at.post("/commands", body, key);
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    const timeless = (of: Batched) =>
      JSON.stringify(of, (name, value: unknown) => (name === "expires_in_ms" ? "now" : value));
    expect(timeless(good(again) as Batched)).toBe(timeless(first));
    const other = { commands: [...body.commands, NOTE] };
    problem(await at.post("/commands", other, key), 422, "COMMAND_ID_CONFLICT");
    problem(await at.post("/events", { type: "n", status: "queued" }, key), 422, "COMMAND_ID_CONFLICT");
    expect(await everything(at)).toEqual(before);
  });

  it("v1 commands: tasks and runs are stopped in a batch as by their routes, and a repeat is answered the same", async () => {
    const at = await newNativeRun();
    const tasks = ["a", "b"].map((id) => ({ id, task_type: "t" }));
    await run([{ op: "create_tasks", tasks }], at);
    const commands = [
      { op: "change_dependencies", task_id: "b", add: ["a", "later"] },
      { op: "cancel_task", task_id: "a", reason: "not needed" },
      { op: "pause_run", grace_ms: 1_000 },
      { op: "claim", agent_id: "me" },
      { op: "resume_run" },
      { op: "cancel_run", reason: "over" },
    ];
    const key = { "idempotency-key": "stop" };
    const first = await at.post("/commands", { commands }, key);
    expect((good(first) as Batched).results).toMatchObject([
      { task: { depends_on_task_ids: ["a", "later"] }, unknown_dependency_ids: ["later"] },
      {
        task: { status: "failed", failure: { cause: "cancelled", reason: "not needed" } },
        revoke_at_ms: null,
      },
      { run_status: "paused" },
      { task: null, reason: "run_paused" },
      { run_status: "running" },
      { run_status: "cancelled" },
    ]);
    expect((await at.post("/commands", { commands }, key)).text).toBe(first.text);
  });

  it("v1 commands: the key of a batch and keys of rows do not go together", async () => {
    const at = await newNativeRun();
    const keyed = { op: "create_tasks", tasks: [{ task_type: "t", command_id: "row" }] };
    const key = { "idempotency-key": "k" };
    problem(await at.post("/commands", { commands: [NOTE, keyed] }, key), 400, "HEADER_INVALID");
    problem(await at.post("/commands", { commands: [NOTE, keyed], command_id: "k" }), 422, "BODY_INVALID");
    const { results } = await run([keyed, keyed], at);
    expect(results).toMatchObject([{ deduped: [] }, { tasks: [], deduped: ["row"] }]);
  });

  it("v1 commands: Prefer: return=representation adds run and blackboard", async () => {
    const at = await newNativeRun();
    const body = good(await at.post("/commands", { commands: [NOTE] }, { prefer: "return=representation" }));
    expect(body.run.revision).toBe(body.revision);
    expect(body.blackboard).toBeDefined();
  });
});
