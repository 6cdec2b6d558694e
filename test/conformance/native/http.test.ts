import { describe, expect, it } from "vitest";
import { call, everything, freshId, newRun, routes } from "../support.ts";
import { good, newNativeRun, problem } from "./support.ts";

describe("routing at /v1", () => {
  const paths: [string, string[]][] = [
    ["/v1/runs", ["GET", "POST"]],
    ["/v1/runs/x", ["DELETE", "GET", "PUT"]],
    ["/v1/runs/x/events", ["GET", "POST"]],
    ["/v1/runs/x/todos/sync", ["POST"]],
    ["/v1/runs/x/driver/next", ["POST"]],
    ["/v1/runs/x/lease/validate", ["POST"]],
    ["/v1/runs/x/blackboard", ["GET"]],
    ["/v1/runs/x/blackboard/patches", ["GET", "POST"]],
    ["/v1/runs/x/tasks", ["GET", "POST"]],
    ["/v1/runs/x/tasks/t", ["GET"]],
    ["/v1/runs/x/tasks/t/transition", ["POST"]],
    ["/v1/runs/x/checkpoints", ["GET", "POST"]],
    ["/v1/runs/x/checkpoints/latest", ["GET"]],
    ["/v1/runs/x/checkpoints/c", ["GET"]],
    ["/v1/runs/x/replay", ["GET"]],
    ["/v1/runs/x/state", ["GET"]],
    ["/v1/runs/x/diff", ["GET"]],
    ["/v1/runs/x/fork", ["POST"]],
    ["/v1/runs/x/export", ["GET"]],
    ["/v1/runs/x/archive", ["POST"]],
    ["/v1/runs/x/restore", ["POST"]],
    ["/v1/retention", ["GET", "PUT"]],
  ];
  it.each(paths)("v1 methods: 405 and Allow on %s", async (path, allowed) => {
    for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE"].filter(
      (name) => !allowed.includes(name),
    )) {
      const answer = await call(method, path, method === "GET" ? undefined : {});
      problem(answer, 405, "METHOD_NOT_ALLOWED");
      const allow = (answer.headers.get("allow") ?? "").split(",").map((name) => name.trim());
      expect(allow.filter((name) => !["HEAD", "OPTIONS"].includes(name)).sort(), method).toEqual(allowed);
    }
  });

  it.each([
    "/v1/none",
    "/v1/runs/",
    "/v1/run",
    "/v1/runs/x/task",
    "/v1/runs/x/tasks/t/u",
    "/v1/runs/x/events/1",
  ])("v1 unknown path: %s is 404 ROUTE_NOT_FOUND", async (path) => {
    problem(await call("GET", path), 404, "ROUTE_NOT_FOUND");
  });

  it("v1 auth: 401 AUTH_REQUIRED without a token, before routing", async () => {
    for (const path of ["/v1/runs", "/v1/runs/x", "/v1/nothing"]) {
      problem(await call("GET", path, undefined, { "x-agent-token": null }), 401, "AUTH_REQUIRED");
      problem(await call("DELETE", path, undefined, { "x-agent-token": "wrong" }), 401, "AUTH_REQUIRED");
    }
  });

  it("v1 problems: type is a page of this deployment that names the code", async () => {
    const { type } = problem(await routes(freshId(), "/v1").get(), 404, "RUN_NOT_FOUND");
    const page = await call("GET", new URL(type).pathname);
    expect(page.status).toBe(200);
    expect(page.text).toContain("RUN_NOT_FOUND");
    expect((await call("GET", "/problems/NO_SUCH_CODE")).status).toBe(404);
  });

  const codes =
    `ROUTE_NOT_FOUND METHOD_NOT_ALLOWED ID_INVALID QUERY_INVALID CONTENT_TYPE_UNSUPPORTED BODY_MALFORMED
    BODY_INVALID BODY_TOO_LARGE LIMIT_EXCEEDED AUTH_REQUIRED SETUP_REQUIRED CURSOR_INVALID COMMAND_ID_CONFLICT
    RUN_NOT_FOUND TASK_NOT_FOUND CONTEXT_RUN_EXISTS RUN_REVISION_MISMATCH TASK_REV_MISMATCH TASK_LEASE_REQUIRED
    TASK_LEASE_INVALID TASK_TRANSITION_INVALID TASK_EXISTS TASK_DEPENDENCY_CYCLE TASK_CONTRACT_INVALID
    TASK_OUTPUT_TARGET_REQUIRED FIELD_INVALID WORKSPACE_MISMATCH TASK_EVENT_APPEND_DISABLED TASK_PATCH_OP_DISABLED
    PATCH_PAYLOAD_INVALID SEQ_UNKNOWN CHECKPOINT_NOT_FOUND CHECKPOINT_NAME_TAKEN`.split(/\s+/);
  it.each(codes)("v1 problems: GET /problems/%s", async (code) => {
    const page = await call("GET", `/problems/${code}`);
    expect(page.status).toBe(200);
    expect(page.text).toContain(code);
  });

  it("v1 problems: each has its own request_id and names the request", async () => {
    const run = routes(freshId(), "/v1");
    const [one, two] = [
      problem(await run.get(), 404, "RUN_NOT_FOUND"),
      problem(await run.get(), 404, "RUN_NOT_FOUND"),
    ];
    expect(one.request_id).not.toBe(two.request_id);
    expect(one.instance).toContain(run.id);
  });
});

describe("queries at /v1", () => {
  const lists = ["", "/events", "/blackboard/patches", "/tasks"];
  const bad = ["limit=", "limit=-1", "limit=1.5", "limit=x", "limit=1&limit=1"];
  it.each(bad)("v1 query: %s is 400 QUERY_INVALID on every list", async (query) => {
    const run = await newNativeRun();
    problem(await call("GET", `/v1/runs?${query}`), 400, "QUERY_INVALID");
    for (const sub of lists.slice(1)) problem(await run.get(`${sub}?${query}`), 400, "QUERY_INVALID");
  });

  it.each(["x", "%00", "AAAA", "eyJhIjoxfQ", "!!!!", "9".repeat(400)])(
    "v1 cursor: %s is 400 CURSOR_INVALID",
    async (cursor) => {
      const run = await newNativeRun();
      problem(await call("GET", `/v1/runs?cursor=${cursor}`), 400, "CURSOR_INVALID");
      for (const sub of lists.slice(1))
        problem(await run.get(`${sub}?cursor=${cursor}`), 400, "CURSOR_INVALID");
    },
  );

  const others: [string, string][] = [
    ["/events", "since_seq=x"],
    ["/events", "since_seq="],
    ["/events", "tail=-1"],
    ["/blackboard/patches", "since_seq=-1"],
    ["/blackboard/patches", "tail=1&tail=2"],
    ["/tasks", "status=Done"],
    ["/tasks", "status="],
    ["/replay", "upto_seq=x"],
    ["/replay", "from_checkpoint=yes"],
  ];
  it.each(others)("v1 query: %s?%s is 400 QUERY_INVALID", async (sub, query) => {
    problem(await (await newNativeRun()).get(`${sub}?${query}`), 400, "QUERY_INVALID");
  });

  it.each(["status=Queued", "workspace=relative"])(
    "v1 query: /v1/runs?%s is 400 QUERY_INVALID",
    async (query) => {
      problem(await call("GET", `/v1/runs?${query}`), 400, "QUERY_INVALID");
    },
  );
});

describe("ids at /v1", () => {
  const accepted = [".x", "...", "a:b._-Z9", "-", "_", "0"];
  it.each(accepted)("v1 ids: %j is a run id and a task id", async (start) => {
    const run_id = start + freshId("");
    good(await call("POST", "/v1/runs", { run_id, objective: "o" }), 201);
    const run = routes(run_id, "/v1");
    good(await run.post("/tasks", { tasks: [{ id: start, task_type: "t", status: "failed" }] }), 201);
    expect(good(await run.get(`/tasks/${encodeURIComponent(start)}`)).task.id).toBe(start);
    expect(good(await run.post(`/tasks/${start}/transition`, { action: "retry" })).task.status).toBe(
      "runnable",
    );
  });

  it("v1 ids: 200 characters are accepted", async () => {
    const run_id = freshId("x".repeat(163));
    expect(run_id).toHaveLength(200);
    good(await call("POST", "/v1/runs", { run_id, objective: "o" }), 201);
    expect(good(await routes(run_id, "/v1").get()).run.run_id).toBe(run_id);
  });

  const refused = ["", " ", ".", "..", "a/b", "a\\b", "a b", "é", "a\n", "x".repeat(201)];
  it.each(refused)("v1 ids: %j is 400 ID_INVALID", async (id) => {
    problem(await call("POST", "/v1/runs", { run_id: id, objective: "o" }), 400, "ID_INVALID");
    const run = await newRun();
    const before = await everything(run);
    if (id.trim() === id && id !== "") {
      problem(
        await routes(run.id, "/v1").post("/tasks", { tasks: [{ id, task_type: "t" }] }),
        400,
        "ID_INVALID",
      );
    }
    expect(await everything(run)).toEqual(before);
  });

  it.each(["a%2Fb", "%FF", "%00", "%", "a%20b", "x".repeat(201)])(
    "v1 ids: %s in the path is 400 ID_INVALID",
    async (id) => {
      problem(await call("GET", `/v1/runs/${id}`), 400, "ID_INVALID");
      problem(await (await newNativeRun()).get(`/tasks/${id}`), 400, "ID_INVALID");
    },
  );
});
