import { describe, expect, it } from "vitest";
import { arrange, must, newRun, RUN_STATUSES, runOf } from "../support.ts";
import { type Effect, inRun, planned, type Sent, started, table } from "./transition-table.ts";

const STEPS = [
  { step_id: "s0", title: "Zero", status: "done" },
  { step_id: "s1", title: "One", status: "pending" },
  { step_id: "s2", title: "Two", status: "runnable" },
  { step_id: "session-run", title: "Session", status: "runnable" },
];
/** What every case starts from: a blocked run with steps, an old reason, an old error, an old end. */
const BEFORE = {
  status: "blocked",
  steps: STEPS,
  why_next_step: "before",
  last_error: "old",
  ended_at_ms: 7,
};

/** Appends to a run arranged like `before` and compares the whole run with the expected effect. */
async function proves(before: Record<string, unknown>, sent: Sent, effect: Effect): Promise<void> {
  const run = await newRun();
  const arranged = await arrange(run, before);
  const { event } = must(await run.post("/events", sent));
  const time = (wanted: "now" | null | undefined, was: number | undefined) =>
    wanted === undefined ? was : wanted === null ? undefined : event.ts_ms;
  expect(await runOf(run)).toEqual({
    ...arranged,
    status: effect.status,
    steps: arranged.steps.map((step) => ({ ...step, status: effect.steps?.[step.step_id] ?? step.status })),
    why_next_step: effect.why ?? arranged.why_next_step,
    started_at_ms: time(effect.started, arranged.started_at_ms),
    ended_at_ms: time(effect.ended, arranged.ended_at_ms),
    last_error: effect.error === null ? undefined : (effect.error ?? arranged.last_error),
    revision: arranged.revision + 1,
    last_event_seq: arranged.last_event_seq + 1,
    updated_at_ms: event.ts_ms,
  });
  expect(event.status).toBe(sent.status);
  expect(event.run_status).toBe(effect.status);
}

const finished: [string, string][] = [
  ["completed", "done"],
  ["cancelled", "blocked"],
  ["blocked", "blocked"],
  ["paused", "blocked"],
  ["failed", "failed"],
  ["queued", "done"],
  ["planning", "done"],
  ["running", "done"],
  ["awaiting_approval", "done"],
];

describe("POST …/events: the transition table", () => {
  it.for(table)("03§2 %j", ([sent, effect]) => proves(BEFORE, sent, effect));

  it("03§2 type matching trims and ignores case, the record keeps the type as sent", async () => {
    const run = await newRun();
    const { event } = must(await run.post("/events", { type: " Run_PAUSED ", status: "running" }));
    expect(event.type).toBe(" Run_PAUSED ");
    expect((await runOf(run)).status).toBe("paused");
  });

  it.each(finished)("03§2.1 session_run_finished with %s makes the step %s", async (status, step) => {
    const ended = ["completed", "failed", "cancelled"].includes(status) ? ("now" as const) : undefined;
    const why = "session run finished";
    const type = "session_run_finished";
    const over = ended === undefined ? {} : { ended };
    await proves(BEFORE, { type, status }, { status, why, steps: { "session-run": step }, ...over });
    await proves(
      BEFORE,
      { type, status, step_id: "s1", payload: { why_next_step: "w", error: "e", step_status: "runnable" } },
      { status, why: "w", error: "e", steps: { s1: step }, ...over },
    );
  });

  it("03§2 plan_approved without a pending or runnable step keeps steps and reason", () =>
    proves({ ...BEFORE, steps: STEPS.slice(0, 1) }, { type: "plan_approved", status: "queued" }, started));

  it("03§2 started_at_ms: the first time set wins", async () => {
    const keeps: Effect = { status: "running", ended: null, error: null, why: inRun };
    await proves({ started_at_ms: 5 }, { type: "session_run_started", status: "running" }, keeps);
  });

  it.each(RUN_STATUSES)("03§2.4 no gating: every event is accepted from %s", async (status) => {
    const run = await newRun();
    await arrange(run, { status });
    for (const type of ["note", "plan_approved", "run_cancelled", "run_resumed", "run_paused"]) {
      expect(must(await run.post("/events", { type, status: "running" })).ok).toBe(true);
    }
    expect((await runOf(run)).status).toBe("paused");
  });

  it("03§2.3 ended_at_ms is overwritten by every later event that is terminal", async () => {
    const run = await newRun();
    await arrange(run, { status: "completed" });
    const { event } = must(await run.post("/events", { type: "note", status: "failed" }));
    expect((await runOf(run)).ended_at_ms).toBe(event.ts_ms);
  });

  it("D65 ended_at_ms is cleared when an event leaves a terminal status", async () => {
    const run = await newRun();
    must(await run.post("/events", { type: "note", status: "completed" }));
    must(await run.post("/events", { type: "run_paused", status: "paused" }));
    expect((await runOf(run)).ended_at_ms).toBeUndefined();
  });

  const words: [unknown, string | undefined][] = [
    ["pending", "pending"],
    ["runnable", "runnable"],
    ["in_progress", "in_progress"],
    ["in-progress", "in_progress"],
    ["working", "in_progress"],
    ["active", "in_progress"],
    ["blocked", "blocked"],
    ["done", "done"],
    ["completed", "done"],
    ["complete", "done"],
    ["failed", "failed"],
    [" ERROR ", "failed"],
    ["doing", undefined],
    ["ready", undefined],
    ["", undefined],
    [5, undefined],
  ];
  it.each(words)("03§1.2 the payload's step_status %j makes the step %s", (word, status) =>
    proves(
      BEFORE,
      { type: "note", status: "running", step_id: "s2", payload: { step_status: word } },
      { status: "running", ...(status === undefined ? {} : { steps: { s2: status } }) },
    ),
  );

  const keys: [Record<string, unknown>, string | undefined][] = [
    [{ step_status: "done", stepStatus: "failed" }, "done"],
    [{ step_status: " ", stepStatus: "failed", "step-state": "done" }, "failed"],
    [{ step_status: 1, "step-state": "blocked" }, "blocked"],
    [{ step_status: "nonsense", stepStatus: "failed" }, undefined],
  ];
  it.each(keys)("03§1.1 the first non-blank step status key decides: %j → %s", (payload, status) =>
    proves(
      BEFORE,
      { type: "note", status: "running", step_id: "s2", payload },
      { status: "running", ...(status === undefined ? {} : { steps: { s2: status } }) },
    ),
  );

  const texts: [unknown, string | undefined][] = [
    [{ why_next_step: " x " }, "x"],
    [{ why_next_step: "" }, undefined],
    [{ why_next_step: 5 }, undefined],
    [["why_next_step"], undefined],
    [null, undefined],
  ];
  it.each(texts)("03§1.1 the payload %j gives the reason %j", (payload, why) =>
    proves(
      BEFORE,
      { type: "note", status: "running", payload },
      { status: "running", ...(why === undefined ? {} : { why }) },
    ),
  );
});

describe("POST …/events: the worked example", () => {
  const before = {
    status: "paused",
    steps: [
      { step_id: "s1", title: "One", status: "pending" },
      { step_id: "session-run", title: "Session", status: "runnable" },
    ],
    last_error: "old",
    ended_at_ms: 7,
  };
  const rows: [Sent, Effect][] = [
    [
      { type: "session_run_started", status: "failed", step_id: "s1" },
      { ...started, why: inRun, steps: { s1: "in_progress" } },
    ],
    [
      { type: "session_run_finished", status: "paused", step_id: "s1" },
      { status: "paused", why: "session run finished", steps: { s1: "blocked" } },
    ],
    [
      {
        type: "step_failed",
        status: "running",
        step_id: " s1 ",
        payload: { error: "bad", why_next_step: "z" },
      },
      { status: "running", why: "z", error: "bad", steps: { s1: "failed" } },
    ],
    [
      { type: "whatever", status: "failed", step_id: "s1", payload: { step_status: "doing", error: "ee" } },
      { status: "failed", error: "ee", ended: "now" },
    ],
  ];
  it.for(rows)("03§2.5 %j", ([sent, effect]) => proves(before, sent, effect));

  it('03§2.5 " Planning_Started " without steps materialises the plan and keeps its spelling', async () => {
    const run = await newRun({ objective: "- [x] Do the thing" });
    const { event } = must(await run.post("/events", { type: " Planning_Started ", status: "planning" }));
    expect(event).toMatchObject({ type: " Planning_Started ", status: "planning", payload: null });
    expect(await runOf(run)).toMatchObject({
      status: "awaiting_approval",
      steps: [{ step_id: "step-1", title: "[x] Do the thing", status: "pending" }],
      why_next_step: planned,
      started_at_ms: event.ts_ms,
    });
  });
});
