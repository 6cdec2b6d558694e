import { describe, expect, it, vi } from "vitest";
import type { Command, TaskRow } from "../../src/domain/command.ts";
import { WORK_STATUSES, type WorkStatus } from "../../src/protocol/status.ts";
import type { Task } from "../../src/protocol/task.ts";
import {
  accepted,
  aRow,
  aTask,
  batch,
  committed,
  leasedTo,
  memoryRun,
  NOW,
  refused,
  transition,
} from "../support/builders.ts";

/** A fresh task as a row becomes it, made at {@link NOW}. */
const created = (members: Partial<Task>): Task => aTask({ created_ts: NOW, updated_ts: NOW, ...members });

/** The task that one row becomes on an empty board. */
function made(members: Partial<TaskRow>): Task {
  const run = memoryRun();
  committed(batch(aRow(members)), run);
  const [task] = run.run().tasks;
  if (task === undefined) throw new Error("no task");
  return task;
}

describe("one row", () => {
  it("04§2 the contract's example: exact task, event and patch", () => {
    const run = memoryRun({ status: "blocked" });
    const row = aRow({ id: "t1", task_type: "fix-proposal", command_id: "c1", priority: 1 });
    const { commits, outcome } = accepted(batch(row), run);
    const [commit] = commits;
    const task = {
      id: "t1",
      task_type: "fix_proposal",
      payload: { execution_mode: "strict_nonwriting", task_kind: "fix_proposal" },
      status: "pending",
      depends_on_task_ids: [],
      decision_ids: [],
      artifact_ids: [],
      priority: 1,
      attempt: 0,
      max_attempts: 3,
      task_rev: 1,
      created_ts: NOW,
      updated_ts: NOW,
    };
    expect(commits).toHaveLength(1);
    expect(commit?.event).toStrictEqual({
      event_id: expect.stringMatching(/^evt-[0-9a-f-]{36}$/),
      run_id: "r",
      seq: 1,
      ts_ms: NOW,
      type: "context.task.created",
      status: "blocked",
      run_status: "blocked",
      revision: 2,
      step_id: "t1",
      task_id: "t1",
      command_id: "c1",
      payload: {
        task_id: "t1",
        task_type: "fix_proposal",
        task_rev: 1,
        workflow_id: null,
        task,
        patch_seq: 1,
      },
    });
    expect(commit?.patch).toMatchObject({ op: "add_task", seq: 1, source_event_seq: 1, ts_ms: NOW });
    expect(commit?.patch?.payload).toStrictEqual({ ...task, command_id: "c1" });
    expect(outcome).toStrictEqual({
      op: "create_tasks",
      tasks: [task],
      patches: [commit?.patch],
      deduped: [],
    });
  });

  const rows: [Partial<TaskRow>, Partial<Task>][] = [
    [{ id: " t " }, { id: "t" }],
    [{ task_type: "  free " }, { task_type: "free" }],
    [{ payload: { any: ["thing"] } }, { payload: { any: ["thing"] } }],
    [
      { workflow_id: " w ", workflow_node_id: " n", parent_task_id: "p " },
      { workflow_id: "w", workflow_node_id: "n", parent_task_id: "p" },
    ],
    [{ workflow_id: " ", workflow_node_id: "", parent_task_id: "\t" }, {}],
    [{ depends_on_task_ids: [" a ", "", "b", " ", "a"] }, { depends_on_task_ids: ["a", "b", "a"] }],
    [
      { decision_ids: [" d ", ""], artifact_ids: [" a", "a"] },
      { decision_ids: [" d ", ""], artifact_ids: [" a", "a"] },
    ],
    [
      { priority: -7, max_attempts: 0 },
      { priority: -7, max_attempts: 0 },
    ],
  ];
  it.each(rows)("04§1 %j is stored as %j", (row, task) => {
    expect(made({ id: "t", ...row })).toStrictEqual(created(task));
  });

  it.each(WORK_STATUSES)("D59 the status %s may be chosen", (status) => {
    expect(made({ id: "t", status })).toStrictEqual(created({ status }));
  });

  it.each([undefined, "", "  "])("01§2 without an id (%j) the engine makes one", (id) => {
    expect(made(id === undefined ? {} : { id }).id).toMatch(/^task-[0-9a-f]{8}-[0-9a-f]{4}-4/);
  });

  it("04§2 the workflow is named in the event", () => {
    const [commit] = committed(batch(aRow({ workflow_id: " w " })), memoryRun());
    expect(commit?.event.payload).toMatchObject({ workflow_id: "w" });
  });

  it.each(["", "  "])("D45 a blank command id (%j) counts as absent", (command_id) => {
    const [commit, second] = committed(batch(aRow({ command_id }), aRow({ command_id })), memoryRun());
    expect(commit?.event).not.toHaveProperty("command_id");
    expect(commit?.patch?.payload).not.toHaveProperty("command_id");
    expect(second).toBeDefined();
  });
});

describe("a batch", () => {
  it("I1 I3 one commit per row, in order, on each other's counters", () => {
    const run = memoryRun({ revision: 8, last_event_seq: 7 });
    const commits = committed(batch(aRow({ id: "b" }), aRow({ id: "a" }), aRow({ id: "c" })), run);
    expect(commits.map(({ event }) => [event.seq, event.revision, event.task_id])).toEqual([
      [8, 9, "b"],
      [9, 10, "a"],
      [10, 11, "c"],
    ]);
    expect(run.run().tasks.map((task) => task.id)).toEqual(["b", "a", "c"]);
    expect(run.run()).toMatchObject({ revision: 11, last_event_seq: 10, updated_at_ms: NOW });
  });

  it("04§2 an empty one is malformed", () => {
    expect(refused(batch(), memoryRun())).toMatchObject({
      code: "FIELD_INVALID",
      issues: [{ field: "tasks", rule: "non_empty" }],
    });
  });

  /** The bad row, and the refusal of the batch good–bad–good. */
  const bad: [Partial<TaskRow>, Record<string, unknown>][] = [
    [
      { task_type: " " },
      { code: "FIELD_INVALID", issues: [{ field: "tasks[1].task_type", rule: "non_blank" }] },
    ],
    [
      { id: " x ", payload: 5 },
      { code: "TASK_CONTRACT_INVALID", task_id: " x " },
    ],
    [{ payload: [] }, { code: "TASK_CONTRACT_INVALID", task_id: "" }],
    [{ task_type: "implementation" }, { code: "TASK_OUTPUT_TARGET_REQUIRED", task_id: "" }],
    [{ id: "done" }, { code: "TASK_EXISTS", error: "task already exists", task_id: "done" }],
    [
      { id: "x", depends_on_task_ids: ["x"] },
      { code: "TASK_DEPENDENCY_CYCLE", task_id: "x", cycle: ["x", "x"] },
    ],
    [
      { payload: { a: "x".repeat(256 * 1024) } },
      { code: "LIMIT_EXCEEDED", limit_name: "task_payload_bytes" },
    ],
  ];
  it.each(bad)("D21 one bad row refuses all: %j", (row, refusal) => {
    const run = memoryRun({}, [aTask({ id: "done", status: "done" })]);
    const rows = [aRow({ id: "a" }), aRow(row), aRow({ id: "b" })];
    expect(refused(batch(...rows), run)).toMatchObject(
      refusal.code === "FIELD_INVALID" ? refusal : { ...refusal, row: 1 },
    );
  });

  it("04§2 the first bad row decides the refusal", () => {
    const blank = aRow({ task_type: "" });
    const wrong = aRow({ payload: 1 });
    expect(refused(batch(blank, wrong), memoryRun())).toMatchObject({ code: "FIELD_INVALID" });
    expect(refused(batch(wrong, blank), memoryRun())).toMatchObject({ code: "TASK_CONTRACT_INVALID" });
  });

  it("design: a run takes 200,000 tasks and no more", () => {
    const run = memoryRun();
    const held = vi.spyOn(run, "taskCount").mockReturnValue(199_999);
    expect(accepted(batch(aRow({ id: "last" })), run).commits).toHaveLength(1);
    const refusal = { code: "LIMIT_EXCEEDED", limit_name: "tasks_per_run", limit: 200_000, actual: 200_001 };
    expect(refused(batch(aRow({ id: "last" }), aRow({ id: "over" })), run)).toMatchObject(refusal);
    held.mockReturnValue(200_000);
    expect(refused(batch(aRow({ id: "over" })), run)).toMatchObject({ ...refusal, row: 0 });
  });

  it("design: a task that takes the place of another needs no room", () => {
    const run = memoryRun({}, [aTask()]);
    const held = vi.spyOn(run, "taskCount").mockReturnValue(199_999);
    expect(accepted(batch(aRow({ id: "t" }), aRow({ id: "last" })), run).commits).toHaveLength(2);
    held.mockReturnValue(200_000);
    expect(accepted(batch(aRow({ id: "t" })), run).commits).toHaveLength(1);
  });

  it("04§2 500 rows are taken, 501 refused", () => {
    const rows = Array.from({ length: 500 }, () => aRow());
    expect(accepted(batch(...rows), memoryRun()).commits).toHaveLength(500);
    expect(refused(batch(...rows, aRow()), memoryRun())).toEqual({
      code: "LIMIT_EXCEEDED",
      error: "tasks_per_batch is limited to 500, got 501",
      limit_name: "tasks_per_batch",
      limit: 500,
      actual: 501,
    });
  });
});

describe("command ids of rows", () => {
  it("04§5 D41 a used one drops its row, unread, and is named", () => {
    const run = memoryRun();
    committed(batch(aRow({ id: "a", command_id: "c1" })), run);
    const again = [aRow({ id: "a", command_id: "c1", payload: 5 }), aRow({ id: "b", command_id: "c2" })];
    const { commits, outcome } = accepted(batch(...again), run);
    expect(commits.map(({ event }) => [event.task_id, event.command_id])).toEqual([["b", "c2"]]);
    expect(outcome).toMatchObject({ deduped: ["c1"], tasks: [{ id: "b" }], patches: [{ op: "add_task" }] });
  });

  it("04§5 D42 of two rows with one id in a batch the later is dropped, and named", () => {
    const run = memoryRun();
    const rows = ["x", "y"].map((id) => aRow({ id, command_id: "c1" }));
    const { commits, outcome } = accepted(batch(...rows), run);
    expect(commits.map(({ event }) => event.task_id)).toEqual(["x"]);
    expect(outcome).toMatchObject({ deduped: ["c1"] });
  });

  it("04§2 when every row is dropped nothing is committed", () => {
    const run = memoryRun();
    committed(batch(aRow({ command_id: "c1" })), run);
    expect(accepted(batch(aRow({ command_id: "c1" })), run)).toEqual({
      ok: true,
      commits: [],
      outcome: { op: "create_tasks", tasks: [], patches: [], deduped: ["c1"] },
    });
  });

  it("04§5 an id is compared exactly, and one used by another operation counts", () => {
    const run = memoryRun({}, [aTask()]);
    committed({ op: "claim_task", agent_id: "ann" }, run, undefined, "c1");
    expect(accepted(batch(aRow({ command_id: "c1" })), run).commits).toHaveLength(0);
    expect(
      accepted(batch(aRow({ command_id: " c1" }), aRow({ command_id: "C1" })), run).commits,
    ).toHaveLength(2);
  });

  it("04§2 a blank task_type is malformed even in a row that would be dropped", () => {
    const run = memoryRun();
    committed(batch(aRow({ command_id: "c1" })), run);
    expect(refused(batch(aRow({ command_id: "c1", task_type: "" })), run)).toMatchObject({
      code: "FIELD_INVALID",
    });
  });
});

describe("an id that exists", () => {
  const gives: Record<WorkStatus, boolean> = {
    pending: true,
    runnable: true,
    blocked: true,
    failed: true,
    in_progress: false,
    done: false,
  };
  it.each(WORK_STATUSES)("D50 a task that is %s, unleased and leased", (status) => {
    const old = aTask({
      status,
      attempt: 2,
      task_rev: 9,
      last_error: "e",
      assigned_agent: "ann",
      priority: 5,
    });
    const row = aRow({ id: "t", payload: { new: true } });
    const idle = memoryRun({}, [old, aTask({ id: "last" })]);
    const leased = memoryRun({}, [{ ...old, ...leasedTo("ann", "lease-1", 1) }]);
    const exists = { code: "TASK_EXISTS", error: "task already exists", task_id: "t", row: 0 };
    expect(refused(batch(row), leased)).toEqual(exists);
    expect(refused({ ...batch(row), replace_existing: false }, idle)).toEqual(exists);
    if (!gives[status]) {
      expect(refused(batch(row), idle)).toEqual(exists);
      return;
    }
    committed(batch(row), idle);
    expect(idle.run().tasks).toStrictEqual([created({ payload: { new: true } }), aTask({ id: "last" })]);
  });

  it("D50 twice in one batch: the later row replaces an idle one, both are committed", () => {
    const run = memoryRun();
    const rows = [aRow({ id: "a", priority: 1 }), aRow({ id: "b" }), aRow({ id: "a", priority: 2 })];
    const { outcome } = accepted(batch(...rows), run);
    expect(outcome).toMatchObject({ tasks: [{ id: "a" }, { id: "b" }, { id: "a" }] });
    committed(batch(...rows), run);
    expect(run.run().tasks.map((task) => [task.id, task.priority, task.task_rev])).toEqual([
      ["a", 2, 1],
      ["b", 0, 1],
    ]);
    expect(refused({ ...batch(...rows), replace_existing: false }, memoryRun())).toMatchObject({
      task_id: "a",
    });
    const taken = [aRow({ id: "a", status: "done" }), aRow({ id: "a" })];
    expect(refused(batch(...taken), memoryRun())).toMatchObject({ code: "TASK_EXISTS", task_id: "a" });
  });
});

describe("a caller that is bound to types of tasks", () => {
  const run = () => memoryRun({}, [aTask({ task_type: "mine" }), aTask({ id: "u", task_type: "other" })]);
  const task_types = ["mine", "ours"];
  const row = (id: string, task_type: string) => ({ ...batch(aRow({ id, task_type })), task_types });
  const move = (task_id: string) => transition("status", { task_id, status: "blocked", task_types });

  it.each<[string, Command]>([
    ["creates none of another", row("new", "other")],
    ["takes the place of none of another", row("u", "mine")],
    ["moves none of another", move("u")],
  ])("%s", (_, command) => {
    expect(refused(command, run())).toMatchObject({
      code: "TOKEN_BOUND",
      bound: "task_types",
      allowed: task_types,
    });
  });

  it("does all that with those of its own", () => {
    for (const command of [row("new", "ours"), row("t", "ours"), move("t")]) {
      expect(accepted(command, run()).commits).toHaveLength(1);
    }
  });
});
