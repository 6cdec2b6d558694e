import { describe, expect, it } from "vitest";
import {
  addTasks,
  arrange,
  claim,
  everything,
  FINGERPRINT,
  freshId,
  generatedId,
  lastEvent,
  lastPatch,
  must,
  newRun,
  patchesOf,
  routes,
  runOf,
} from "../support.ts";

const EMPTY = {
  facts: [],
  decisions: [],
  open_questions: [],
  artifacts: [],
  tasks: [],
  summaries: { rolling: "", latest_context_pack: "" },
  revision: 0,
};
const ITEM = { id: "f1", ts_ms: 5, text: "hello" };
const LINKED = { ...ITEM, step_id: "s1", source_event_id: "evt-1" };
const ARTIFACT = { id: "a1", ts_ms: 5, path: "out/x.json", artifact_type: "report" };

/** Op, payload, and what it makes of an empty blackboard. */
const ops: [string, unknown, Record<string, unknown>][] = [
  ["add_fact", ITEM, { facts: [ITEM] }],
  ["add_fact", LINKED, { facts: [LINKED] }],
  ["add_fact", { ...ITEM, colour: "red" }, { facts: [ITEM] }],
  ["add_fact", { id: "", ts_ms: 0, text: "" }, { facts: [{ id: "", ts_ms: 0, text: "" }] }],
  ["add_decision", ITEM, { decisions: [ITEM] }],
  ["add_open_question", LINKED, { open_questions: [LINKED] }],
  ["add_artifact", ARTIFACT, { artifacts: [ARTIFACT] }],
  [
    "add_artifact",
    { ...ARTIFACT, step_id: "s", source_event_id: "e", x: 1 },
    {
      artifacts: [{ ...ARTIFACT, step_id: "s", source_event_id: "e" }],
    },
  ],
  ["set_rolling_summary", " so far ", { summaries: { rolling: " so far ", latest_context_pack: "" } }],
  ["set_latest_context_pack", "pack", { summaries: { rolling: "", latest_context_pack: "pack" } }],
  ["set_rolling_summary", "", {}],
];

describe("POST …/blackboard/patches", () => {
  it.each(ops)("D26 %s %j is applied exactly once", async (op, payload, effect) => {
    const run = await newRun();
    const before = await arrange(run, { status: "running" });
    const body = must(await run.post("/blackboard/patches", { op, payload }));
    const event = await lastEvent(run);
    const seq = before.last_event_seq + 1;
    expect(body).toEqual({
      ok: true,
      patch: {
        patch_id: generatedId("bbp"),
        run_id: run.id,
        seq,
        ts_ms: event.ts_ms,
        source_event_seq: seq,
        op,
        payload,
      },
      blackboard: { ...EMPTY, ...effect, revision: seq },
    });
    expect(must(await run.get("/blackboard"))).toEqual({ blackboard: body.blackboard });
    expect(await patchesOf(run)).toEqual([body.patch]);
    expect(event).toEqual({
      event_id: expect.stringMatching(/^evt-/),
      run_id: run.id,
      seq,
      ts_ms: expect.any(Number),
      type: op === "add_artifact" ? "context.artifact.added" : "context.blackboard.patched",
      status: "running",
      run_status: "running",
      revision: seq + 1,
      payload: { op, payload, patch_seq: seq },
    });
    expect(await runOf(run)).toEqual({
      ...before,
      revision: before.revision + 1,
      last_event_seq: seq,
      updated_at_ms: event.ts_ms,
    });
  });

  it("05§2 lists keep patch order, repeated ids append, summaries are replaced", async () => {
    const run = await newRun();
    const notes = [ITEM, { ...ITEM, text: "again" }, { ...ITEM, id: "f0" }];
    for (const payload of notes) must(await run.post("/blackboard/patches", { op: "add_fact", payload }));
    for (const payload of ["one", "two"]) {
      must(await run.post("/blackboard/patches", { op: "set_rolling_summary", payload }));
    }
    const { blackboard } = must(await run.get("/blackboard"));
    expect(blackboard).toEqual({
      ...EMPTY,
      facts: notes,
      summaries: { rolling: "two", latest_context_pack: "" },
      revision: 5,
    });
  });

  it("I6 events without a patch do not move the blackboard's revision", async () => {
    const run = await newRun();
    must(await run.post("/blackboard/patches", { op: "set_rolling_summary", payload: "x" }));
    must(await run.post("/events", { type: "note", status: "running" }));
    expect(must(await run.get("/blackboard")).blackboard.revision).toBe(1);
    must(await run.post("/blackboard/patches", { op: "set_rolling_summary", payload: "y" }));
    expect(must(await run.get("/blackboard")).blackboard.revision).toBe(3);
  });

  it("05§5 the patch log after create, claim, complete", async () => {
    const run = await newRun();
    await addTasks(run, { id: "t1" });
    const { lease_token } = await claim(run);
    must(await run.post("/tasks/t1/transition", { action: "complete", lease_token }));
    expect((await patchesOf(run)).map((patch) => [patch.seq, patch.op])).toEqual([
      [1, "add_task"],
      [2, "update_task_state"],
      [3, "update_task_state"],
    ]);
    expect(must(await run.get("/blackboard")).blackboard.revision).toBe(3);
    expect((await runOf(run)).revision).toBe(4);
  });

  it("I7 the blackboard's tasks are the run's tasks, tokens masked", async () => {
    const run = await newRun();
    await addTasks(run, { id: "b" }, { id: "a" });
    await claim(run);
    const { blackboard } = must(await run.get("/blackboard"));
    expect(blackboard.tasks).toEqual((await runOf(run)).tasks);
    expect(blackboard.tasks[0]?.lease_token).toMatch(FINGERPRINT);
  });

  it("01§4.8 the blackboard of a new run is empty", async () => {
    expect(must(await (await newRun()).get("/blackboard"))).toEqual({ blackboard: EMPTY });
  });

  it.each(["add_task", "update_task_lease", "update_task_state"])(
    "05§2.1 refuses %s at the edge",
    async (op) => {
      const run = await newRun();
      const before = await everything(run);
      for (const payload of [null, {}, { task_id: "x", status: "done" }]) {
        expect(must(await run.post("/blackboard/patches", { op, payload }))).toEqual({
          ok: false,
          code: "TASK_PATCH_OP_DISABLED",
          error: "task mutations must go through the run task endpoints",
        });
      }
      expect(await everything(run)).toEqual(before);
    },
  );

  const misfits: [string, unknown][] = [
    ["add_fact", null],
    ["add_fact", "text"],
    ["add_fact", {}],
    ["add_fact", { ts_ms: 1, text: "t" }],
    ["add_fact", { id: "i", text: "t" }],
    ["add_fact", { id: "i", ts_ms: 1 }],
    ["add_fact", { id: "i", ts_ms: -1, text: "t" }],
    ["add_fact", { id: "i", ts_ms: 1.5, text: "t" }],
    ["add_fact", { id: 1, ts_ms: 1, text: "t" }],
    ["add_fact", { ...ITEM, step_id: 1 }],
    ["add_decision", { id: "i", ts_ms: "1", text: "t" }],
    ["add_open_question", []],
    ["add_artifact", ITEM],
    ["add_artifact", { ...ARTIFACT, path: null }],
    ["add_artifact", { ...ARTIFACT, artifact_type: 1 }],
    ["set_rolling_summary", null],
    ["set_rolling_summary", 1],
    ["set_rolling_summary", { rolling: "x" }],
    ["set_latest_context_pack", ["x"]],
  ];
  it.each(misfits)("D20 %s %j does not fit: 400 and nothing is written", async (op, payload) => {
    const run = await newRun();
    must(await run.post("/blackboard/patches", { op: "add_fact", payload: ITEM }));
    const before = await everything(run);
    const answer = await run.post("/blackboard/patches", { op, payload });
    expect(answer.status).toBe(400);
    expect(answer.body).toMatchObject({ code: expect.any(String), error: expect.any(String) });
    expect(await everything(run)).toEqual(before);
  });

  const wrong: Record<string, unknown>[] = [
    { payload: ITEM },
    { op: "add_fact" },
    { op: "add_thing", payload: ITEM },
    { op: "Add_Fact", payload: ITEM },
    { op: null, payload: ITEM },
  ];
  it.each(wrong)("05§2.1 wrong shape is 422: %j", async (body) => {
    expect((await (await newRun()).post("/blackboard/patches", body)).status).toBe(422);
  });

  it.each(["add_fact", "add_task"])("01§8 unknown run: 404 before any other check (%s)", async (op) => {
    const answer = await routes(freshId()).post("/blackboard/patches", { op, payload: null });
    expect(answer.status).toBe(404);
    expect(answer.body.code).toBe("RUN_NOT_FOUND");
  });

  it("05§2.2 a patch keeps unknown members of its payload", async () => {
    const run = await newRun();
    const payload = { ...ITEM, extra: { deep: [1] } };
    must(await run.post("/blackboard/patches", { op: "add_fact", payload }));
    expect((await lastPatch(run)).payload).toEqual(payload);
  });

  it("D35 Prefer: return=minimal leaves out the blackboard", async () => {
    const run = await newRun();
    const minimal = { prefer: "return=minimal" };
    const body = must(await run.post("/blackboard/patches", { op: "add_fact", payload: ITEM }, minimal));
    expect(body).toMatchObject({ ok: true, patch: { seq: 1 } });
    expect(body).not.toHaveProperty("blackboard");
  });
});
