import { describe, expect, it } from "vitest";
import {
  aContext,
  accepted,
  aTask,
  committed,
  leasedTo,
  maskToken,
  memoryRun,
  NOW,
} from "../support/builders.ts";

describe("stale requeue", () => {
  /** The lease's owner, the assigned agent, and who the error names. */
  const names: [string | undefined, string | undefined, string][] = [
    ["ann", "bob", "ann"],
    [undefined, "bob", "bob"],
    [undefined, undefined, "unknown-agent"],
  ];
  it.each(names)("04§9 owner %s, agent %s: exact task, event and patch", (owner, agent, who) => {
    const rest = {
      attempt: 2,
      priority: 3,
      task_rev: 4,
      ...(agent !== undefined && { assigned_agent: agent }),
    };
    const lease = { lease_token: maskToken("lease-1"), lease_expires_at_ms: NOW };
    const held = owner === undefined ? lease : { ...lease, lease_owner: owner };
    const run = memoryRun({ status: "blocked" }, [aTask({ status: "in_progress", ...rest, ...held })]);
    const { commits, outcome } = accepted({ op: "requeue_stale" }, run, aContext());
    const error = `task lease expired while assigned to ${who}`;
    const task = aTask({
      ...rest,
      status: "runnable",
      last_error: error,
      next_retry_at_ms: NOW,
      task_rev: 5,
      updated_ts: NOW,
    });
    expect(outcome).toEqual({ op: "requeue_stale", requeued: 1 });
    expect(commits).toHaveLength(1);
    expect(commits[0]?.event).toMatchObject({
      type: "context.task.stale_requeued",
      status: "blocked",
      task_id: "t",
    });
    expect(commits[0]?.event).not.toHaveProperty("command_id");
    expect(commits[0]?.event.payload).toStrictEqual({
      task_id: "t",
      workflow_id: null,
      lease_owner: who,
      stale_requeue: true,
      task,
      patch_seq: 1,
    });
    expect(commits[0]?.patch?.op).toBe("update_task_state");
    expect(commits[0]?.patch?.payload).toStrictEqual({
      task_id: "t",
      status: "runnable",
      lease_owner: null,
      lease_token: null,
      lease_expires_at_ms: null,
      task_rev: 5,
      error,
      attempt: 2,
      next_retry_at_ms: NOW,
      stale_requeue: true,
    });
  });

  it("04§9 all stale tasks, in list order, one commit each; then one of them can be claimed", () => {
    const stale = (id: string, expires: number) =>
      aTask({ id, status: "in_progress", ...leasedTo("bob", `lease-${id}`, expires) });
    const tasks = [
      stale("c", 1),
      stale("live", NOW + 1),
      stale("a", NOW),
      aTask({ id: "x", status: "done" }),
    ];
    const run = memoryRun({}, tasks);
    const commits = committed({ op: "requeue_stale" }, run);
    expect(commits.map(({ event }) => [event.seq, event.task_id])).toEqual([
      [1, "c"],
      [2, "a"],
    ]);
    expect(run.run().tasks.map((task) => task.id)).toEqual(["c", "live", "a", "x"]);
    committed({ op: "claim_task", agent_id: "ann" }, run);
    expect(run.task("c")).toMatchObject({
      status: "in_progress",
      lease_owner: "ann",
      last_error: "task lease expired while assigned to bob",
      task_rev: 3,
    });
    expect(committed({ op: "requeue_stale" }, run)).toEqual([]);
  });
});
