import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decide } from "../../src/domain/decide.ts";
import { forkOf } from "../../src/domain/fork.ts";
import { memoryStateLines, readStateLines } from "../../src/domain/state-lines.ts";
import type { ForkOrigin } from "../../src/protocol/run.ts";
import type { Task } from "../../src/protocol/task.ts";
import {
  aContext,
  aRun,
  aTask,
  heldTask,
  leasedTo,
  memoryRun,
  memoryRunOf,
  NOW,
  RETRY,
  refused,
} from "../support/builders.ts";
import { anySteps } from "../support/commands.ts";
import { execute } from "../support/execute.ts";

const ORIGIN: ForkOrigin = { run_id: "r", seq: 3, state_sha256: "0".repeat(64) };
const DRAFT = { run_id: "fork", origin: ORIGIN, nowMs: NOW };

describe("the state that a fork begins with", () => {
  it("is the origin's, but for who it is, its counters and its leases", () => {
    fc.assert(
      fc.property(anySteps, (steps) => {
        const { engine } = execute(steps);
        const state = engine.initial();
        for (const commit of engine.commits()) state.apply(commit);
        const before = [...memoryStateLines(state)];
        const fork = forkOf(state, DRAFT);
        const { run: origin, blackboard: board } = { run: state.run(), blackboard: state.blackboard() };
        const atMs = Math.max(NOW, origin.updated_at_ms);
        expect(fork.head().run).toEqual({
          ...state.head().run,
          run_id: "fork",
          revision: 1,
          last_event_seq: 0,
          created_at_ms: atMs,
          updated_at_ms: atMs,
          forked_from: ORIGIN,
        });
        expect(fork.blackboard()).toEqual({ ...board, tasks: fork.run().tasks, revision: 0 });
        expect(fork.run().tasks.map(({ id }) => id)).toEqual(origin.tasks.map(({ id }) => id));
        for (const [index, task] of fork.run().tasks.entries()) {
          const { lease_owner, lease_token, lease_expires_at_ms } = task;
          expect([lease_owner, lease_token, lease_expires_at_ms]).toEqual([undefined, undefined, undefined]);
          const old = origin.tasks[index];
          if (old?.lease_token === undefined && old?.lease_expires_at_ms === undefined) continue;
          expect(task.status).toBe(old.status === "in_progress" ? "runnable" : old.status);
        }
        // It is a state like any other, and the origin is as it was.
        const lines = [...memoryStateLines(fork)];
        expect([...memoryStateLines(readStateLines(lines))]).toEqual(lines);
        expect([...memoryStateLines(state)]).toEqual(before);
      }),
      { numRuns: 100 },
    );
  });

  it("04§9 puts leased work back on the board as a requeue does; blocked work stays blocked, and is nobody's", () => {
    const held = leasedTo("ann", "lease-1", NOW + 60_000);
    const tasks = [
      aTask({ id: "held", status: "in_progress", ...held }),
      aTask({ id: "stuck", status: "blocked", ...held }),
      aTask({ id: "loose", status: "in_progress" }),
    ];
    const [first, second, third] = forkOf(memoryRun({}, tasks), DRAFT).run().tasks;
    expect(first).toMatchObject({
      status: "runnable",
      assigned_agent: "ann",
      last_error: "task lease expired while assigned to ann",
      next_retry_at_ms: NOW,
      task_rev: 2,
      updated_ts: NOW,
    });
    expect(second).toMatchObject({ status: "blocked", task_rev: 1 });
    expect(third).toEqual(tasks[2]);
  });

  it.each<[string, Partial<Task>]>([
    ["an owner", { lease_owner: "ann" }],
    ["a token", { lease_token: "x" }],
    ["an expiry", { lease_expires_at_ms: NOW }],
  ])("04§9 takes away a lease of which only %s is left", (_, lease) => {
    const tasks = [
      aTask({ id: "held", status: "in_progress", ...lease }),
      aTask({ id: "stuck", status: "blocked", ...lease }),
    ];
    const [held, stuck] = forkOf(memoryRun({}, tasks), DRAFT).run().tasks;
    expect(held).toMatchObject({ id: "held", status: "runnable" });
    expect(stuck).toEqual(aTask({ id: "stuck", status: "blocked" }));
  });

  const unruled: Partial<Task> = { status: "in_progress", ...leasedTo("ann", "lease-1") };
  it("claims: counts no attempt of the origin's holder, and keeps the retry policy", () => {
    const tasks = [heldTask({ attempt: 1, max_attempts: 2 }), aTask({ id: "u", ...unruled })];
    const [held, other] = forkOf(memoryRun({}, tasks), DRAFT).run().tasks;
    expect(JSON.parse(JSON.stringify(other))).toStrictEqual(other);
    expect(held).toMatchObject({ status: "runnable", attempt: 1, retry: RETRY, next_retry_at_ms: NOW });
    expect(held).not.toHaveProperty("attempts");
  });

  it("claims: starts the clocks of its tasks anew, and halts nothing", () => {
    const clocks = { start_within_ms: 1_000, finish_within_ms: 2_000 };
    const tasks = [
      aTask({ id: "open", clocks }),
      aTask({ id: "over", status: "done", clocks }),
      aTask({ id: "lost", status: "failed", clocks }),
      aTask({ id: "plain" }),
    ];
    const origin = memoryRun({ status: "paused" }, tasks);
    const fork = forkOf(origin, DRAFT);
    expect(fork.dueTasks(NOW + 999, 9)).toEqual([]);
    expect(fork.dueTasks(NOW + 1_000, 9).map(({ id }) => id)).toEqual(["open"]);
    expect(fork.run().tasks.slice(1)).toEqual(tasks.slice(1));
    expect(
      forkOf(memoryRunOf({ ...origin.head(), halt: { seq: 1, revoke_at_ms: 1 } }), DRAFT).head().halt,
    ).toBeUndefined();
  });

  it("does not honour the origin's tokens", () => {
    const tasks = [aTask({ status: "blocked", ...leasedTo("ann", "lease-1") })];
    const fork = forkOf(memoryRun({}, tasks), DRAFT);
    const beat = {
      op: "transition_task",
      task_id: "t",
      action: "heartbeat",
      lease_token: "lease-1",
    } as const;
    expect(refused(beat, fork)).toMatchObject({ code: "TASK_TRANSITION_INVALID" });
  });

  it("takes an objective of its own, and keeps the time when its origin ended", () => {
    const run = memoryRun({ status: "completed", ended_at_ms: 7, objective: "old" });
    expect(forkOf(run, { ...DRAFT, objective: "new" }).run()).toMatchObject({
      objective: "new",
      status: "completed",
      ended_at_ms: 7,
    });
    expect(forkOf(run, DRAFT).run().objective).toBe("old");
  });

  it("gives files version 0, so that its own versions are seqs of its own log", () => {
    const run = memoryRun();
    const file = { path: "p", sha256: "0".repeat(64), bytes: 1, content_type: "", version: 5, ts_ms: 9 };
    run.restore({ file });
    expect(forkOf(run, DRAFT).files()).toEqual([{ ...file, version: 0 }]);
  });

  it("keeps payloads that lie in what a path holds within reach, and leaves alone what only looks like that", () => {
    const sha256 = "a".repeat(64);
    const file = { path: "p", sha256, bytes: 1, content_type: "", version: 5, ts_ms: 9 };
    const { ts_ms: _ts, ...artifact_ref } = file;
    const others: unknown[] = [
      { artifact_ref: { ...artifact_ref, version: 3, sha256: "b".repeat(64) } },
      { artifact_ref: { ...artifact_ref, version: 3 } },
      { artifact_ref: { ...artifact_ref, sha256: "b".repeat(64) } },
      { artifact_ref: { ...artifact_ref, path: "q" } },
      { artifact_ref: { ...artifact_ref, path: 1 } },
      { artifact_ref: "p" },
      { artifact_ref: null },
      "artifact_ref",
      null,
      [artifact_ref],
    ];
    const payloads = [{ more: 1, artifact_ref }, ...others];
    const run = memoryRun(
      {},
      payloads.map((payload, index) => aTask({ id: `t${index}`, payload })),
    );
    run.restore({ file });
    const fork = forkOf(run, DRAFT);
    expect(fork.run().tasks.map(({ payload }) => payload)).toEqual([
      { more: 1, artifact_ref: { ...artifact_ref, version: 0 } },
      ...others,
    ]);
    expect(forkOf(fork, DRAFT).run().tasks).toEqual(fork.run().tasks);
  });

  it("a PUT cannot change where a run comes from (like I19)", () => {
    const fork = forkOf(memoryRun(), DRAFT);
    const { forked_from: _origin, ...run } = { ...fork.run(), objective: "put" };
    for (const put of [run, { ...run, forked_from: { ...ORIGIN, run_id: "other" } }]) {
      const decision = decide({ op: "replace_run", run: put }, fork, aContext());
      if (!decision.ok) throw new Error("refused");
      for (const commit of decision.commits) fork.apply(commit);
      expect(fork.head().run).toMatchObject({ objective: "put", forked_from: ORIGIN });
    }
    const other = memoryRun();
    const put = { ...aRun(), tasks: [], forked_from: ORIGIN };
    const decision = decide({ op: "replace_run", run: put }, other, aContext());
    if (!decision.ok) throw new Error("refused");
    for (const commit of decision.commits) other.apply(commit);
    expect(other.head().run.forked_from).toBeUndefined();
  });
});
