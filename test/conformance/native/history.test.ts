import { describe, expect, it } from "vitest";
import { type Answer, everything, freshId, generatedId, type RunRoutes, routes, runOf } from "../support.ts";
import { addNativeTasks, allPages, good as goodBody, newNativeRun, problem } from "./support.ts";

const SHA256 = expect.stringMatching(/^[0-9a-f]{64}$/);

/** Members that only these routes have. */
interface HistoryBody {
  run: Record<string, unknown>;
  checkpoint: Record<string, unknown>;
  state_sha256: string;
  from: unknown;
  to: unknown;
  diff: unknown;
}

const good = (answer: Answer, status = 200) => goodBody(answer, status) as unknown as HistoryBody;

/** A run with a task, a fact, and an event that fails it: three commits. */
async function threeCommits(): Promise<RunRoutes> {
  const run = await newNativeRun();
  await addNativeTasks(run, { id: "t" });
  const fact = { id: "f", ts_ms: 1, text: "x" };
  good(await run.post("/blackboard/patches", { op: "add_fact", payload: fact }), 201);
  good(await run.post("/events", { type: "run_failed", status: "failed" }), 201);
  return run;
}

describe("/v1/runs/{id}/state", () => {
  it("v1 state: the run with its tasks, its blackboard and files, as they were at a seq", async () => {
    const run = await threeCommits();
    const { run: now, blackboard } = await everything(run);
    const { tasks: _tasks, ...board } = blackboard as Record<string, unknown>;
    const place = { checkpoint_seq: null, state_sha256: SHA256 };
    expect(good(await run.get("/state"))).toEqual({
      run: now,
      blackboard: board,
      files: [],
      at_seq: 3,
      commits_applied: 3,
      ...place,
    });
    expect(good(await run.get("/state?at_seq=1"))).toMatchObject({
      run: { status: "queued", revision: 2, tasks: [{ id: "t" }] },
      blackboard: { facts: [], revision: 1 },
      at_seq: 1,
      commits_applied: 1,
      ...place,
    });
  });

  it("v1 state: begins at the nearest checkpoint, and tells the same", async () => {
    const run = await threeCommits();
    const before = good(await run.get("/state?at_seq=3"));
    good(await run.post("/checkpoints", { reason: "r" }), 201);
    expect(good(await run.get("/state?at_seq=3"))).toEqual({
      ...before,
      checkpoint_seq: 3,
      commits_applied: 0,
    });
    const { checkpoint } = good(await run.get("/checkpoints/3"));
    expect(checkpoint).toMatchObject({ state_sha256: before.state_sha256 });
  });

  it("v1 state: no such seq is 404 SEQ_UNKNOWN, none at all 400 QUERY_INVALID", async () => {
    const run = await threeCommits();
    const unknown = problem(await run.get("/state?at_seq=4"), 404, "SEQ_UNKNOWN");
    expect(unknown).toMatchObject({ seq: 4, last_event_seq: 3 });
    problem(await run.get("/state?at_seq=four"), 400, "QUERY_INVALID");
  });
});

describe("/v1/runs/{id}/diff", () => {
  it("v1 diff: what changed, forwards and back", async () => {
    const run = await threeCommits();
    const forwards = good(await run.get("/diff?from=1&to=3"));
    expect(forwards).toMatchObject({
      from: { seq: 1, state_sha256: SHA256 },
      to: { seq: 3, state_sha256: SHA256 },
      diff: {
        run: { status: { before: "queued", after: "failed" }, ended_at_ms: { after: expect.any(Number) } },
        steps: null,
        tasks: { added: [], removed: [], changed: [], order: null },
        facts: { removed: [], added: [{ id: "f" }] },
        files: { added: [], removed: [], changed: [] },
        summaries: {},
        blackboard_revision: { before: 1, after: 2 },
      },
    });
    const back = good(await run.get("/diff?from=3&to=1"));
    expect(back).toMatchObject({ from: forwards.to, to: forwards.from });
    expect(back.diff).toMatchObject({ facts: { removed: [{ id: "f" }], added: [] } });
    const same = good(await run.get("/diff?from=2&to=2"));
    expect(same.diff).toMatchObject({ run: {}, blackboard_revision: null });
  });

  it("v1 diff: both seqs must be given, and be there", async () => {
    const run = await threeCommits();
    problem(await run.get("/diff?from=1"), 400, "QUERY_INVALID");
    problem(await run.get("/diff?to=1"), 400, "QUERY_INVALID");
    problem(await run.get("/diff?from=1&to=9"), 404, "SEQ_UNKNOWN");
    problem(await run.get("/diff?from=9&to=1"), 404, "SEQ_UNKNOWN");
  });
});

describe("/v1/runs/{id}/fork", () => {
  it("v1 fork: 201 with a run of its own that says where it comes from", async () => {
    const run = await threeCommits();
    const before = await everything(run);
    const run_id = freshId();
    const answer = await run.post("/fork", { at_seq: 2, run_id, objective: "again" });
    expect(answer.headers.get("location")).toBe(`/v1/runs/${run_id}`);
    const fork = good(answer, 201).run;
    expect(fork).toMatchObject({
      run_id,
      objective: "again",
      status: "queued",
      revision: 1,
      last_event_seq: 0,
      forked_from: { run_id: run.id, seq: 2, state_sha256: SHA256 },
    });
    const forkRoutes = routes(run_id, "/v1");
    expect(await runOf(forkRoutes)).toMatchObject({ tasks: [{ id: "t", status: "pending" }] });
    good(await forkRoutes.post("/tasks/claim", { agent_id: "a" }));
    expect(good(await forkRoutes.get("/replay"))).toMatchObject({
      events_applied: 1,
      drift: { mismatch: false },
    });
    expect(await everything(run)).toEqual(before);
  });

  it("v1 fork: without an id it gets one; under a key always the same", async () => {
    const run = await threeCommits();
    const key = { "idempotency-key": freshId() };
    const first = await run.post("/fork", {}, key);
    const fork = good(first, 201).run;
    expect(fork).toMatchObject({ run_id: generatedId("run"), forked_from: { seq: 3 } });
    const again = await run.post("/fork", {}, key);
    expect(good(again, 201)).toEqual(good(first, 201));
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    problem(await run.post("/fork", { at_seq: 1 }, key), 422, "COMMAND_ID_CONFLICT");
  });

  it("v1 fork: refusals", async () => {
    const run = await threeCommits();
    problem(await run.post("/fork", { at_seq: 4 }), 404, "SEQ_UNKNOWN");
    problem(await run.post("/fork", { run_id: run.id }), 409, "CONTEXT_RUN_EXISTS");
    problem(await run.post("/fork", { run_id: "not an id" }), 400, "ID_INVALID");
    problem(await run.post("/fork", { unknown: 1 }), 422, "BODY_INVALID");
  });

  it("v1 fork: a forked run on /context is a run like any other, and can be put back", async () => {
    const run = await threeCommits();
    const fork = good(await run.post("/fork", {}), 201).run;
    const there = routes(String(fork.run_id), "/context");
    const whole = await runOf(there);
    expect(whole).toMatchObject({ run_id: fork.run_id, tasks: [{ id: "t" }] });
    expect((await there.put(whole)).status).toBe(200);
    expect(good(await routes(String(fork.run_id), "/v1").get("")).run).toMatchObject({
      forked_from: { run_id: run.id },
    });
  });
});

describe("/v1/runs/{id}/checkpoints", () => {
  it("v1 checkpoints: named, listed newest first, found by id, name and seq", async () => {
    const run = await newNativeRun();
    const heads: unknown[] = [];
    for (const name of ["one", undefined, "three"]) {
      good(await run.post("/events", { type: "note", status: "running" }), 201);
      heads.unshift(good(await run.post("/checkpoints", { reason: "r", name }), 201).checkpoint);
    }
    const { rows, sizes } = await allPages(
      `/v1/runs/${run.id}/checkpoints?limit=2`,
      (body) => (body as unknown as { checkpoints: unknown[] }).checkpoints,
    );
    expect(rows).toEqual(heads);
    expect(sizes).toEqual([2, 1]);
    expect(good(await run.get("/checkpoints/one")).checkpoint).toEqual(heads[2]);
    expect(good(await run.get("/checkpoints/2")).checkpoint).toEqual(heads[1]);
    const { checkpoint_id: id } = heads[0] as { checkpoint_id: string };
    expect(good(await run.get(`/checkpoints/${id}`)).checkpoint).toEqual(heads[0]);
    const taken = problem(
      await run.post("/checkpoints", { reason: "", name: "one" }),
      409,
      "CHECKPOINT_NAME_TAKEN",
    );
    expect(taken).toMatchObject({ name: "one", seq: 1 });
    problem(await run.get("/checkpoints/none"), 404, "CHECKPOINT_NOT_FOUND");
    problem(await run.get("/checkpoints/%20"), 400, "ID_INVALID");
    problem(await run.post("/checkpoints", { reason: "", name: "17" }), 422, "BODY_INVALID");
  });
});

describe("a run that is not there", () => {
  it.each(["/state", "/diff?from=0&to=0", "/checkpoints", "/checkpoints/1"])("v1 %s: 404", async (path) => {
    problem(await routes(freshId(), "/v1").get(path), 404, "RUN_NOT_FOUND");
  });

  it("v1 fork: 404", async () => {
    problem(await routes(freshId(), "/v1").post("/fork", {}), 404, "RUN_NOT_FOUND");
  });
});
