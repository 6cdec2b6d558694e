import { describe, expect, it } from "vitest";
import type { CommandOf, TaskRow } from "../../src/domain/command.ts";
import { recall } from "../../src/domain/outcome.ts";
import { concurrencyLimit } from "../../src/domain/run.ts";
import type { Task } from "../../src/protocol/task.ts";
import { DEFAULT_RETRY, type RunSettings, type TaskDefaults } from "../../src/protocol/task-life.ts";
import { aContext, accepted, aRow, batch, committed, memoryRun, refused } from "../support/builders.ts";

const put = (settings: RunSettings, expected_revision?: number): CommandOf<"put_settings"> => ({
  op: "put_settings",
  settings,
  expected_revision,
});

type Door = "native" | "context";

/** The task that a row becomes in a run with these defaults. */
function made(row: Partial<TaskRow>, task_defaults: TaskDefaults, door: Door = "native"): Task {
  const run = memoryRun({ settings: { task_defaults } });
  committed({ ...batch(aRow({ id: "t", ...row })), ...(door === "native" && { strict: true }) }, run);
  const task = run.task("t");
  if (task === null) throw new Error("no task");
  return task;
}

describe("the settings of a run", () => {
  it("claims: are replaced whole, with a commit that says them, and gone when empty", () => {
    const run = memoryRun();
    committed(put({ grace_ms: 5 }), run);
    const [commit] = committed(put({ task_defaults: { max_attempts: 2 } }), run);
    expect(commit).toMatchObject({
      event: {
        type: "context.run.settings_set",
        payload: { settings: { task_defaults: { max_attempts: 2 } } },
      },
      patch: null,
    });
    expect(run.run().settings).toEqual({ task_defaults: { max_attempts: 2 } });
    committed(put({}), run);
    expect(run.run()).not.toHaveProperty("settings");
  });

  it("claims: a repeat is answered with what was set, not with what holds now", () => {
    const run = memoryRun();
    const { commits, outcome } = accepted(put({ grace_ms: 5 }), run);
    expect(recall(put({ grace_ms: 5 }), commits, {}, aContext())).toEqual(outcome);
  });

  it("claims: an expected revision must be the run's", () => {
    const run = memoryRun({ revision: 4 });
    expect(refused(put({}, 3), run)).toMatchObject({ code: "RUN_REVISION_MISMATCH", revision: 4 });
    committed(put({ grace_ms: 1 }, 4), run);
  });

  it("claims: have a bound", () => {
    const limits = Object.fromEntries(Array.from({ length: 70 }, (_, n) => [`${n}${"k".repeat(999)}`, 1]));
    expect(refused(put({ concurrency_limits: limits }), memoryRun())).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: "run_settings_bytes",
    });
  });

  it("claims: a client's event of that type changes nothing", () => {
    const run = memoryRun();
    committed(
      {
        op: "append_event",
        type: "context.run.settings_set",
        status: "running",
        payload: { settings: { grace_ms: 1 } },
      },
      run,
    );
    expect(run.run()).not.toHaveProperty("settings");
  });

  it("claims: a key without a limit has one place, whatever it is called", () => {
    const settings = { concurrency_limits: { a: 3, none: 0 } };
    expect(
      ["a", "none", "b", "constructor", "__proto__"].map((key) => concurrencyLimit(settings, key)),
    ).toEqual([3, 0, 1, 1, 1]);
    expect(concurrencyLimit(undefined, "a")).toBe(1);
  });
});

describe("what a new task is told of its life", () => {
  const RETRY = { ...DEFAULT_RETRY, base_ms: 7 };

  it.each<[string, Partial<TaskRow>, TaskDefaults, Partial<Task>]>([
    ["nothing", {}, {}, { max_attempts: 3 }],
    ["the row's cap", { max_attempts: 5 }, {}, { max_attempts: 5, retry: DEFAULT_RETRY }],
    ["the row's policy", { retry: RETRY }, {}, { max_attempts: 3, retry: RETRY }],
    ["the run's cap", {}, { max_attempts: 2 }, { max_attempts: 2, retry: DEFAULT_RETRY }],
    ["the run's policy", {}, { retry: RETRY }, { max_attempts: 3, retry: RETRY }],
    [
      "the row's before the run's",
      { retry: RETRY, max_attempts: 9, clocks: { run_within_ms: 1 }, on_dependency_failure: "wait" },
      {
        retry: DEFAULT_RETRY,
        max_attempts: 2,
        clocks: { finish_within_ms: 2 },
        on_dependency_failure: "fail",
      },
      { retry: RETRY, max_attempts: 9, clocks: { run_within_ms: 1 }, on_dependency_failure: "wait" },
    ],
    [
      "no clocks where the row says none",
      { clocks: {} },
      { clocks: { run_within_ms: 1 } },
      { max_attempts: 3 },
    ],
    [
      "the rest of the run's",
      { concurrency_key: " k " },
      { clocks: { run_within_ms: 1 }, on_dependency_failure: "skip" },
      { clocks: { run_within_ms: 1 }, on_dependency_failure: "skip", concurrency_key: "k" },
    ],
  ])("claims: %s", (_title, row, defaults, expected) => {
    const task = made(row, defaults);
    const { retry, clocks, on_dependency_failure, concurrency_key, max_attempts } = task;
    const told = { retry, clocks, on_dependency_failure, concurrency_key, max_attempts };
    expect(told).toEqual({ max_attempts: 3, ...expected });
  });

  it("claims: on /context a row's cap is the contract's, but the run's defaults hold for it too", () => {
    expect(made({ max_attempts: 5 }, {}, "context")).not.toHaveProperty("retry");
    expect(made({ max_attempts: 5 }, { retry: RETRY }, "context")).toMatchObject({
      max_attempts: 5,
      retry: RETRY,
    });
  });

  it("claims: settings that change later leave tasks that are there alone", () => {
    const run = memoryRun({ settings: { task_defaults: { max_attempts: 2 } } });
    committed(batch(aRow({ id: "t" })), run);
    const before = run.task("t");
    committed(put({}), run);
    expect(run.task("t")).toEqual(before);
  });
});
