import { describe, expect, it } from "vitest";
import type { CommandOf } from "../../src/domain/command.ts";
import { MAX_TASKS_PER_RUN } from "../../src/protocol/limits.ts";
import type { Run } from "../../src/protocol/run.ts";
import { RUN_STATUSES } from "../../src/protocol/status.ts";
import type { Task } from "../../src/protocol/task.ts";
import {
  accepted,
  aRun,
  aTask,
  committed,
  leasedTo,
  maskToken,
  memoryRun,
  NOW,
  refused,
  stepsOf,
} from "../support/builders.ts";

/** A replacement: the run as creation leaves it, with these members. */
function put(
  members: Partial<Run> = {},
  options: { expected_revision?: number } = {},
): CommandOf<"replace_run"> {
  return { op: "replace_run", run: { ...aRun(), tasks: [], ...members }, ...options };
}

describe("replacing a run", () => {
  it("02§2.4 everything is the body's but the counters and the tenant", () => {
    const run = memoryRun({ revision: 5, last_event_seq: 4, status: "running", started_at_ms: 2 }, [aTask()]);
    const body: Partial<Run> = {
      run_type: "other",
      tenant_context: { org_id: "evil", workspace_id: "evil", source: "explicit" },
      status: "paused",
      objective: "new",
      workspace: { workspace_id: "", canonical_path: "/new", lease_epoch: 7 },
      steps: stepsOf({ a: "done" }),
      tasks: [aTask({ id: "x", task_rev: 40 })],
      why_next_step: "because",
      revision: 1_000,
      last_event_seq: 2_000,
      created_at_ms: 3,
      updated_at_ms: NOW + 99,
      last_error: "e",
      source_metadata: { a: 1 },
    };
    const { commits, outcome } = accepted(put(body), run, undefined, "k");
    const [commit] = commits;
    const stored = { ...aRun(), ...body, tenant_context: aRun().tenant_context };
    expect(commit?.patch).toBeNull();
    expect(commit?.event).toMatchObject({
      type: "context.run.replaced",
      status: "paused",
      run_status: "paused",
      seq: 5,
      revision: 6,
      command_id: "k",
    });
    expect(commit?.event.payload).toEqual({ run: stored });
    expect(outcome).toEqual({ op: "replace_run", event: commit?.event });
    for (const each of commits) run.apply(each);
    expect(run.run()).toEqual({ ...stored, revision: 6, last_event_seq: 5, updated_at_ms: NOW });
  });

  it("05§5 notes and their revision stay; the tasks of the board are the run's", () => {
    const run = memoryRun({}, [aTask()]);
    committed(
      { op: "patch_blackboard", patch_op: "add_fact", payload: { id: "f", ts_ms: 1, text: "t" } },
      run,
    );
    const board = run.blackboard();
    committed(put({ tasks: [aTask({ id: "b" }), aTask({ id: "a" })] }), run);
    expect(run.blackboard()).toEqual({ ...board, tasks: [aTask({ id: "b" }), aTask({ id: "a" })] });
  });

  it.each(RUN_STATUSES)("D66 a body that says %s: ended_at_ms only at an end, its own or now", (status) => {
    const isOver = ["failed", "completed", "cancelled"].includes(status);
    for (const before of ["running", "completed"] as const) {
      const silent = memoryRun({ status: before });
      committed(put({ status }), silent);
      expect(silent.run().ended_at_ms).toBe(isOver ? NOW : undefined);
      const own = memoryRun({ status: before });
      committed(put({ status, ended_at_ms: 77 }), own);
      expect(own.run().ended_at_ms).toBe(isOver ? 77 : undefined);
    }
  });

  it("D17 an expected revision must be the current one; without it the last writer wins", () => {
    const run = memoryRun({ revision: 5, last_event_seq: 4 });
    const stale = { code: "RUN_REVISION_MISMATCH", error: "run is at revision 5, not 4", revision: 5 };
    expect(refused(put({}, { expected_revision: 4 }), run)).toEqual(stale);
    expect(refused(put({}, { expected_revision: 6 }), run)).toMatchObject({ code: "RUN_REVISION_MISMATCH" });
    expect(committed(put({}, { expected_revision: 5 }), run)).toHaveLength(1);
    expect(committed(put({ revision: 1 }), run)).toHaveLength(1);
    expect(run.run().revision).toBe(7);
  });

  it("D05 tokens are stored as fingerprints; a fingerprint that was read is put back as it is", () => {
    const held = aTask({ id: "a", status: "in_progress", ...leasedTo("ann", "lease-1") });
    const run = memoryRun({}, [held]);
    const inClear = { ...held, lease_token: "lease-1" };
    const made = aTask({ id: "b", status: "in_progress", lease_token: "lease-2" });
    const commits = committed(put({ tasks: [held] }), run);
    expect(run.run().tasks).toStrictEqual([held]);
    commits.push(...committed(put({ tasks: [inClear, made] }), run));
    expect(run.run().tasks).toStrictEqual([held, { ...made, lease_token: maskToken("lease-2") }]);
    expect(JSON.stringify(commits)).not.toContain("lease-");
  });

  it.each(["x", ""])("D05 a token that only has a fingerprint in it is a token (%j before it)", (before) => {
    const token = `${before}${maskToken("lease-1")}${before === "" ? "x" : ""}`;
    const run = memoryRun();
    committed(put({ tasks: [aTask({ status: "in_progress", lease_token: token })] }), run);
    expect(run.task("t")?.lease_token).toBe(maskToken(token));
  });

  it("02§2.4 settings are the body's, or the run's where the body has none", () => {
    const settings = { grace_ms: 5 };
    const settingsAfter = (members: Partial<Run>) => {
      const run = memoryRun({ settings });
      committed(put(members), run);
      return run.run().settings;
    };
    expect(settingsAfter({})).toEqual(settings);
    expect(settingsAfter({ settings: { grace_ms: 7 } })).toEqual({ grace_ms: 7 });
  });

  const times = (count: number) => new Array<Task>(count).fill(aTask());
  const tooMany = Array.from({ length: 1_001 }, (_, index) => ({
    step_id: `${index}`,
    title: "",
    status: "done" as const,
  }));
  const bad: [string, Partial<Run>, Record<string, unknown>][] = [
    [
      "another run's id",
      { run_id: "other" },
      { code: "FIELD_INVALID", issues: [{ field: "run_id", rule: "same_as_path" }] },
    ],
    [
      "a task id twice",
      { tasks: [aTask(), aTask({ id: "x" }), aTask()] },
      { code: "FIELD_INVALID", issues: [{ field: "tasks", rule: "unique_ids" }] },
    ],
    [
      "a dependency cycle",
      {
        tasks: [
          aTask({ id: "a", depends_on_task_ids: ["b"] }),
          aTask({ id: "b", depends_on_task_ids: ["a"] }),
        ],
      },
      { code: "TASK_DEPENDENCY_CYCLE", task_id: "a", cycle: ["a", "b", "a"] },
    ],
    [
      "1,001 steps",
      { steps: tooMany },
      { code: "LIMIT_EXCEEDED", limit_name: "steps_per_run", limit: 1_000, actual: 1_001 },
    ],
    [
      "200,001 tasks",
      { tasks: times(MAX_TASKS_PER_RUN + 1) },
      { code: "LIMIT_EXCEEDED", limit_name: "tasks_per_run", limit: 200_000, actual: 200_001 },
    ],
    [
      "a task id 200,000 times",
      { tasks: times(MAX_TASKS_PER_RUN) },
      { code: "FIELD_INVALID", issues: [{ field: "tasks", rule: "unique_ids" }] },
    ],
    [
      "settings larger than a run may have",
      { settings: { concurrency: { keys: { ["k".repeat(64 * 1024)]: 1 } } } as NonNullable<Run["settings"]> },
      { code: "LIMIT_EXCEEDED", limit_name: "run_settings_bytes", limit: 65_536 },
    ],
    [
      "a task larger than two rows hold",
      { tasks: [aTask(), aTask({ id: "x", payload: "x".repeat(900_000) })] },
      { code: "LIMIT_EXCEEDED", limit_name: "task_bytes", limit: 900_000 },
    ],
    [
      "a header larger than its row",
      { objective: "x".repeat(1024 * 1024) },
      { code: "LIMIT_EXCEEDED", limit_name: "run_header_bytes", limit: 1_048_576 },
    ],
    [
      "more than a row holds",
      { objective: "x".repeat(1_900_000) },
      { code: "LIMIT_EXCEEDED", limit_name: "replaced_run_bytes", limit: 1_900_000 },
    ],
  ];
  it.each(bad)("02§2.4 refuses %s", (_, members, refusal) => {
    expect(refused(put(members), memoryRun())).toMatchObject(refusal);
  });

  it("02§2.4 1,000 steps are taken", () => {
    expect(committed(put({ steps: tooMany.slice(1) }), memoryRun())).toHaveLength(1);
  });
});
