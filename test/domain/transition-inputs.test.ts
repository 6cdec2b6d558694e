import { describe, expect, it } from "vitest";
import { stepStatusOfEventWord } from "../../src/domain/step-words.ts";
import { applyRunEvent, type TransitionInput } from "../../src/domain/transition.ts";
import type { RunHeader } from "../../src/protocol/run.ts";
import { RUN_STATUSES, type RunStatus, type WorkStatus } from "../../src/protocol/status.ts";
import { aRun, NOW, stepsOf } from "../support/builders.ts";

/** A running run with one pending step, after one event. */
function runAfter(input: Partial<TransitionInput>, before: Partial<RunHeader> = {}): RunHeader {
  const run = aRun({ status: "running", steps: stepsOf({ s1: "pending", s2: "runnable" }), ...before });
  return applyRunEvent(run, { type: "note", status: "running", payload: null, ...input }, NOW);
}

function statusOf(run: RunHeader, stepId: string): WorkStatus | undefined {
  return run.steps.find((step) => step.step_id === stepId)?.status;
}

describe("how input values are read", () => {
  const types: [string, string][] = [
    [" run_paused ", "paused"],
    ["RUN_PAUSED", "paused"],
    ["\tRun_Paused\n", "paused"],
    ["run-paused", "running"],
    ["run_paused.", "running"],
    ["run paused", "running"],
    ["constructor", "running"],
  ];
  it.each(types)("03§1.1 the type %j is matched trimmed and without case: run %s", (type, status) => {
    expect(runAfter({ type }).status).toBe(status);
  });

  const stepIds: [string | undefined, WorkStatus][] = [
    ["s1", "done"],
    ["  s1\n", "done"],
    ["S1", "pending"],
    ["s", "pending"],
    ["", "pending"],
    [" ", "pending"],
    [undefined, "pending"],
  ];
  it.each(stepIds)("03§1.1 the step id %j is trimmed, then compared exactly: %s", (step_id, status) => {
    const run = runAfter({ type: "step_done", ...(step_id !== undefined && { step_id }) });
    expect(statusOf(run, "s1")).toBe(status);
    expect(run.steps).toHaveLength(2);
  });

  it.each([undefined, "", " "])(
    "03§1.1 the step id %j names no step, not even one without a name",
    (step_id) => {
      const steps = stepsOf({ "": "pending", s1: "pending" });
      const run = runAfter({ type: "step_done", ...(step_id !== undefined && { step_id }) }, { steps });
      expect(run.steps).toEqual(steps);
    },
  );

  it("03§2 of two steps with one id the first changes", () => {
    const steps = [...stepsOf({ s1: "pending" }), ...stepsOf({ s1: "pending" })];
    const run = runAfter({ type: "step_done", step_id: "s1" }, { steps });
    expect(run.steps.map((step) => step.status)).toEqual(["done", "pending"]);
  });

  const texts: [unknown, string | null][] = [
    [{ why_next_step: "go" }, "go"],
    [{ why_next_step: "  go on \n" }, "go on"],
    [{ why_next_step: "" }, null],
    [{ why_next_step: " \t " }, null],
    [{ why_next_step: null }, null],
    [{ why_next_step: 7 }, null],
    [{ why_next_step: ["go"] }, null],
    [{ whyNextStep: "go" }, null],
    [["go"], null],
    ["go", null],
    [null, null],
    [7, null],
  ];
  it.each(texts)("03§1.1 payload %j gives the text %j", (payload, text) => {
    const before = { why_next_step: "before" };
    expect(runAfter({ payload }, before).why_next_step).toBe(text ?? "before");
  });

  const stepStatuses: [unknown, WorkStatus][] = [
    [{ step_status: "done" }, "done"],
    [{ stepStatus: "done" }, "done"],
    [{ "step-state": "done" }, "done"],
    [{ stepState: "done" }, "pending"],
    [{ "step-status": "done" }, "pending"],
    [{ step_status: "failed", stepStatus: "done", "step-state": "blocked" }, "failed"],
    [{ stepStatus: "done", "step-state": "blocked" }, "done"],
    [{ step_status: " ", stepStatus: "done" }, "done"],
    [{ step_status: 5, stepStatus: null, "step-state": "done" }, "done"],
    [{ step_status: "nonsense", stepStatus: "done" }, "pending"],
    [{ step_status: "doing", stepStatus: "done" }, "pending"],
  ];
  it.each(stepStatuses)("03§1.1 payload %j makes the step %s", (payload, status) => {
    expect(statusOf(runAfter({ step_id: "s1", payload }), "s1")).toBe(status);
  });
});

const WORDS: Record<string, WorkStatus> = {
  pending: "pending",
  runnable: "runnable",
  in_progress: "in_progress",
  "in-progress": "in_progress",
  working: "in_progress",
  active: "in_progress",
  blocked: "blocked",
  done: "done",
  completed: "done",
  complete: "done",
  failed: "failed",
  error: "failed",
};

describe("step-status words", () => {
  it.each(Object.entries(WORDS))("03§1.2 %s means %s, trimmed and in any case", (word, status) => {
    for (const written of [word, ` ${word}\n`, word.toUpperCase()]) {
      expect(stepStatusOfEventWord(written)).toBe(status);
      expect(statusOf(runAfter({ step_id: "s2", payload: { step_status: written } }), "s2")).toBe(status);
    }
  });

  const unknown = ["", "doing", "ready", "inprogress", "in progress", "cancelled", "toString", "__proto__"];
  it.each(unknown)("03§1.2 %j means nothing", (word) => {
    expect(stepStatusOfEventWord(word)).toBeNull();
  });
});

const AFTER_SESSION: Record<RunStatus, WorkStatus> = {
  completed: "done",
  cancelled: "blocked",
  blocked: "blocked",
  paused: "blocked",
  failed: "failed",
  queued: "done",
  planning: "done",
  running: "done",
  awaiting_approval: "done",
};

it.each(RUN_STATUSES)("03§2.1 session_run_finished declaring %s", (status) => {
  const steps = stepsOf({ s1: "in_progress", "session-run": "in_progress" });
  const named = runAfter({ type: "session_run_finished", status, step_id: "s1" }, { steps });
  expect(named.steps).toEqual(stepsOf({ s1: AFTER_SESSION[status], "session-run": "in_progress" }));
  const unnamed = runAfter({ type: "session_run_finished", status }, { steps });
  expect(unnamed.steps).toEqual(stepsOf({ s1: "in_progress", "session-run": AFTER_SESSION[status] }));
});

describe("plan_approved", () => {
  it("03§2 starts the first pending or runnable step in list order", () => {
    const steps = stepsOf({ a: "done", b: "runnable", c: "pending" });
    const run = runAfter({ type: "plan_approved", status: "failed" }, { steps });
    expect(run.steps).toEqual(stepsOf({ a: "done", b: "in_progress", c: "pending" }));
    expect(run.why_next_step).toBe("executing step `b` after approval");
  });

  it("03§2 without such a step changes neither steps nor reason", () => {
    const steps = stepsOf({ a: "done", b: "in_progress", c: "blocked", d: "failed" });
    const run = runAfter({ type: "plan_approved", status: "failed" }, { steps, why_next_step: "before" });
    expect(run).toMatchObject({ status: "running", steps, why_next_step: "before", started_at_ms: NOW });
  });
});

describe("planning_started", () => {
  it("03§2 makes a plan of the objective when there are no steps", () => {
    const run = runAfter(
      { type: " Planning_Started ", status: "planning" },
      { steps: [], objective: "- Write it down" },
    );
    expect(run).toMatchObject({
      status: "awaiting_approval",
      steps: [{ step_id: "step-1", title: "Write it down", status: "pending" }],
    });
  });
});

describe("the worked example", () => {
  const given: Partial<RunHeader> = {
    steps: stepsOf({ s1: "pending", "session-run": "runnable" }),
    last_error: "old",
    ended_at_ms: 7,
  };
  const untouched: WorkStatus = "runnable";
  const rows: [Partial<TransitionInput>, Partial<RunHeader>, WorkStatus][] = [
    [
      { type: "session_run_started", status: "failed", step_id: "s1" },
      { status: "running", why_next_step: "session run in progress", started_at_ms: NOW },
      "in_progress",
    ],
    [
      { type: "session_run_finished", status: "paused", step_id: "s1" },
      { status: "paused", why_next_step: "session run finished", ended_at_ms: 7, last_error: "old" },
      "blocked",
    ],
    [
      {
        type: "step_failed",
        status: "running",
        step_id: " s1 ",
        payload: { error: "bad", why_next_step: "z" },
      },
      { status: "running", why_next_step: "z", ended_at_ms: 7, last_error: "bad" },
      "failed",
    ],
    [
      { type: "whatever", status: "failed", step_id: "s1", payload: { step_status: "doing", error: "ee" } },
      { status: "failed", why_next_step: null, ended_at_ms: NOW, last_error: "ee" },
      "pending",
    ],
  ];
  it.each(rows)("03§2.5 %j", (input, expected, s1) => {
    const { ended_at_ms: _ended, last_error: _error, ...rest } = aRun({ status: "running", ...given });
    expect(runAfter(input, given)).toEqual({
      ...rest,
      ...expected,
      steps: stepsOf({ s1, "session-run": untouched }),
    });
  });
});
