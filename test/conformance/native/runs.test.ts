import { describe, expect, it } from "vitest";
import { call, eventually, everything, freshId, generatedId, routes, runOf } from "../support.ts";
import { addNativeTasks, allPages, good, newNativeRun, problem } from "./support.ts";

const NO_TASKS = { pending: 0, runnable: 0, in_progress: 0, blocked: 0, done: 0, failed: 0, total: 0 };
const HASH: unknown = expect.stringMatching(/^[0-9a-f]{64}$/);

describe("POST /v1/runs", () => {
  it("v1 create: 201 {run} and Location, the same run at both doors", async () => {
    const run_id = freshId();
    const workspace = { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 1 };
    const answer = await call("POST", "/v1/runs", {
      run_id,
      objective: "o",
      workspace,
      source_client: " cli ",
    });
    const { run, ...rest } = good(answer, 201);
    expect(rest).toEqual({});
    expect(new URL(answer.headers.get("location") ?? "", "http://any").pathname).toBe(`/v1/runs/${run_id}`);
    expect(run).toMatchObject({
      run_id,
      objective: "o",
      workspace,
      source_client: "cli",
      status: "queued",
      revision: 1,
    });
    const { tasks: _tasks, ...stored } = await runOf(routes(run_id));
    expect(run).toEqual({ ...stored, task_counts: NO_TASKS, blackboard_revision: 0, log_hash: HASH });
  });

  it("v1 create: generates an id", async () => {
    const { run } = good(await call("POST", "/v1/runs", { objective: "" }), 201);
    expect(run.run_id).toEqual(generatedId("run"));
  });

  it("v1 create: an existing id is 409 CONTEXT_RUN_EXISTS", async () => {
    const run = await newNativeRun();
    const before = await everything(run);
    const refusal = problem(
      await call("POST", "/v1/runs", { run_id: run.id, objective: "x" }),
      409,
      "CONTEXT_RUN_EXISTS",
    );
    expect(refusal).toMatchObject({ run_id: run.id });
    expect(await everything(run)).toEqual(before);
  });

  it("v1 create: of 20 concurrent creates exactly one is 201", async () => {
    const run_id = freshId();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => call("POST", "/v1/runs", { run_id, objective: `o${n}` })),
    );
    expect(answers.map((answer) => answer.status).sort()).toEqual([201, ...Array(19).fill(409)]);
    const winner = answers.find((answer) => answer.status === 201);
    expect((await runOf(routes(run_id))).objective).toBe(winner?.body.run.objective);
  });
});

describe("GET /v1/runs/{id}", () => {
  it("v1 get: the run without tasks, with task_counts, blackboard_revision, log_hash and an ETag", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, {}, {}, { status: "done" }, { status: "blocked" });
    good(await run.post("/tasks/claim", { agent_id: "a" }));
    const answer = await run.get();
    const { run: seen, ...rest } = good(answer);
    expect(rest).toEqual({ audit: expect.any(Object) });
    const { tasks: _tasks, ...stored } = await runOf(run);
    expect(seen).toEqual({
      ...stored,
      task_counts: { ...NO_TASKS, pending: 1, in_progress: 1, done: 1, blocked: 1, total: 4 },
      blackboard_revision: 5,
      log_hash: HASH,
    });
    expect(answer.headers.get("etag")).toBe('"6"');
  });

  it("v1 get: 404 RUN_NOT_FOUND", async () => {
    problem(await routes(freshId(), "/v1").get(), 404, "RUN_NOT_FOUND");
  });
});

describe("PUT /v1/runs/{id}", () => {
  it("v1 put: answers {event} and the new ETag", async () => {
    const run = await newNativeRun();
    const answer = await run.put({ ...(await runOf(run)), objective: "new", status: "paused" });
    const { event, ...rest } = good(answer);
    expect(rest).toEqual({});
    expect(event).toMatchObject({ seq: 1, type: "context.run.replaced", status: "paused", revision: 2 });
    expect(answer.headers.get("etag")).toBe('"2"');
    expect(await runOf(run)).toMatchObject({
      objective: "new",
      status: "paused",
      revision: 2,
      last_event_seq: 1,
    });
  });

  it("v1 put: If-Match passes on the current revision, is 409 RUN_REVISION_MISMATCH on another", async () => {
    const run = await newNativeRun();
    const etag = (await run.get()).headers.get("etag");
    const body = await runOf(run);
    good(await run.put({ ...body, objective: "a" }, { "if-match": etag }));
    const before = await everything(run);
    const stale = await run.put({ ...body, objective: "b" }, { "if-match": etag });
    expect(problem(stale, 409, "RUN_REVISION_MISMATCH").revision).toBe(2);
    expect(await everything(run)).toEqual(before);
    good(await run.put({ ...body, objective: "c" }));
  });

  it("v1 put: of 10 concurrent replacements of one revision exactly one passes", async () => {
    const run = await newNativeRun();
    const body = await runOf(run);
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, n) => run.put({ ...body, objective: `o${n}` }, { "if-match": '"1"' })),
    );
    expect(answers.map((answer) => answer.status).sort()).toEqual([200, ...Array(9).fill(409)]);
    expect((await runOf(run)).revision).toBe(2);
  });

  it("v1 put: If-Match: * passes", async () => {
    const run = await newNativeRun();
    good(await run.put(await runOf(run), { "if-match": "*" }));
  });

  it("v1 put: another run_id in the body is 400 FIELD_INVALID", async () => {
    const run = await newNativeRun();
    const answer = await run.put({ ...(await runOf(run)), run_id: freshId() });
    expect(problem(answer, 400, "FIELD_INVALID").issues).toMatchObject([{ field: "run_id" }]);
  });

  it("v1 put: 404 RUN_NOT_FOUND", async () => {
    const body = await runOf(await newNativeRun());
    const id = freshId();
    problem(await routes(id, "/v1").put({ ...body, run_id: id }), 404, "RUN_NOT_FOUND");
  });
});

describe("GET /v1/runs", () => {
  /** A workspace of its own with runs in it, oldest first. */
  async function runsIn(
    count: number,
    fields: Record<string, unknown> = {},
  ): Promise<{ path: string; ids: string[] }> {
    const path = `/srv/${freshId("ws")}`;
    const ids: string[] = [];
    for (let n = 0; n < count; n++) {
      const workspace = { workspace_id: "w", canonical_path: path, lease_epoch: 0 };
      ids.push((await newNativeRun({ workspace, ...fields })).id);
    }
    return { path, ids };
  }

  it("v1 list: exact RunSummary", async () => {
    const { path, ids } = await runsIn(1, { source_client: "cli" });
    const body = good(await call("GET", `/v1/runs?workspace=${path}`));
    const stored = await runOf(routes(ids[0] ?? ""));
    expect(body).toEqual({
      runs: [
        {
          run_id: ids[0],
          run_type: "interactive",
          status: "queued",
          objective: "o",
          source_client: "cli",
          workspace: stored.workspace,
          revision: 1,
          last_event_seq: 0,
          created_at_ms: stored.created_at_ms,
          updated_at_ms: stored.updated_at_ms,
          task_counts: NO_TASKS,
          archived_at_ms: null,
        },
      ],
      next_cursor: null,
      next: null,
    });
  });

  it.each([1, 2, 3, 5, 100])(
    "v1 list: pages of %i show every run once, latest update first",
    async (limit) => {
      const { path, ids } = await runsIn(5);
      const { rows, sizes } = await allPages(
        `/v1/runs?workspace=${path}&limit=${limit}`,
        (body) => body.runs,
      );
      expect(rows.map((run) => run.run_id).sort()).toEqual([...ids].sort());
      const times = rows.map((run) => run.updated_at_ms);
      expect(times).toEqual([...times].sort((a, b) => b - a));
      expect(Math.max(...sizes)).toBe(Math.min(limit, 5));
      expect(sizes.length).toBeLessThanOrEqual(Math.ceil(5 / limit) + 1);
    },
  );

  it.concurrent("v1 list: follows counts, status and order within seconds", async ({ expect }) => {
    const { path, ids } = await runsIn(2);
    const run = routes(ids[0] ?? "", "/v1");
    await addNativeTasks(run, {});
    good(await run.post("/events", { type: "note", status: "running" }), 201);
    const [first] = await eventually(async () => {
      const { runs } = good(await call("GET", `/v1/runs?workspace=${path}`));
      return (runs[0]?.last_event_seq ?? 0) === 2 ? runs : undefined;
    }, 10_000);
    expect(first).toMatchObject({ run_id: run.id, status: "running", task_counts: { pending: 1, total: 1 } });
    for (const [status, found] of [
      ["running", ids.slice(0, 1)],
      ["queued", ids.slice(1)],
      ["failed", []],
    ] as const) {
      const { runs } = good(await call("GET", `/v1/runs?workspace=${path}&status=${status}`));
      expect(
        runs.map((row) => row.run_id),
        status,
      ).toEqual(found);
    }
  });

  const filters: [string, number][] = [
    ["run_type=batch", 1],
    ["run_type=other", 0],
    ["source=cli", 1],
    ["source=other", 0],
    ["status=queued", 1],
    ["status=running", 0],
    ["run_type=batch&source=cli&status=queued", 1],
  ];
  it.each(filters)("v1 list: the filter %s finds %i", async (query, count) => {
    const { path } = await runsIn(1, { run_type: "batch", source_client: "cli" });
    expect(good(await call("GET", `/v1/runs?workspace=${path}&${query}`)).runs).toHaveLength(count);
  });
});
