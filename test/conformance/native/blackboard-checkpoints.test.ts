import { describe, expect, it } from "vitest";
import { everything, freshId, generatedId, patchesOf, routes, runOf } from "../support.ts";
import { addNativeTasks, allPages, good, newNativeRun, problem } from "./support.ts";

const FACT = { id: "f", ts_ms: 1, text: "t" };

describe("/v1/runs/{id}/blackboard", () => {
  it("v1 blackboard: without tasks", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    good(await run.post("/blackboard/patches", { op: "add_fact", payload: FACT }), 201);
    expect(good(await run.get("/blackboard"))).toEqual({
      blackboard: {
        facts: [FACT],
        decisions: [],
        open_questions: [],
        artifacts: [],
        summaries: { rolling: "", latest_context_pack: "" },
        revision: 2,
      },
    });
  });

  it("v1 patch: 201 {patch}, the record the log shows", async () => {
    const run = await newNativeRun();
    const body = good(await run.post("/blackboard/patches", { op: "add_fact", payload: FACT }), 201);
    expect(Object.keys(body)).toEqual(["patch"]);
    expect(body.patch).toMatchObject({ patch_id: generatedId("bbp"), seq: 1, op: "add_fact", payload: FACT });
    expect(await patchesOf(run)).toEqual([body.patch]);
  });

  it.each(["add_task", "update_task_lease", "update_task_state"])(
    "v1 patch: %s is 422 TASK_PATCH_OP_DISABLED",
    async (op) => {
      const run = await newNativeRun();
      problem(await run.post("/blackboard/patches", { op, payload: {} }), 422, "TASK_PATCH_OP_DISABLED");
    },
  );

  it.each([
    ["add_fact", {}],
    ["add_artifact", FACT],
    ["set_rolling_summary", 1],
  ])("v1 patch: %s %j is 422 PATCH_PAYLOAD_INVALID", async (op, payload) => {
    const run = await newNativeRun();
    const before = await everything(run);
    problem(await run.post("/blackboard/patches", { op, payload }), 422, "PATCH_PAYLOAD_INVALID");
    expect(await everything(run)).toEqual(before);
  });

  it("v1 patches: pages, since_seq and tail", async () => {
    const run = await newNativeRun();
    for (const n of [1, 2, 3, 4]) {
      good(await run.post("/events", { type: `n${n}`, status: "running" }), 201);
      good(await run.post("/blackboard/patches", { op: "set_rolling_summary", payload: `${n}` }), 201);
    }
    const patches = await patchesOf(run);
    const path = `/v1/runs/${run.id}/blackboard/patches`;
    for (const limit of [1, 3, 4, 1000]) {
      expect((await allPages(`${path}?limit=${limit}`, (body) => body.patches)).rows).toEqual(patches);
    }
    const since = await allPages(`${path}?since_seq=4&limit=1`, (body) => body.patches);
    expect(since.rows).toEqual(patches.slice(2));
    expect(good(await run.get("/blackboard/patches?tail=3"))).toEqual({
      patches: patches.slice(1),
      next_cursor: null,
      next: null,
    });
  });
});

describe("/v1/runs/{id}/checkpoints and replay", () => {
  it("v1 checkpoint: 201 with the checkpoint's head; latest shows the same", async () => {
    const run = await newNativeRun();
    expect(good(await run.get("/checkpoints/latest"))).toEqual({ checkpoint: null });
    good(await run.post("/events", { type: "note", status: "running" }), 201);
    const before = await everything(run);
    const body = good(await run.post("/checkpoints", { reason: "r" }), 201);
    expect(body).toEqual({
      checkpoint: {
        checkpoint_id: generatedId("cp"),
        run_id: run.id,
        seq: 1,
        ts_ms: expect.any(Number),
        reason: "r",
        automatic: false,
        state_sha256: expect.stringMatching(/^[0-9a-f]{64}$/),
        log_hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    });
    expect(good(await run.get("/checkpoints/latest")).checkpoint).toMatchObject(body.checkpoint);
    expect(await everything(run)).toEqual(before);
  });

  it("v1 replay: lean, with the views on request", async () => {
    const run = await newNativeRun();
    await addNativeTasks(run, { id: "t" });
    good(await run.post("/checkpoints", { reason: "r" }), 201);
    good(await run.post("/events", { type: "planning_started", status: "planning" }), 201);
    const head = {
      run_id: run.id,
      from_checkpoint: false,
      checkpoint_seq: null,
      events_applied: 2,
      blackboard_patches_applied: 1,
    };
    const lean = good(await run.get("/replay?from_checkpoint=false"));
    expect(lean).toMatchObject({ ...head, drift: { mismatch: false, compared: true } });
    const others = ["drift", "persisted_state_sha256", "replay_state_sha256"] as const;
    expect(Object.keys(lean).sort()).toEqual([...Object.keys(head), ...others].sort());
    const digests = lean as unknown as Record<(typeof others)[number], unknown>;
    expect(digests.replay_state_sha256).toBe(digests.persisted_state_sha256);
    expect(good(await run.get("/replay"))).toMatchObject({
      from_checkpoint: true,
      checkpoint_seq: 1,
      events_applied: 1,
    });
    expect(good(await run.get("/replay?upto_seq=1"))).toMatchObject({
      events_applied: 0,
      drift: { compared: false },
    });
    const answer = await run.get("/replay", { prefer: "return=representation" });
    expect(answer.headers.get("preference-applied")).toBe("return=representation");
    const full = good(answer);
    const { run: now, blackboard } = await everything(run);
    expect(full.replay).toEqual(now);
    expect(full.persisted).toEqual(now);
    expect(full.replay_blackboard).toEqual(blackboard);
    expect(full.persisted_blackboard).toEqual(blackboard);
    expect((await runOf(run)).last_event_seq).toBe(2);
  });

  it("v1 sub-resources: 404 RUN_NOT_FOUND", async () => {
    const run = routes(freshId(), "/v1");
    for (const sub of [
      "/blackboard",
      "/blackboard/patches",
      "/checkpoints/latest",
      "/replay",
      "/tasks",
      "/tasks/t",
    ]) {
      problem(await run.get(sub), 404, "RUN_NOT_FOUND");
    }
    problem(await run.post("/checkpoints", { reason: "r" }), 404, "RUN_NOT_FOUND");
    problem(await run.post("/blackboard/patches", { op: "add_fact", payload: {} }), 404, "RUN_NOT_FOUND");
  });
});
