import { describe, expect, it } from "vitest";
import { call, everything, type RunRoutes, raw, runOf } from "../support.ts";
import { addNativeTasks, good, newNativeRun, problem } from "./support.ts";

/** A run with something of everything: events, notes, a leased task, a free one, a finished one, a blocked one. */
async function busyRun(): Promise<RunRoutes> {
  const run = await newNativeRun();
  await addNativeTasks(
    run,
    { id: "held" },
    { id: "free" },
    { id: "over", status: "done" },
    { id: "stuck", status: "blocked" },
  );
  good(await run.post("/tasks/claim", { agent_id: "me" }));
  good(
    await run.post("/blackboard/patches", { op: "add_fact", payload: { id: "f", ts_ms: 1, text: "t" } }),
    201,
  );
  good(await run.post("/events", { type: "note", status: "running" }), 201);
  good(await run.post("/lease/validate", { phase: "p", current_path: "/srv/ws" }));
  return run;
}

/** Bodies every route refuses: name, bytes, headers, status, code. */
const broken: [string, unknown, Record<string, string | null>, number, string][] = [
  ["without a content type", {}, { "content-type": null }, 415, "CONTENT_TYPE_UNSUPPORTED"],
  ["text/plain", {}, { "content-type": "text/plain" }, 415, "CONTENT_TYPE_UNSUPPORTED"],
  ["not JSON", raw("{a}"), {}, 400, "BODY_MALFORMED"],
  ["with trailing characters", raw("{}]"), {}, 400, "BODY_MALFORMED"],
  ["not UTF-8", new Uint8Array([0x7b, 0x22, 0xc3, 0x28, 0x22, 0x3a, 0x31, 0x7d]), {}, 400, "BODY_MALFORMED"],
  ["an array", raw("[]"), {}, 422, "BODY_INVALID"],
  ["a string", raw('"x"'), {}, 422, "BODY_INVALID"],
  ["with a repeated name", raw('{"zz":1,"zz":1}'), {}, 422, "BODY_INVALID"],
  ["with a repeated name deep inside", raw('{"zz":{"y":[{"a":1,"b":2,"a":3}]}}'), {}, 422, "BODY_INVALID"],
  ["with 2^53", raw('{"zz":9007199254740992}'), {}, 422, "BODY_INVALID"],
  ["with a lone surrogate", raw('{"zz":"\\udfff"}'), {}, 422, "BODY_INVALID"],
  ["65 levels deep", raw(`{"zz":${"[".repeat(64)}${"]".repeat(64)}}`), {}, 422, "BODY_INVALID"],
  ["100,000 levels deep", raw("[".repeat(100_000) + "]".repeat(100_000)), {}, 422, "BODY_INVALID"],
  ["over 2 MiB", raw(`{"zz":"${"x".repeat(2 * 1024 * 1024)}"}`), {}, 413, "BODY_TOO_LARGE"],
];

/** Every mutation with a body it would accept on the busy run, were it not for the extra field. */
const mutations: [string, Record<string, unknown>][] = [
  ["/events", { type: "note", status: "running" }],
  ["/todos/sync", { todos: [{ content: "c" }] }],
  ["/driver/next", {}],
  ["/lease/validate", { phase: "p", current_path: "/elsewhere" }],
  ["/blackboard/patches", { op: "set_rolling_summary", payload: "x" }],
  ["/tasks", { tasks: [{ task_type: "t" }] }],
  ["/tasks/claim", { agent_id: "me" }],
  ["/tasks/stuck/transition", { action: "retry" }],
  ["/checkpoints", { reason: "r" }],
];

const TOKEN = "lease-00000000-0000-4000-8000-000000000000";
/** Requests the engine refuses: sub-route, body, status, code. */
const refused: [string, Record<string, unknown>, number, string][] = [
  ["/events", { type: "context.task.x", status: "running" }, 422, "TASK_EVENT_APPEND_DISABLED"],
  ["/events", { type: "note", status: "nope" }, 422, "BODY_INVALID"],
  ["/events", { type: "note" }, 422, "BODY_INVALID"],
  ["/events", { type: "n", status: "running", payload: "x".repeat(300_000) }, 413, "LIMIT_EXCEEDED"],
  ["/todos/sync", {}, 422, "BODY_INVALID"],
  ["/todos/sync", { todos: [{ content: "c", colour: "red" }] }, 422, "BODY_INVALID"],
  ["/todos/sync", { todos: Array.from({ length: 1001 }, () => ({ content: "c" })) }, 413, "LIMIT_EXCEEDED"],
  ["/driver/next", { dry_run: 1 }, 422, "BODY_INVALID"],
  ["/lease/validate", { phase: "p" }, 422, "BODY_INVALID"],
  ["/blackboard/patches", { op: "add_task", payload: {} }, 422, "TASK_PATCH_OP_DISABLED"],
  ["/blackboard/patches", { op: "add_fact", payload: { id: "f" } }, 422, "PATCH_PAYLOAD_INVALID"],
  ["/blackboard/patches", { op: "nope", payload: {} }, 422, "BODY_INVALID"],
  ["/blackboard/patches", { op: "add_fact" }, 422, "BODY_INVALID"],
  ["/tasks", { tasks: [] }, 400, "FIELD_INVALID"],
  ["/tasks", { tasks: [{ task_type: "t" }, { task_type: "" }] }, 400, "FIELD_INVALID"],
  ["/tasks", { tasks: [{ task_type: "t", colour: "red" }] }, 422, "BODY_INVALID"],
  ["/tasks", { tasks: [{ task_type: "t" }, { task_type: "t", payload: [] }] }, 422, "TASK_CONTRACT_INVALID"],
  ["/tasks", { tasks: [{ task_type: "implementation" }] }, 422, "TASK_OUTPUT_TARGET_REQUIRED"],
  ["/tasks", { tasks: [{ task_type: "t", id: "free" }] }, 409, "TASK_EXISTS"],
  [
    "/tasks",
    { tasks: [{ task_type: "t", id: "z", depends_on_task_ids: ["z"] }] },
    422,
    "TASK_DEPENDENCY_CYCLE",
  ],
  ["/tasks", { tasks: [{ task_type: "t", id: "../x" }] }, 400, "ID_INVALID"],
  ["/tasks/claim", { agent_id: "" }, 400, "FIELD_INVALID"],
  ["/tasks/claim", { agent_id: "me", lease_ms: -1 }, 422, "BODY_INVALID"],
  ["/tasks/nobody/transition", { action: "retry" }, 404, "TASK_NOT_FOUND"],
  ["/tasks/held/transition", { action: "complete" }, 409, "TASK_LEASE_REQUIRED"],
  ["/tasks/held/transition", { action: "complete", lease_token: TOKEN }, 409, "TASK_LEASE_INVALID"],
  ["/tasks/held/transition", { action: "heartbeat", expected_task_rev: 1 }, 409, "TASK_REV_MISMATCH"],
  ["/tasks/over/transition", { action: "retry" }, 409, "TASK_TRANSITION_INVALID"],
  ["/tasks/over/transition", { action: "status", status: "runnable" }, 409, "TASK_TRANSITION_INVALID"],
  ["/tasks/stuck/transition", { action: "nope" }, 400, "FIELD_INVALID"],
  ["/tasks/stuck/transition", { action: "status" }, 400, "FIELD_INVALID"],
  ["/tasks/stuck/transition", { action: "status", status: "nope" }, 422, "BODY_INVALID"],
  ["/checkpoints", {}, 422, "BODY_INVALID"],
];

describe("refused requests leave no trace", () => {
  it.each(broken)("v1 body: every route refuses one %s", async (_name, body, headers, status, code) => {
    const run = await busyRun();
    const before = await everything(run);
    const answers = await Promise.all([
      call("POST", "/v1/runs", body, headers),
      run.put(body, headers),
      ...mutations.map(([sub]) => run.post(sub, body, headers)),
    ]);
    for (const answer of answers) problem(answer, status, code);
    expect(await everything(run)).toEqual(before);
  });

  it.each(mutations)("v1 body: %s refuses an unknown field and names it", async (sub, body) => {
    const run = await busyRun();
    const before = await everything(run);
    const { issues } = problem(await run.post(sub, { ...body, colour: "red" }), 422, "BODY_INVALID");
    expect(issues.map((issue) => issue.field)).toContain("colour");
    for (const issue of issues) {
      expect(issue).toMatchObject({ rule: expect.stringMatching(/./), message: expect.stringMatching(/./) });
    }
    expect(await everything(run)).toEqual(before);
  });

  it("v1 body: create and PUT refuse an unknown field", async () => {
    const create = await call("POST", "/v1/runs", { objective: "o", objectiv: "x" });
    expect(problem(create, 422, "BODY_INVALID").issues[0]?.field).toBe("objectiv");
    const run = await newNativeRun();
    problem(await run.put({ ...(await runOf(run)), colour: "red" }), 422, "BODY_INVALID");
    expect((await runOf(run)).revision).toBe(1);
  });

  it("v1 body: an unknown field deep inside is named by its path", async () => {
    const workspace = { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 0, colour: "red" };
    const create = await call("POST", "/v1/runs", { objective: "o", workspace });
    expect(problem(create, 422, "BODY_INVALID").issues.map((issue) => issue.field)).toEqual([
      "workspace.colour",
    ]);
    const run = await newNativeRun();
    const tasks = [{ task_type: "t" }, { task_type: "t", prioriti: 1 }];
    const rows = await run.post("/tasks", { tasks });
    expect(problem(rows, 422, "BODY_INVALID").issues.map((issue) => issue.field)).toEqual([
      "tasks[1].prioriti",
    ]);
  });

  for (const [sub, body, status, code] of refused) {
    it(`v1 refusal: ${sub} ${JSON.stringify(body).slice(0, 100)} is ${status} ${code}`, async () => {
      const run = await busyRun();
      const before = await everything(run);
      problem(await run.post(sub, body), status, code);
      expect(await everything(run)).toEqual(before);
    });
  }

  it("v1 refusal: PUT of another run, of an old revision, of a wrong shape", async () => {
    const run = await busyRun();
    const before = await everything(run);
    const body = await runOf(run);
    problem(await run.put({ ...body, run_id: "other" }), 400, "FIELD_INVALID");
    problem(await run.put(body, { "if-match": '"1"' }), 409, "RUN_REVISION_MISMATCH");
    problem(await run.put({ ...body, status: "nope" }), 422, "BODY_INVALID");
    expect(await everything(run)).toEqual(before);
  });

  it("v1 body: 64 levels and 2^53 - 1 are stored unchanged", async () => {
    const run = await newNativeRun();
    const payload = `${"[".repeat(63)}9007199254740991${"]".repeat(63)}`;
    const answer = await run.post("/events", raw(`{"type":"n","status":"running","payload":${payload}}`));
    expect(JSON.stringify(good(answer, 201).event.payload)).toBe(payload);
  });
});
