import { describe, expect, it } from "vitest";
import type { Task } from "../../src/protocol/task.ts";
import type { Attempt } from "../../src/protocol/task-life.ts";
import { aTask, committed, heldTask, maskToken, memoryRun, NOW } from "../support/builders.ts";

describe("a run that is put back", () => {
  const attempts: Attempt[] = [
    { fence: 2, agent_id: "zoe", claimed_at_ms: 1, ended_at_ms: 2, outcome: "failed" },
  ];
  /** What the contract's clients know of a task. */
  const typed = ({
    id,
    task_type,
    payload,
    status,
    lease_owner,
    lease_token,
    lease_expires_at_ms,
  }: Task): Task =>
    aTask({
      id,
      task_type,
      payload,
      status,
      ...(lease_owner !== undefined && { lease_owner }),
      ...(lease_token !== undefined && { lease_token }),
      ...(lease_expires_at_ms !== undefined && { lease_expires_at_ms }),
    });
  const putBack = (stored: Task, sent: Task): Task => {
    const run = memoryRun({}, [stored]);
    committed({ op: "replace_run", run: { ...run.run(), tasks: [sent] } }, run);
    const task = run.task("t") as Task;
    // What is stored is what is sent: no member is there and empty.
    expect(JSON.parse(JSON.stringify(task))).toStrictEqual(task);
    return task;
  };
  const stored = heldTask({
    attempts,
    clocks: { run_within_ms: 5 },
    on_dependency_failure: "skip",
    redriven_at_ms: 3,
    concurrency_key: "k",
    progress: { percent: 1, at_ms: NOW - 5 },
  });

  it("claims: a copy that does not know of a task's life leaves it as it is", () => {
    expect(putBack(stored, typed(stored))).toEqual({ ...typed(stored), ...life(stored) });
  });

  it("claims: one that was read whole is the same afterwards", () => {
    expect(putBack(stored, stored)).toEqual(stored);
  });

  it("claims: what a copy brings counts, but for the fence", () => {
    const changed = putBack(stored, { ...stored, concurrency_key: "l", fence: 1_000, claimed_at_ms: 1 });
    expect(changed).toEqual({ ...stored, concurrency_key: "l" });
  });

  it("claims: a lease of the copy's own has no fence, and the one before it has ended", () => {
    const changed = putBack(stored, { ...typed(stored), lease_token: "another", fence: 9 });
    expect(changed).not.toHaveProperty("fence");
    expect(changed).not.toHaveProperty("claimed_at_ms");
    expect(changed).not.toHaveProperty("progress");
    expect(changed.lease_token).toBe(maskToken("another"));
    expect(changed.attempts).toEqual([
      ...attempts,
      expect.objectContaining({ fence: 7, outcome: "revoked", progress: { percent: 1, at_ms: NOW - 5 } }),
    ]);
  });

  it("claims: what no claim gave has no lease to keep, and leaves no attempt", () => {
    const { fence, claimed_at_ms, ...unclaimed } = stored;
    expect(putBack(unclaimed, typed(unclaimed))).not.toHaveProperty("fence");
    const given = { ...unclaimed, fence, lease_token: "elsewhere" } as Task;
    expect(putBack(given, typed(aTask({ status: "runnable" })))).toMatchObject({ attempts });
    expect(putBack(heldTask({ fence: undefined } as object), aTask())).not.toHaveProperty("attempts");
    const loose = aTask({ status: "in_progress", progress: { percent: 1, at_ms: 2 } });
    expect(putBack(loose, typed(loose))).not.toHaveProperty("progress");
  });

  it("claims: an attempt that the copy tells of itself is not told twice", () => {
    const told: Attempt = {
      fence: 7,
      agent_id: "ann",
      claimed_at_ms: 3,
      ended_at_ms: 4,
      outcome: "released",
    };
    const changed = putBack(stored, {
      ...typed(aTask({ status: "runnable" })),
      attempts: [...attempts, told],
    });
    expect(changed.attempts).toEqual([...attempts, told]);
    const without = putBack(stored, { ...typed(aTask({ status: "runnable" })), attempts });
    expect(without.attempts).toEqual([
      ...attempts,
      expect.objectContaining({ fence: 7, outcome: "revoked" }),
    ]);
  });

  it("claims: work that is set aside keeps its progress, other work has none", () => {
    expect(putBack(stored, { ...stored, status: "blocked" }).progress).toEqual(stored.progress);
    expect(putBack(stored, { ...stored, status: "pending" })).not.toHaveProperty("progress");
  });

  it("claims: work that the copy says is done was no failed attempt", () => {
    const changed = putBack(stored, aTask({ status: "done" }));
    expect(changed.attempts).toEqual(attempts);
  });

  it("claims: how a task ended goes when it is no longer at that end", () => {
    const failure = { cause: "not_retryable", at_ms: 1 } as const;
    const letter = aTask({ status: "failed", dead_letter: true, failure });
    expect(putBack(letter, aTask({ status: "failed" }))).toEqual(letter);
    expect(putBack(letter, aTask({ status: "runnable" }))).toEqual(aTask({ status: "runnable" }));
    expect(putBack(letter, { ...letter, status: "runnable" })).toEqual(aTask({ status: "runnable" }));
    const skipped = aTask({ status: "done", skipped: true });
    expect(putBack(skipped, aTask({ status: "done" }))).toEqual(skipped);
    expect(putBack(skipped, aTask({ status: "pending" }))).toEqual(aTask());
    const cancellation = { requested_at_ms: 1, revoke_at_ms: 2 };
    const stopping = { ...stored, cancellation };
    expect(putBack(stopping, typed(stopping)).cancellation).toEqual(cancellation);
    expect(putBack(stopping, aTask({ status: "failed" }))).not.toHaveProperty("cancellation");
    expect(putBack(stopping, aTask({ status: "done" }))).not.toHaveProperty("cancellation");
    for (const status of ["failed", "done"] as const)
      expect(putBack(aTask({ status }), aTask({ status }))).toEqual(aTask({ status }));
  });

  function life(task: Task): Partial<Task> {
    const { retry, clocks, on_dependency_failure, redriven_at_ms, concurrency_key } = task;
    const { fence, claimed_at_ms, progress } = task;
    const lease = { fence, claimed_at_ms, progress, attempts } as Partial<Task>;
    return {
      retry,
      clocks,
      on_dependency_failure,
      redriven_at_ms,
      concurrency_key,
      ...lease,
    } as Partial<Task>;
  }
});
