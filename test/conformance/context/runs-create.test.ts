import { describe, expect, it } from "vitest";
import {
  call,
  eventsOf,
  freshId,
  generatedId,
  must,
  newRun,
  patchesOf,
  raw,
  routes,
  runOf,
} from "../support.ts";

const LOCAL = { org_id: "local", workspace_id: "local", source: "local_implicit" };
const WORKSPACE = { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 1 };

describe("POST /context/runs", () => {
  it("02§2.1 answers ok and the whole run, exactly", async () => {
    const id = freshId();
    const answer = await call("POST", "/context/runs", {
      run_id: id,
      objective: "Ship it",
      workspace: WORKSPACE,
      model_provider: "openai",
      mcp_servers: ["a"],
    });
    expect(answer.headers.get("content-type")).toMatch(/^application\/json/);
    const body = must(answer);
    expect(body).toEqual({
      ok: true,
      run: {
        run_id: id,
        run_type: "interactive",
        tenant_context: LOCAL,
        model_provider: "openai",
        mcp_servers: ["a"],
        status: "queued",
        objective: "Ship it",
        workspace: WORKSPACE,
        steps: [],
        tasks: [],
        why_next_step: null,
        revision: 1,
        last_event_seq: 0,
        created_at_ms: expect.any(Number),
        updated_at_ms: body.run.created_at_ms,
      },
    });
    expect(Math.abs(body.run.created_at_ms - Date.now())).toBeLessThan(60_000);
  });

  it("01§2 generates run-<uuid v4> when no id is given", async () => {
    const { run } = must(await call("POST", "/context/runs", { objective: "o" }));
    expect(run.run_id).toEqual(generatedId("run"));
    expect((await runOf(routes(run.run_id))).objective).toBe("o");
  });

  it("01§4.1 empty members: defaults are present, omit-able ones absent", async () => {
    const { run } = must(await call("POST", "/context/runs", { objective: "" }));
    expect(Object.keys(run).sort()).toEqual(
      "created_at_ms last_event_seq mcp_servers objective revision run_id run_type status steps tasks tenant_context updated_at_ms why_next_step workspace".split(
        " ",
      ),
    );
    expect(run).toMatchObject({
      objective: "",
      mcp_servers: [],
      workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
    });
  });

  const fields: [string, Record<string, unknown>, Record<string, unknown>][] = [
    ["objective verbatim", { objective: "  a\n b " }, { objective: "  a\n b " }],
    ["run_type verbatim", { run_type: " Session " }, { run_type: " Session " }],
    ["source_client trimmed", { source_client: " cli " }, { source_client: "cli" }],
    ["source_client blank → absent", { source_client: "  " }, { source_client: undefined }],
    ["source_client null → absent", { source_client: null }, { source_client: undefined }],
    ["model_provider trimmed", { model_provider: " p " }, { model_provider: "p" }],
    ["model_provider by its alias", { modelProvider: "p" }, { model_provider: "p" }],
    ["model_id blank → absent", { model_id: " " }, { model_id: undefined }],
    ["model_id by its alias", { modelId: " m " }, { model_id: "m" }],
    [
      "mcp_servers trimmed, blanks dropped, duplicates kept",
      { mcp_servers: [" a ", "", "  ", "b", "a"] },
      { mcp_servers: ["a", "b", "a"] },
    ],
    ["mcp_servers by its alias", { mcpServers: ["x"] }, { mcp_servers: ["x"] }],
    [
      "workspace stored as sent",
      { workspace: { workspace_id: " w ", canonical_path: " /p/ ", lease_epoch: 9 } },
      { workspace: { workspace_id: " w ", canonical_path: " /p/ ", lease_epoch: 9 } },
    ],
    ["run_type null → default", { run_type: null }, { run_type: "interactive" }],
    [
      "what creation cannot set is ignored",
      {
        status: "running",
        steps: [{ step_id: "s", title: "t", status: "done" }],
        tasks: [{}],
        revision: 7,
        last_event_seq: 9,
        created_at_ms: 1,
        started_at_ms: 1,
        tenant_context: { org_id: "x", workspace_id: "y", source: "explicit" },
      },
      { status: "queued", steps: [], tasks: [], revision: 1, last_event_seq: 0, tenant_context: LOCAL },
    ],
  ];
  it.each(fields)("02§2.1 %s", async (_name, sent, stored) => {
    const body = must(await call("POST", "/context/runs", { objective: "o", run_id: freshId(), ...sent }));
    const run: Record<string, unknown> = { ...body.run };
    for (const [name, value] of Object.entries(stored)) expect(run[name], name).toEqual(value);
    expect(run.started_at_ms).toBeUndefined();
    expect(run.created_at_ms).not.toBe(1);
    expect(await runOf(routes(body.run.run_id))).toEqual(body.run);
  });

  it("D98 CONTEXT_RUN_EXISTS is 200 with ok false and names the run; the stored run stays", async () => {
    const run = await newRun({ objective: "first" });
    const before = await runOf(run);
    expect(must(await call("POST", "/context/runs", { run_id: run.id, objective: "second" }))).toEqual({
      ok: false,
      code: "CONTEXT_RUN_EXISTS",
      error: "run already exists",
      run_id: run.id,
    });
    expect(await runOf(run)).toEqual(before);
  });

  it("D46 of 20 concurrent creates exactly one succeeds", async () => {
    const id = freshId();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => call("POST", "/context/runs", { run_id: id, objective: `o${n}` })),
    );
    const winners = answers.filter((answer) => must(answer).ok);
    expect(winners).toHaveLength(1);
    expect((await runOf(routes(id))).objective).toBe(winners[0]?.body.run.objective);
  });

  it("D72 creation is not a commit: no event, no patch", async () => {
    const run = await newRun();
    expect(await eventsOf(run)).toEqual([]);
    expect(await patchesOf(run)).toEqual([]);
  });

  it("D01 tenant headers choose the tenant of the root credential, and another tenant's run is not found", async () => {
    const headers = { "x-tandem-org-id": "acme", "x-tandem-workspace-id": "w2", "x-user-id": "eve" };
    const { run } = must(await call("POST", "/context/runs", { objective: "o" }, headers));
    expect(run.tenant_context).toEqual({
      org_id: "acme",
      workspace_id: "w2",
      actor_id: "eve",
      source: "explicit",
    });
    const path = `/context/runs/${run.run_id}`;
    expect(must(await call("GET", path, undefined, headers)).run).toEqual(run);
    for (const other of [{ "x-tandem-org-id": "other" }, { ...headers, "x-tandem-workspace-id": "w3" }]) {
      const answer = await call("GET", path, undefined, other);
      expect([answer.status, answer.body.code]).toEqual([404, "RUN_NOT_FOUND"]);
    }
  });

  it("01 §8 a run that was created with tenant headers is worked on without any", async () => {
    const { run } = must(
      await call("POST", "/context/runs", { objective: "o" }, { "x-tenant-org-id": freshId("org") }),
    );
    const away = routes(run.run_id as string);
    const event = { type: "planning_started", status: "planning", payload: {} };
    expect(must(await away.post("/events", event)).event).toMatchObject({ seq: 1 });
    expect(await eventsOf(away)).toHaveLength(1);
    const claimed = must(await away.post("/tasks/claim", { agent_id: "a" }));
    expect(claimed.task).toBeNull();
  });

  const good = ["automation-v2-x", "session-1", "a", ".a", "...", "A:b.c_d-e", "x".repeat(164)];
  it.each(good)("D03 accepts the id %j", async (id) => {
    // A suffix keeps the id free on any deployment.
    const run_id = id + freshId("").slice(0, 36);
    expect(must(await call("POST", "/context/runs", { run_id, objective: "o" })).run.run_id).toBe(run_id);
    expect((await runOf(routes(run_id))).run_id).toBe(run_id);
  });

  const bad = [
    "",
    " ",
    ".",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "a b",
    " a",
    "é",
    "a\u0000",
    "a%2F",
    "x".repeat(201),
  ];
  it.each(bad)("D03 refuses the id %j with 400 ID_INVALID", async (run_id) => {
    const answer = await call("POST", "/context/runs", { run_id, objective: "o" });
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: "ID_INVALID", error: expect.any(String) });
  });

  const wrong: [string, unknown][] = [
    ["no objective", {}],
    ["objective null", { objective: null }],
    ["objective a number", { objective: 1 }],
    ["not an object", ["objective"]],
    ["run_id a number", { objective: "o", run_id: 1 }],
    [
      "workspace without lease_epoch (D105)",
      { objective: "o", workspace: { workspace_id: "", canonical_path: "" } },
    ],
    [
      "workspace without canonical_path (D105)",
      { objective: "o", workspace: { workspace_id: "", lease_epoch: 0 } },
    ],
    ["lease_epoch negative", { objective: "o", workspace: { ...WORKSPACE, lease_epoch: -1 } }],
    ["lease_epoch fractional", { objective: "o", workspace: { ...WORKSPACE, lease_epoch: 1.5 } }],
    ["mcp_servers with a number", { objective: "o", mcp_servers: [1] }],
    ["a field and its alias together", { objective: "o", model_id: "a", modelId: "a" }],
    ["a repeated field", raw('{"objective":"o","objective":"o"}')],
  ];
  it.each(wrong)("02§1.3 wrong shape is 422: %s", async (_name, body) => {
    const answer = await call("POST", "/context/runs", body);
    expect(answer.status).toBe(422);
    expect(answer.body).toMatchObject({ code: "BODY_INVALID", error: expect.any(String) });
  });
});
