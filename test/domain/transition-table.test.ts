import { describe, expect, it } from "vitest";
import { isTerminal } from "../../src/domain/run.ts";
import { applyRunEvent, type TransitionInput } from "../../src/domain/transition.ts";
import type { RunHeader } from "../../src/protocol/run.ts";
import { RUN_STATUSES, type RunStatus, type WorkStatus } from "../../src/protocol/status.ts";
import { aRun, NOW, stepsOf } from "../support/builders.ts";

/** One row of the table in 03 §2: the columns that do not depend on steps or payload texts. */
interface Row {
  types: string[];
  /** Null: the declared status. */
  status: RunStatus | null;
  started: "set" | "kept";
  /** Beside the general rule of 03 §2.3. */
  ended: "cleared" | "kept";
  lastError: "cleared" | "of payload" | "kept";
}

const ROWS: Row[] = [
  {
    types: ["session_run_started"],
    status: "running",
    started: "set",
    ended: "cleared",
    lastError: "cleared",
  },
  { types: ["session_run_finished"], status: null, started: "kept", ended: "kept", lastError: "of payload" },
  {
    types: ["planning_started"],
    status: "awaiting_approval",
    started: "set",
    ended: "cleared",
    lastError: "cleared",
  },
  { types: ["plan_approved"], status: "running", started: "set", ended: "cleared", lastError: "cleared" },
  { types: ["run_paused"], status: "paused", started: "kept", ended: "kept", lastError: "kept" },
  { types: ["run_resumed"], status: "running", started: "kept", ended: "cleared", lastError: "kept" },
  { types: ["run_cancelled"], status: "cancelled", started: "kept", ended: "kept", lastError: "kept" },
  {
    types: ["task_retry_requested"],
    status: "running",
    started: "kept",
    ended: "cleared",
    lastError: "cleared",
  },
  { types: ["revision_requested"], status: "blocked", started: "kept", ended: "kept", lastError: "kept" },
  {
    types: ["step_started", "task_started", "step_completed", "task_completed", "step_done"],
    status: null,
    started: "kept",
    ended: "kept",
    lastError: "kept",
  },
  {
    types: ["step_failed", "task_failed"],
    status: null,
    started: "kept",
    ended: "kept",
    lastError: "of payload",
  },
  {
    types: [
      "",
      "note",
      "run_completed",
      "run_failed",
      "plan_ready_for_approval",
      "todo_synced",
      "workspace_mismatch",
    ],
    status: null,
    started: "kept",
    ended: "kept",
    lastError: "of payload",
  },
];

const cases = ROWS.flatMap(({ types, ...row }) => types.map((type) => ({ type, ...row })));

const STEPS: Record<string, WorkStatus> = {
  s0: "failed",
  s1: "pending",
  s2: "runnable",
  "session-run": "pending",
};

/** A run in the middle of things: every column of the table has a value to lose. */
function runIn(status: RunStatus, members: Partial<RunHeader> = {}): RunHeader {
  return aRun({ status, steps: stepsOf(STEPS), why_next_step: "before", last_error: "old", ...members });
}

/** Every way to come to an event of this type: from each status, declaring each status, with and without a step. */
function* everyInput(type: string, payload: unknown): Generator<{ from: RunStatus; input: TransitionInput }> {
  for (const from of RUN_STATUSES) {
    for (const status of RUN_STATUSES) {
      yield { from, input: { type, status, payload } };
      yield { from, input: { type, status, payload, step_id: "s1" } };
      yield { from, input: { type, status, payload, step_id: "nope" } };
    }
  }
}

const TEXTS = { why_next_step: "w", error: " e ", feedback: "f", step_status: "blocked" };

describe("columns that hold whatever the step and the payload", () => {
  it.each(cases)("03§2 $type: run.status becomes $status (null: declared)", ({ type, status }) => {
    for (const payload of [null, TEXTS]) {
      for (const { from, input } of everyInput(type, payload)) {
        const after = applyRunEvent(runIn(from), input, NOW);
        expect(after.status, `from ${from}, declaring ${input.status}`).toBe(status ?? input.status);
      }
    }
  });

  it.each(cases)("03§2 $type: started_at_ms is $started", ({ type, started }) => {
    for (const { from, input } of everyInput(type, TEXTS)) {
      const before = applyRunEvent(runIn(from), input, NOW);
      expect(before.started_at_ms).toBe(started === "set" ? NOW : undefined);
      const again = applyRunEvent(runIn(from, { started_at_ms: 5 }), input, NOW);
      expect(again.started_at_ms).toBe(5);
    }
  });

  it.each(cases)(
    "03§2.3 D65 $type: ended_at_ms is $ended, set in and cleared out of the end",
    ({ type, ended }) => {
      for (const endedBefore of [undefined, 7]) {
        const members = endedBefore === undefined ? {} : { ended_at_ms: endedBefore };
        for (const { from, input } of everyInput(type, TEXTS)) {
          const after = applyRunEvent(runIn(from, members), input, NOW);
          const isCleared = ended === "cleared" || isTerminal(from);
          const expected = isTerminal(after.status) ? NOW : isCleared ? undefined : endedBefore;
          expect(after.ended_at_ms, `from ${from} to ${after.status}`).toBe(expected);
          expect(Object.hasOwn(after, "ended_at_ms")).toBe(expected !== undefined);
        }
      }
    },
  );

  it.each(cases)("03§2 $type: last_error is $lastError", ({ type, lastError }) => {
    const unless: Record<Row["lastError"], string | undefined> = {
      cleared: undefined,
      "of payload": "old",
      kept: "old",
    };
    for (const payload of [null, {}, { error: " " }, { error: 5 }, "error", ["error"]]) {
      for (const { from, input } of everyInput(type, payload)) {
        expect(applyRunEvent(runIn(from), input, NOW).last_error).toBe(unless[lastError]);
      }
    }
    for (const { from, input } of everyInput(type, TEXTS)) {
      const after = applyRunEvent(runIn(from), input, NOW);
      expect(after.last_error).toBe(lastError === "of payload" ? "e" : unless[lastError]);
      expect(Object.hasOwn(after, "last_error")).toBe(lastError !== "cleared");
    }
  });

  it.each(cases)("03§2 $type: touches nothing that has no column", ({ type }) => {
    for (const { from, input } of everyInput(type, TEXTS)) {
      const before = Object.freeze(runIn(from));
      const { status, steps, why_next_step, started_at_ms, ended_at_ms, last_error, ...rest } = applyRunEvent(
        before,
        input,
        NOW,
      );
      expect({ ...before, ...rest }).toEqual(before);
      expect(steps.map((step) => [step.step_id, step.title])).toEqual(
        before.steps.map((step) => [step.step_id, step.title]),
      );
    }
  });
});

/** Steps by id and the status they get. */
type Changes = Record<string, WorkStatus>;

describe("steps and why_next_step", () => {
  const w = { why_next_step: " w " };
  const doing = { step_status: "working" };
  /** Type, step id, payload; then the steps that change and the reason; null: as before. */
  const rows: [string, string | null, unknown, Changes, string | null][] = [
    ["session_run_started", "s1", null, { s1: "in_progress" }, "session run in progress"],
    ["session_run_started", null, w, { "session-run": "in_progress" }, "w"],
    ["session_run_started", " \t", null, { "session-run": "in_progress" }, "session run in progress"],
    ["session_run_started", "nope", { why_next_step: " " }, {}, "session run in progress"],
    [
      "session_run_started",
      "s1",
      { step_status: "failed" },
      { s1: "in_progress" },
      "session run in progress",
    ],
    ["session_run_finished", "s2", null, { s2: "done" }, "session run finished"],
    ["session_run_finished", null, w, { "session-run": "done" }, "w"],
    ["session_run_finished", "nope", null, {}, "session run finished"],
    ["session_run_finished", "s1", { step_status: "failed" }, { s1: "done" }, "session run finished"],
    ["planning_started", "s1", TEXTS, {}, "plan generated and awaiting approval"],
    ["plan_approved", null, TEXTS, { s1: "in_progress" }, "executing step `s1` after approval"],
    ["plan_approved", "s2", null, { s1: "in_progress" }, "executing step `s1` after approval"],
    ["run_paused", "s1", TEXTS, {}, "run paused by operator"],
    ["run_resumed", "s1", TEXTS, {}, "run resumed by operator"],
    ["run_cancelled", "s1", TEXTS, {}, "run cancelled by operator"],
    ["task_retry_requested", " s0 ", TEXTS, { s0: "runnable" }, "retry requested for step `s0`"],
    ["task_retry_requested", " nope ", null, {}, "retry requested for step `nope`"],
    ["task_retry_requested", null, TEXTS, {}, null],
    ["task_retry_requested", "  ", null, {}, null],
    ["revision_requested", "s1", { feedback: " shorter " }, {}, "revision requested: shorter"],
    ["revision_requested", "s1", w, {}, "revision requested by operator"],
    ["revision_requested", null, { feedback: "\n" }, {}, "revision requested by operator"],
    ["revision_requested", null, { feedback: 1 }, {}, "revision requested by operator"],
    ...(
      [
        ["step_started", "in_progress"],
        ["task_started", "in_progress"],
        ["step_completed", "done"],
        ["task_completed", "done"],
        ["step_done", "done"],
        ["step_failed", "failed"],
        ["task_failed", "failed"],
      ] as const
    ).flatMap(([type, status]): [string, string | null, unknown, Changes, string | null][] => [
      [type, "s1", null, { s1: status }, null],
      [type, " s1 ", w, { s1: status }, "w"],
      [type, "s1", { step_status: "BLOCKED" }, { s1: "blocked" }, null],
      [type, "s1", { step_status: "nonsense" }, { s1: status }, null],
      [type, null, w, {}, "w"],
      [type, "nope", null, {}, null],
      [type, "S1", null, {}, null],
    ]),
    ["note", "s1", null, {}, null],
    ["note", "s1", { ...w, ...doing }, { s1: "in_progress" }, "w"],
    ["note", "s1", { step_status: "nonsense" }, {}, null],
    ["note", null, doing, {}, null],
    ["note", "nope", doing, {}, null],
    ["", "s2", { stepStatus: "done" }, { s2: "done" }, null],
    ["run_completed", "s2", w, {}, "w"],
    ["todo_synced", "s2", { steps: [], why_next_step: "w", run: { status: "failed" } }, {}, "w"],
    ["workspace_mismatch", "s2", { run: aRun() }, {}, null],
  ];
  it.each(rows)("03§2 %j, step %j, payload %j → steps %j, why %j", (type, step_id, payload, changes, why) => {
    for (const from of ["running", "completed"] as const) {
      const input = { type, status: "running" as const, payload, ...(step_id !== null && { step_id }) };
      const after = applyRunEvent(runIn(from), input, NOW);
      expect(after.steps).toEqual(stepsOf({ ...STEPS, ...changes }));
      expect(after.why_next_step).toBe(why ?? "before");
    }
  });
});
