import { describe, expect, it } from "vitest";
import {
  addTasks,
  claim,
  everything,
  FINGERPRINT,
  freshId,
  generatedId,
  must,
  newRun,
  routes,
  runOf,
} from "../support.ts";

describe("checkpoints", () => {
  it("06§1 holds run and blackboard as they are, and changes nothing", async () => {
    const run = await newRun({ objective: "o" });
    await addTasks(run, { id: "t" });
    const { lease_token } = await claim(run);
    must(
      await run.post("/blackboard/patches", { op: "add_fact", payload: { id: "f", ts_ms: 1, text: "t" } }),
    );
    const before = await everything(run);
    const answer = await run.post("/checkpoints", { reason: "before deploy" });
    const body = must(answer);
    expect(body).toEqual({
      ok: true,
      checkpoint: {
        checkpoint_id: generatedId("cp"),
        run_id: run.id,
        seq: 3,
        ts_ms: expect.any(Number),
        reason: "before deploy",
        run_state: before.run,
        blackboard: before.blackboard,
      },
    });
    expect(body.checkpoint.blackboard.tasks).toEqual(body.checkpoint.run_state.tasks);
    expect(body.checkpoint.run_state.tasks[0]?.lease_token).toMatch(FINGERPRINT);
    expect(answer.text).not.toContain(lease_token);
    expect(await everything(run)).toEqual(before);
    expect(must(await run.get("/checkpoints/latest"))).toEqual({ checkpoint: body.checkpoint });
  });

  it("06§1 seq is 0 before the first event; the reason may be empty", async () => {
    const run = await newRun();
    const { checkpoint } = must(await run.post("/checkpoints", { reason: "" }));
    expect(checkpoint).toMatchObject({ seq: 0, reason: "", run_state: await runOf(run) });
    expect(checkpoint.blackboard.revision).toBe(0);
  });

  it("06§1 latest is null, then the one with the highest seq, unchanged by later commits", async () => {
    const run = await newRun();
    expect(must(await run.get("/checkpoints/latest"))).toEqual({ checkpoint: null });
    must(await run.post("/checkpoints", { reason: "first" }));
    must(await run.post("/events", { type: "note", status: "running" }));
    const { checkpoint } = must(await run.post("/checkpoints", { reason: "second" }));
    must(await run.post("/events", { type: "note", status: "failed" }));
    expect(must(await run.get("/checkpoints/latest")).checkpoint).toEqual(checkpoint);
    expect(checkpoint).toMatchObject({ seq: 1, run_state: { status: "running" } });
  });

  it("D24 latest is the newer of two at the same seq", async () => {
    const run = await newRun();
    must(await run.post("/checkpoints", { reason: "first" }));
    const { checkpoint } = must(await run.post("/checkpoints", { reason: "second" }));
    expect(must(await run.get("/checkpoints/latest")).checkpoint).toEqual(checkpoint);
  });

  it("01§8 404 for an unknown run, 422 for a wrong shape", async () => {
    expect((await routes(freshId()).post("/checkpoints", { reason: "r" })).status).toBe(404);
    expect((await routes(freshId()).get("/checkpoints/latest")).status).toBe(404);
    const run = await newRun();
    for (const body of [{}, { reason: null }, { reason: 1 }]) {
      expect((await run.post("/checkpoints", body)).status).toBe(422);
    }
  });
});
