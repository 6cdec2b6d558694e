import { describe, expect, it } from "vitest";
import type { Body } from "../support.ts";
import { call, eventsOf, freshId, type RunRoutes, raw, routes, runOf, taskOf } from "../support.ts";
import { addNativeTasks, good, newNativeRun, problem } from "./support.ts";

/** No wait at all: what is tried again is claimable at once. */
const AT_ONCE = { base_ms: 0, non_retryable: ["BAD_INPUT"] };

interface Claim {
  task: Body["task"];
  lease: { token: string; expires_at_ms: number };
  handover: Record<string, unknown> | null;
}

async function claimNext(run: RunRoutes, agent_id = "ann"): Promise<Claim> {
  const body = good(await run.post("/tasks/claim", { agent_id })) as unknown as Claim;
  expect(body.task).not.toBeNull();
  return body;
}

const transition = (run: RunRoutes, { task, lease }: Claim, body: object, headers = {}) =>
  run.post(`/tasks/${task.id}/transition`, { lease_token: lease.token, ...body }, headers);

/** A run with these dead letters, each by its error code. */
async function runWithLetters(codes: Record<string, string>): Promise<RunRoutes> {
  const run = await newNativeRun();
  for (const [id, error_code] of Object.entries(codes)) {
    await addNativeTasks(run, { id, max_attempts: 1 });
    good(await transition(run, await claimNext(run), { action: "fail", error: `no ${id}`, error_code }));
  }
  return run;
}

const idsOf = (body: unknown) => (body as { tasks: { id: string }[] }).tasks.map(({ id }) => id);

describe("work that fails", () => {
  it("claims: comes back until its attempts are used up, then it is a dead letter with its history", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t", retry: AT_ONCE, max_attempts: 2 });
    const first = await claimNext(run);
    expect(first.handover).toBeNull();
    good(await transition(run, first, { action: "heartbeat", progress: { percent: 50, note: "half" } }));
    const failed = good(await transition(run, first, { action: "fail", error: "boom", error_code: "E" }));
    expect(failed.task).toMatchObject({ status: "runnable", attempt: 1, last_error: "boom" });

    const second = await claimNext(run, "bob");
    const progress = { percent: 50, note: "half", at_ms: expect.any(Number) };
    expect(second.handover).toEqual({
      attempt: 1,
      last_progress: progress,
      previous_attempts: [
        {
          fence: 2,
          agent_id: "ann",
          claimed_at_ms: expect.any(Number),
          ended_at_ms: expect.any(Number),
          outcome: "failed",
          error: "boom",
          error_code: "E",
          progress,
        },
      ],
    });
    expect(good(await transition(run, second, { action: "fail", error: "again" })).task).toMatchObject({
      status: "failed",
      dead_letter: true,
      failure: { cause: "attempts_exhausted", at_ms: expect.any(Number) },
      attempts: [{ agent_id: "ann" }, { agent_id: "bob", error: "again" }],
    });
    expect((await eventsOf(run)).map(({ type }) => type).slice(-2)).toEqual([
      "context.task.claimed",
      "context.task.failed",
    ]);
  });

  it("claims: a failure says by flag or by code that it is final", async () => {
    for (const said of [{ retryable: false }, { error_code: "BAD_INPUT" }]) {
      const run = await newNativeRun();
      await addNativeTasks(run, { id: "t", retry: AT_ONCE });
      const body = good(await transition(run, await claimNext(run), { action: "fail", ...said }));
      expect(body.task).toMatchObject({ dead_letter: true, failure: { cause: "not_retryable" } });
    }
  });

  it("claims: waits as its policy says", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t", retry: { base_ms: 60_000, jitter: 0 } });
    const { task } = good(await transition(run, await claimNext(run), { action: "fail" }));
    expect(task.next_retry_at_ms).toBe(task.updated_ts + 60_000);
    expect(good(await run.post("/tasks/claim", { agent_id: "ann" })).task).toBeNull();
  });

  it("claims: the fields of one action are refused with another", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    const claim = await claimNext(run);
    problem(await transition(run, claim, { action: "complete", retryable: false }), 400, "FIELD_INVALID");
    problem(
      await transition(run, claim, { action: "heartbeat", progress: { data: "x".repeat(5_000) } }),
      413,
      "LIMIT_EXCEEDED",
    );
    problem(
      await transition(run, claim, { action: "heartbeat", progress: { percent: 101 } }),
      422,
      "BODY_INVALID",
    );
  });

  it("claims: /context shows it, and takes it back as it was", async () => {
    const run = await runWithLetters({ t: "E" });
    const whole = await runOf(run);
    expect(whole.tasks[0]).toMatchObject({ dead_letter: true, attempts: [{ outcome: "failed" }] });
    good(await routes(run.id).put(whole));
    expect((await runOf(run)).tasks).toEqual(whole.tasks);
    const typed = whole.tasks.map(({ id, task_type, status, created_ts, updated_ts }) => ({
      id,
      task_type,
      status,
      created_ts,
      updated_ts,
    }));
    good(await routes(run.id).put({ ...whole, tasks: typed }));
    const { dead_letter, failure, attempts, retry } = whole.tasks[0] as unknown as Record<string, unknown>;
    expect(await taskOf(run, "t")).toMatchObject({ dead_letter, failure, attempts, retry });
  });
});

describe("dead letters", () => {
  it("claims: are listed by index, page by page, and so is what is none", async () => {
    const run = await runWithLetters({ a: "E", b: "F", c: "E" });
    await addNativeTasks(run, { id: "d" }, { id: "e", status: "failed" });
    expect(idsOf(good(await run.get("/tasks?dead_letter=true")))).toEqual(["a", "b", "c"]);
    expect(idsOf(good(await run.get("/tasks?dead_letter=false")))).toEqual(["d", "e"]);
    expect(idsOf(good(await run.get("/tasks?dead_letter=false&status=failed")))).toEqual(["e"]);
    expect(idsOf(good(await run.get("/tasks?dead_letter=true&status=done")))).toEqual([]);
    const page = good(await run.get("/tasks?dead_letter=true&limit=2")) as unknown as { next: string };
    expect(idsOf(good(await call("GET", page.next)))).toEqual(["c"]);
    problem(await run.get("/tasks?dead_letter=yes"), 400, "QUERY_INVALID");
  });

  it("claims: one is redriven, once, however often the request comes", async () => {
    const run = await runWithLetters({ t: "E" });
    const key = { "idempotency-key": "again" };
    const first = await run.post("/tasks/t/redrive", undefined, key);
    expect(good(first).task).toMatchObject({
      status: "runnable",
      attempt: 0,
      attempts: [{ error_code: "E" }],
    });
    expect(good(first).task).not.toHaveProperty("dead_letter");
    expect(first.headers.get("etag")).toBe(`"${good(first).task.task_rev}"`);
    const claim = await claimNext(run);
    expect(claim.handover).toMatchObject({ attempt: 0, previous_attempts: [{ error: "no t" }] });
    const again = await run.post("/tasks/t/redrive", undefined, key);
    expect([again.text, again.headers.get("idempotency-replayed")]).toEqual([first.text, "true"]);
    expect(problem(await run.post("/tasks/t/redrive"), 409, "TASK_TRANSITION_INVALID")).toMatchObject({
      current_status: "in_progress",
    });
    problem(await run.post("/tasks/none/redrive"), 404, "TASK_NOT_FOUND");
  });

  it("claims: many are counted by a preview, and redriven by the same filter in one", async () => {
    const run = await runWithLetters({ a: "E", b: "F", c: "E", d: "E" });
    const filter = { error_code: "E", cause: "attempts_exhausted", limit: 2 };
    const preview = await run.post("/tasks/redrive", { ...filter, preview: true });
    expect(good(preview)).toEqual({ preview: true, matched: 3, task_ids: [], remaining: 3 });
    const before = (await eventsOf(run)).length;
    const key = { "idempotency-key": "all" };
    const done = await run.post("/tasks/redrive", filter, key);
    expect(good(done)).toEqual({ preview: false, matched: 3, task_ids: ["a", "c"], remaining: 1 });
    expect((await eventsOf(run)).length).toBe(before + 2);
    const again = await run.post("/tasks/redrive", filter, key);
    expect([again.text, again.headers.get("idempotency-replayed")]).toEqual([done.text, "true"]);
    expect(good(await run.post("/tasks/redrive", {}))).toMatchObject({ task_ids: ["b", "d"], remaining: 0 });
    expect(good(await run.post("/tasks/redrive"))).toMatchObject({ matched: 0, task_ids: [] });
    problem(await run.post("/tasks/redrive", { cause: "boredom" }), 422, "BODY_INVALID");
    problem(await run.post("/tasks/redrive", { limit: 501 }), 422, "BODY_INVALID");
  });
});

describe("retries in a batch", () => {
  it("claims: a failure is final and redriven in one, and a repeat says so again", async () => {
    const run = await runWithLetters({ a: "E", b: "E", c: "F" });
    await addNativeTasks(run, { id: "t", retry: AT_ONCE });
    const { lease } = await claimNext(run);
    const commands = [
      { op: "fail", task_id: "t", lease_token: lease.token, retryable: false, progress: { percent: 9 } },
      { op: "redrive_task", task_id: "t" },
      { op: "redrive_tasks", error_code: "E" },
      { op: "redrive_tasks", error_code: "none" },
      { op: "redrive_tasks", preview: true },
      { op: "claim", agent_id: "bob" },
    ];
    const key = { "idempotency-key": "k" };
    const first = await run.post("/commands", { commands }, key);
    expect((good(first) as unknown as { results: unknown[] }).results).toMatchObject([
      { op: "fail", task: { dead_letter: true } },
      { op: "redrive_task", task: { status: "runnable", attempt: 0 } },
      { op: "redrive_tasks", matched: 2, task_ids: ["a", "b"], remaining: 0 },
      { op: "redrive_tasks", matched: 0, task_ids: [] },
      { op: "redrive_tasks", preview: true, matched: 1 },
      { op: "claim", task: { id: "a" }, handover: { previous_attempts: [{ error_code: "E" }] } },
    ]);
    const again = await run.post("/commands", { commands }, key);
    expect([again.text, again.headers.get("idempotency-replayed")]).toEqual([first.text, "true"]);
  });

  it("claims: several claims hand over, each its own", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "a" }, { id: "b" });
    good(await transition(run, await claimNext(run), { action: "release", progress: { note: "a" } }));
    const { claims } = good(await run.post("/tasks/claim", { agent_id: "bob", max: 2 })) as unknown as {
      claims: Claim[];
    };
    expect(claims.map(({ task, handover }) => [task.id, handover])).toMatchObject([
      ["a", { attempt: 0, last_progress: { note: "a" }, previous_attempts: [{ outcome: "released" }] }],
      ["b", null],
    ]);
  });
});

describe("the history of work", () => {
  it("claims: is in replays, exports and forks as it is in the run", async () => {
    const run = await runWithLetters({ a: "E" });
    await addNativeTasks(run, {
      id: "t",
      retry: AT_ONCE,
      clocks: { run_within_ms: 60_000 },
      concurrency_key: "k",
    });
    good(await call("PUT", `/v1/runs/${run.id}/settings`, { grace_ms: 5 }));
    const claim = await claimNext(run);
    good(await transition(run, claim, { action: "heartbeat", progress: { data: { at: 1 } } }));
    good(await transition(run, claim, { action: "release" }));
    good(await transition(run, await claimNext(run), { action: "heartbeat", progress: { note: "n" } }));
    expect(good(await run.get("/replay"))).toMatchObject({ drift: { mismatch: false } });

    const exported = (await run.get("/export")).text;
    const take = (text: string, id: string) =>
      call("POST", `/v1/runs/import?run_id=${id}`, raw(text), { "content-type": "application/x-ndjson" });
    const copy = routes(freshId(), "/v1");
    good(await take(exported, copy.id), 201);
    expect((await runOf(copy)).tasks).toEqual((await runOf(run)).tasks);
    expect(good(await copy.get("/settings"))).toEqual({ settings: { grace_ms: 5 } });
    expect(good(await copy.get("/replay"))).toMatchObject({ drift: { mismatch: false } });
    expect(idsOf(good(await copy.get("/tasks?dead_letter=true")))).toEqual(["a"]);
    for (const [good, bad] of [
      ['"grace_ms":5', '"grace_ms":"5"'],
      ['"base_ms":0', '"base_ms":null'],
      ['"run_within_ms":60000', '"run_within_ms":"1"'],
    ] as const) {
      expect(exported).toContain(good);
      const { issues } = problem(
        await take(exported.replace(good, bad), freshId()),
        422,
        "IMPORT_INVALID",
      ) as unknown as { issues: { field: string }[] };
      expect(issues[0]?.field).toMatch(/payload\.(settings|task)\./);
    }

    const forked = good(await run.post("/fork", {}), 201).run;
    const fork = routes(forked.run_id, "/v1");
    expect(good(await fork.get("/settings"))).toEqual({ settings: { grace_ms: 5 } });
    expect(await taskOf(fork, "t")).toMatchObject({
      concurrency_key: "k",
      clocks: { run_within_ms: 60_000 },
    });
    expect(await taskOf(fork, "t")).not.toHaveProperty("attempts");
    expect(idsOf(good(await fork.get("/tasks?dead_letter=true")))).toEqual(["a"]);
  });
});
