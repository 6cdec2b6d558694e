import { describe, expect, it } from "vitest";
import { call, freshId, lastEvent, routes, runOf } from "../support.ts";
import { addNativeTasks, good, newNativeRun, problem } from "./support.ts";

const put = (id: string, body: unknown, headers = {}) =>
  call("PUT", `/v1/runs/${id}/settings`, body, headers);

describe("/v1/runs/{id}/settings", () => {
  it("claims: what was put is shown, here and in the run; new tasks get its defaults", async () => {
    const run = await newNativeRun();
    const before = await run.get("/settings");
    expect(good(before)).toEqual({ settings: {} });
    expect(before.headers.get("etag")).toBe('"1"');

    const settings = { task_defaults: { max_attempts: 2 }, concurrency_limits: { m: 2 }, grace_ms: 1_000 };
    const answer = await put(run.id, settings);
    expect(good(answer)).toEqual({ settings });
    expect(answer.headers.get("etag")).toBe('"2"');
    expect(good(await run.get("/settings"))).toEqual({ settings });
    expect(good(await run.get()).run).toMatchObject({ settings });
    expect(await lastEvent(run)).toMatchObject({ type: "context.run.settings_set", payload: { settings } });

    const { tasks } = await addNativeTasks(run, { id: "t" });
    expect(tasks[0]).toMatchObject({
      max_attempts: 2,
      retry: { base_ms: 1_000, factor: 2, max_ms: 300_000, jitter: 0.2, non_retryable: [] },
    });
  });

  it("claims: a repeat gets its first answer, a revision that moved on is refused", async () => {
    const run = await newNativeRun();
    const key = { "idempotency-key": "k" };
    const first = await put(run.id, { grace_ms: 1 }, key);
    good(await put(run.id, { grace_ms: 2 }, { "if-match": first.headers.get("etag") }));
    const again = await put(run.id, { grace_ms: 1 }, key);
    expect([again.text, again.headers.get("idempotency-replayed")]).toEqual([first.text, "true"]);
    problem(await put(run.id, { grace_ms: 3 }, key), 422, "COMMAND_ID_CONFLICT");
    problem(await put(run.id, {}, { "if-match": '"2"' }), 409, "RUN_REVISION_MISMATCH");
    expect(good(await run.get("/settings"))).toEqual({ settings: { grace_ms: 2 } });
  });

  it("claims: a run can be created with them; /context makes none and keeps them in a PUT", async () => {
    const settings = { task_defaults: { max_attempts: 4 } };
    const run = await newNativeRun({ settings });
    expect(good(await run.get("/settings"))).toEqual({ settings });
    const replay = good(await run.get("/replay")) as unknown as { drift: { mismatch: boolean } };
    expect(replay.drift.mismatch).toBe(false);
    const { settings: _settings, ...typed } = (await runOf(run)) as unknown as Record<string, unknown>;
    good(await routes(run.id).put(typed));
    expect(good(await run.get("/settings"))).toEqual({ settings });

    const id = freshId();
    await call("POST", "/context/runs", { run_id: id, objective: "", settings });
    expect(good(await routes(id, "/v1").get("/settings"))).toEqual({ settings: {} });
  });
});
