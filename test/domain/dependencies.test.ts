import { describe, expect, it } from "vitest";
import type { CommandOf } from "../../src/domain/command.ts";
import { recall } from "../../src/domain/outcome.ts";
import { MAX_DEPENDENCIES_PER_TASK } from "../../src/protocol/limits.ts";
import type { Task } from "../../src/protocol/task.ts";
import {
  aContext,
  accepted,
  aRow,
  aTask,
  batch,
  committed,
  leasedTo,
  maskToken,
  memoryRun,
  NOW,
  refused,
} from "../support/builders.ts";

const change = (
  members: Partial<CommandOf<"change_dependencies">> = {},
): CommandOf<"change_dependencies"> => ({
  op: "change_dependencies",
  task_id: "t",
  add: [],
  remove: [],
  ...members,
});

const on = (id: string, ...depends_on_task_ids: string[]) => aTask({ id, depends_on_task_ids });

describe("claims: dependencies of new tasks by the strict rules", () => {
  const rows = [aRow({ id: "a" }), aRow({ id: "b", depends_on_task_ids: ["a", "x", " a "] })];

  it("one that is named twice is refused where it stands", () => {
    expect(refused({ ...batch(...rows), strict: true }, memoryRun())).toMatchObject({
      code: "FIELD_INVALID",
      row: 1,
      issues: [{ field: "tasks[1].depends_on_task_ids[2]", rule: "unique" }],
    });
  });

  it("by the contract's rules it is not", () => {
    expect(accepted(batch(...rows), memoryRun()).commits).toHaveLength(2);
  });

  it("those that no task has are told, on the event of their task, and again when the answer is repeated", () => {
    const command = {
      ...batch(
        aRow({ id: "a", depends_on_task_ids: ["later", "x", "there"] }),
        aRow({ id: "b", depends_on_task_ids: ["y", "x", "a"] }),
        aRow({ id: "later" }),
        aRow({ depends_on_task_ids: ["later"] }),
      ),
      strict: true,
    } as const;
    const { commits, outcome } = accepted(command, memoryRun({}, [aTask({ id: "there" })]));
    const told = commits.map(
      ({ event }) => (event.payload as Record<string, unknown>).unknown_dependency_ids,
    );
    expect(told).toEqual([["x"], ["y", "x"], undefined, undefined]);
    expect(outcome).toMatchObject({ unknown_dependency_ids: ["x", "y"] });
    const context = { leaseToken: () => "", maskToken };
    expect(recall(command, commits, {}, context)).toEqual(outcome);
  });

  it("by the contract's rules nothing is told", () => {
    const { commits, outcome } = accepted(batch(aRow({ depends_on_task_ids: ["x"] })), memoryRun());
    expect(outcome).not.toHaveProperty("unknown_dependency_ids");
    expect(commits[0]?.event.payload).not.toHaveProperty("unknown_dependency_ids");
  });

  it("a cycle is refused with all of its path", () => {
    const board = memoryRun({}, [on("a", "b"), on("b", "c"), on("c", "d")]);
    const command = { ...batch(aRow({ id: "d", depends_on_task_ids: ["x", "a"] })), strict: true } as const;
    expect(refused(command, board)).toMatchObject({
      code: "TASK_DEPENDENCY_CYCLE",
      task_id: "d",
      cycle: ["d", "a", "b", "c", "d"],
    });
  });
});

describe("claims: edges are changed while a task waits", () => {
  it.each(["pending", "runnable", "blocked"] as const)("%s: exact task, event and patch", (status) => {
    const board = () =>
      memoryRun({}, [aTask({ status, depends_on_task_ids: ["a", "b"] }), aTask({ id: "c" })]);
    const command = change({ add: ["c", "x"], remove: ["a"] });
    const run = board();
    const [commit, ...others] = committed(command, run, aContext(), "key");
    expect(others).toEqual([]);
    const depends_on_task_ids = ["b", "c", "x"];
    const task = aTask({ status, depends_on_task_ids, task_rev: 2, updated_ts: NOW });
    expect(run.task("t")).toEqual(task);
    expect(commit?.event).toMatchObject({ type: "context.task.updated", task_id: "t", command_id: "key" });
    expect(commit?.event.payload).toEqual({
      task_id: "t",
      task_rev: 2,
      workflow_id: null,
      status,
      dependencies_added: ["c", "x"],
      dependencies_removed: ["a"],
      unknown_dependency_ids: ["x"],
      task,
      patch_seq: 1,
    });
    expect(commit?.patch).toMatchObject({
      op: "update_task_state",
      payload: { task_id: "t", status, task_rev: 2, depends_on_task_ids, command_id: "key" },
    });
    const { outcome, commits } = accepted(command, board());
    expect(outcome).toEqual({ op: "change_dependencies", task, unknown_dependency_ids: ["x"] });
    expect(recall(command, commits, {}, { leaseToken: () => "", maskToken })).toEqual(outcome);
  });

  it.each(["in_progress", "done", "failed"] as const)("%s: not any more", (status) => {
    const run = memoryRun({}, [aTask({ status })]);
    expect(refused(change({ add: ["a"] }), run)).toMatchObject({
      code: "TASK_TRANSITION_INVALID",
      current_status: status,
    });
  });

  const refusals: [string, Partial<CommandOf<"change_dependencies">>, Record<string, unknown>][] = [
    ["nothing", {}, { issues: [{ field: "add", rule: "required" }] }],
    ["one twice", { add: ["x", "y", "x"] }, { issues: [{ field: "add[2]", rule: "unique" }] }],
    ["one that is there", { add: ["x", "a"] }, { issues: [{ field: "add[1]", rule: "unique" }] }],
    ["one in both", { add: ["a"], remove: ["a"] }, { issues: [{ field: "add[0]", rule: "unique" }] }],
    ["without one twice", { remove: ["a", "a"] }, { issues: [{ field: "remove[1]", rule: "unique" }] }],
    [
      "without one that is not there",
      { remove: ["a", "x"] },
      { issues: [{ field: "remove[1]", rule: "present" }] },
    ],
    ["itself", { add: ["t"] }, { code: "TASK_DEPENDENCY_CYCLE", cycle: ["t", "t"] }],
    [
      "one that waits for it",
      { add: ["far"] },
      { code: "TASK_DEPENDENCY_CYCLE", cycle: ["t", "far", "near", "t"] },
    ],
    [
      "too many",
      { add: Array.from({ length: 10_000 }, (_, index) => `x${index}`) },
      { code: "LIMIT_EXCEEDED" },
    ],
    ["of another revision", { add: ["x"], expected_task_rev: 7 }, { code: "TASK_REV_MISMATCH", task_rev: 1 }],
    ["of another task", { task_id: "nope", add: ["x"] }, { code: "TASK_NOT_FOUND" }],
    ["of a type that is not the caller's", { add: ["x"], task_types: ["other"] }, { code: "TOKEN_BOUND" }],
    ["without proof", { add: ["x"], proof: { task_id: "mine" } }, { code: "TASK_LEASE_REQUIRED" }],
    [
      "with a stale proof",
      { add: ["x"], proof: { task_id: "mine", lease_token: "old" } },
      { code: "TASK_LEASE_INVALID" },
    ],
  ];
  it.each(refusals)("%s is refused", (_, members, refusal) => {
    const mine: Partial<Task> = { status: "in_progress", ...leasedTo("ann", "lease-1"), fence: 2 };
    const run = memoryRun({}, [
      on("t", "a"),
      on("near", "t"),
      on("far", "near"),
      aTask({ id: "mine", ...mine }),
    ]);
    expect(refused(change(members), run)).toMatchObject({ code: "FIELD_INVALID", ...refusal });
  });

  it("as many as a task may have are taken, those that go made room for", () => {
    const many = (count: number, from = 0) => Array.from({ length: count }, (_, index) => `x${from + index}`);
    const full = () => memoryRun({}, [on("t", ...many(MAX_DEPENDENCIES_PER_TASK))]);
    const swap = change({ add: ["new"], remove: ["x0"] });
    expect(accepted(swap, full()).commits).toHaveLength(1);
    expect(refused({ ...swap, add: ["new", "newer", "newest"] }, full())).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: "dependencies_per_task",
      limit: MAX_DEPENDENCIES_PER_TASK,
      actual: MAX_DEPENDENCIES_PER_TASK + 2,
    });
  });

  it("one that no task has is waited for, whoever else waits for the task", () => {
    const run = memoryRun({}, [on("t"), on("near", "t")]);
    expect(accepted(change({ add: ["later"] }), run).outcome).toMatchObject({
      unknown_dependency_ids: ["later"],
    });
  });

  it("the lease that it is made under stands on its event", () => {
    const mine: Partial<Task> = { status: "in_progress", ...leasedTo("ann", "lease-1"), fence: 2 };
    const run = memoryRun({}, [aTask(), aTask({ id: "mine", ...mine })]);
    const proof = { task_id: "mine", lease_token: "lease-1" };
    const [commit] = committed({ ...change({ add: ["x"], proof }), strict: true }, run);
    expect(commit?.event.under).toEqual({ task_id: "mine", agent_id: "ann", fence: 2 });
  });

  it("what it waits for counts at once: done, failed, or not there", () => {
    const tasks = [
      on("t", "x"),
      aTask({ id: "done", status: "done" }),
      aTask({ id: "bad", status: "failed" }),
      aTask({ id: "minds", on_dependency_failure: "fail" }),
    ];
    const run = memoryRun({}, tasks);
    const claimable = () => run.nextClaimable({}, NOW)?.id ?? null;
    committed(change({ task_id: "minds", add: ["x"] }), run);
    expect(claimable()).toBeNull();
    committed(change({ add: ["done"], remove: ["x"] }), run);
    expect(claimable()).toBe("t");
    committed(change({ task_id: "minds", add: ["bad"] }), run);
    committed({ op: "settle_due" }, run);
    expect(run.task("minds")).toMatchObject({ failure: { dependency_id: "bad" } });
  });
});
