import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  claim,
  eventsOf,
  everything,
  FINGERPRINT,
  freshId,
  lastEvent,
  must,
  newRun,
  patchesOf,
  routes,
  runOf,
  TERMINAL,
  taskOf,
} from "../support.ts";

const STEPS = [
  { step_id: "s1", title: "One", status: "done" },
  { step_id: "s2", title: "Two", status: "pending" },
];

describe("GET /context/runs/{run_id}", () => {
  it("02§2.3 answers the run without ok", async () => {
    const run = await newRun({ objective: "x" });
    const body = must(await run.get());
    expect(body).not.toHaveProperty("ok");
    expect(body.run).toMatchObject({ run_id: run.id, objective: "x", revision: 1, last_event_seq: 0 });
  });

  it("02§2.3 404 for an unknown run", async () => {
    const answer = await routes(freshId()).get();
    expect(answer.status).toBe(404);
    expect(answer.body).toMatchObject({ code: "RUN_NOT_FOUND", error: expect.any(String) });
  });
});

describe("PUT /context/runs/{run_id}", () => {
  it("02§2.4 replaces the run and stamps only revision, last_event_seq and updated_at_ms", async () => {
    const run = await newRun({ objective: "x", source_client: "cli" });
    const before = await runOf(run);
    const sent = {
      ...before,
      run_type: "other",
      status: "running",
      objective: "new",
      steps: STEPS,
      why_next_step: "because",
      revision: 77,
      last_event_seq: 99,
      updated_at_ms: 1,
      created_at_ms: 5,
      started_at_ms: 6,
      last_error: "e",
      mcp_servers: ["m"],
      model_provider: "p",
      model_id: "m",
      workspace: { workspace_id: "w", canonical_path: "/p", lease_epoch: 3 },
    };
    const body = must(await run.put(sent));
    const event = await lastEvent(run);
    expect(body).toEqual({
      ok: true,
      run: { ...sent, revision: 2, last_event_seq: 1, updated_at_ms: event.ts_ms },
    });
    expect(await runOf(run)).toEqual(body.run);
    expect(await patchesOf(run)).toEqual([]);
  });

  it("02§2.4 writes context.run.replaced with the declared status and the body as payload", async () => {
    const run = await newRun();
    const sent = { ...(await runOf(run)), status: "paused", steps: STEPS };
    must(await run.put(sent));
    expect(await eventsOf(run)).toEqual([
      {
        event_id: expect.stringMatching(/^evt-/),
        run_id: run.id,
        seq: 1,
        ts_ms: expect.any(Number),
        type: "context.run.replaced",
        status: "paused",
        run_status: "paused",
        revision: 2,
        payload: { run: sent },
      },
    ]);
  });

  it("02§2.4 what the body leaves out gets its default", async () => {
    const run = await newRun({ source_client: "cli", mcp_servers: ["m"] });
    await arrange(run, { steps: STEPS, why_next_step: "w", last_error: "e", started_at_ms: 4 });
    const { run: stored } = must(
      await run.put({
        run_id: run.id,
        run_type: "t",
        status: "queued",
        objective: "o",
        workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
        revision: 1,
        created_at_ms: 3,
        updated_at_ms: 3,
      }),
    );
    expect(stored).toEqual({
      run_id: run.id,
      run_type: "t",
      tenant_context: { org_id: "local", workspace_id: "local", source: "local_implicit" },
      mcp_servers: [],
      status: "queued",
      objective: "o",
      workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
      steps: [],
      tasks: [],
      why_next_step: null,
      revision: 3,
      last_event_seq: 2,
      created_at_ms: 3,
      updated_at_ms: expect.any(Number),
    });
  });

  it("02§9.1 a PUT body may carry source_metadata", async () => {
    const run = await newRun();
    const meta = { channel: "x", n: [1] };
    expect(await arrange(run, { source_metadata: meta })).toMatchObject({ source_metadata: meta });
    expect(await runOf(run)).toMatchObject({ source_metadata: meta });
  });

  it("I19 a PUT cannot change tenant_context", async () => {
    const run = await newRun();
    const before = await runOf(run);
    const tenant_context = { org_id: "evil", workspace_id: "evil", source: "explicit" };
    expect((await arrange(run, { tenant_context })).tenant_context).toEqual(before.tenant_context);
    expect((await runOf(run)).tenant_context).toEqual(before.tenant_context);
  });

  it("D17 without If-Match the last writer wins; its stale revision is ignored", async () => {
    const run = await newRun();
    const stale = await runOf(run);
    must(await run.put({ ...stale, objective: "a" }));
    expect(must(await run.put({ ...stale, objective: "b" })).run).toMatchObject({
      objective: "b",
      revision: 3,
    });
  });

  it("D17 If-Match with the current revision passes, a stale one is 409 RUN_REVISION_MISMATCH", async () => {
    const run = await newRun();
    const body = await runOf(run);
    must(await run.put({ ...body, objective: "a" }, { "if-match": '"1"' }));
    const before = await everything(run);
    const answer = await run.put({ ...body, objective: "b" }, { "if-match": '"1"' });
    expect(answer.status).toBe(409);
    expect(answer.body).toMatchObject({ code: "RUN_REVISION_MISMATCH", error: expect.any(String) });
    expect(await everything(run)).toEqual(before);
  });

  it.each(TERMINAL)("D66 PUT to %s sets ended_at_ms; leaving it clears it", async (status) => {
    const run = await newRun();
    const ended = await arrange(run, { status });
    expect(ended.ended_at_ms).toBe((await lastEvent(run)).ts_ms);
    expect((await arrange(run, { status: "running" })).ended_at_ms).toBeUndefined();
  });

  it("02§2.4 tasks are whatever the body says", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a" }, { id: "b" });
    const [a, b] = (await runOf(run)).tasks;
    const stored = await arrange(run, { tasks: [{ ...b, priority: 9 }, a] });
    expect(stored.tasks).toEqual([{ ...b, priority: 9 }, a]);
    expect(await runOf(run)).toEqual(stored);
    expect((await arrange(run, { tasks: [] })).tasks).toEqual([]);
  });

  it("04§1 a task in a PUT needs only its five required members", async () => {
    const run = await newRun();
    const task = { id: "a", task_type: "x", status: "pending", created_ts: 1, updated_ts: 2 };
    const stored = await arrange(run, { tasks: [task] });
    expect(stored.tasks).toEqual([
      {
        ...task,
        payload: null,
        depends_on_task_ids: [],
        decision_ids: [],
        artifact_ids: [],
        priority: 0,
        attempt: 0,
        max_attempts: expect.any(Number),
        task_rev: 0,
      },
    ]);
  });

  it("D05 read, change, PUT: the log shows fingerprints and the holder's token still works", async () => {
    const run = await newRun();
    await addTasks(run, { id: "a" });
    const { lease_token } = await claim(run);
    must(await run.put({ ...(await runOf(run)), objective: "changed" }));
    expect((await taskOf(run, "a")).lease_token).toMatch(FINGERPRINT);
    expect((await lastEvent(run)).payload).toMatchObject({
      run: { tasks: [{ id: "a", lease_owner: "agent-1", lease_token: expect.stringMatching(FINGERPRINT) }] },
    });
    expect(JSON.stringify(await eventsOf(run))).not.toContain(lease_token);
    const done = must(await run.post("/tasks/a/transition", { action: "complete", lease_token }));
    expect(done).toMatchObject({ ok: true, task: { status: "done" } });
  });

  it("02§2.4 body run_id unlike the path is 400 and changes nothing", async () => {
    const run = await newRun();
    const before = await everything(run);
    const answer = await run.put({ ...(await runOf(run)), run_id: freshId() });
    expect(answer.status).toBe(400);
    expect(answer.body.code).toEqual(expect.any(String));
    expect(await everything(run)).toEqual(before);
  });

  it("02§2.4 404 for an unknown run", async () => {
    const body = await runOf(await newRun());
    const id = freshId();
    expect((await routes(id).put({ ...body, run_id: id })).status).toBe(404);
  });

  const wrong: [string, Record<string, unknown>][] = [
    ["run_id missing", { run_id: undefined }],
    ["run_type missing", { run_type: undefined }],
    ["status missing", { status: undefined }],
    ["status unknown", { status: "Queued" }],
    ["objective missing", { objective: undefined }],
    ["workspace missing", { workspace: undefined }],
    ["workspace partial", { workspace: { workspace_id: "" } }],
    ["revision missing", { revision: undefined }],
    ["revision negative", { revision: -1 }],
    ["created_at_ms missing", { created_at_ms: undefined }],
    ["created_at_ms fractional", { created_at_ms: 1.5 }],
    ["updated_at_ms missing", { updated_at_ms: undefined }],
    ["steps null", { steps: null }],
    ["tasks null", { tasks: null }],
    ["mcp_servers null", { mcp_servers: null }],
    ["a step without title", { steps: [{ step_id: "s", status: "done" }] }],
    ["a step of unknown status", { steps: [{ step_id: "s", title: "t", status: "working" }] }],
    ["a task without task_type", { tasks: [{ id: "a", status: "done", created_ts: 1, updated_ts: 1 }] }],
    [
      "a task of unknown status",
      { tasks: [{ id: "a", task_type: "t", status: "x", created_ts: 1, updated_ts: 1 }] },
    ],
  ];
  it.each(wrong)("02§2.4 wrong shape is 422 and changes nothing: %s", async (_name, fields) => {
    const run = await newRun();
    const before = await everything(run);
    expect((await run.put({ ...(await runOf(run)), ...fields })).status).toBe(422);
    expect(await everything(run)).toEqual(before);
  });
});
