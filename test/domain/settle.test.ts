import { describe, expect, it, vi } from "vitest";
import { decide } from "../../src/domain/decide.ts";
import type { MemoryRun } from "../../src/domain/memory.ts";
import type { Task } from "../../src/protocol/task.ts";
import type { Clocks, RetryPolicy } from "../../src/protocol/task-life.ts";
import {
  aContext,
  aRun,
  aTask,
  CREATED,
  committed,
  leasedTo,
  maskToken,
  memoryRun,
  memoryRunOf,
  NOW,
} from "../support/builders.ts";

const WITHIN = 10_000;
const CLAIMED = NOW - WITHIN;
const POLICY: RetryPolicy = { base_ms: 1_000, factor: 2, max_ms: 60_000, jitter: 0, non_retryable: [] };

/** What a claim gave, not yet expired. */
const held = (members: Partial<Task> = {}): Partial<Task> => ({
  status: "in_progress",
  ...leasedTo("ann", "lease-1", NOW + 100_000),
  fence: 3,
  claimed_at_ms: CLAIMED,
  ...members,
});

function settle(run: MemoryRun, nowMs = NOW) {
  return committed({ op: "settle_due" }, run, aContext(nowMs));
}

/** Which clock, and what a task without and with a retry policy becomes of it. */
const CLOCKS: {
  name: string;
  task: Partial<Task>;
  clocks: Clocks;
  reason: string;
  outcome: string | null;
  cause: string;
  isFinal: boolean;
  error: string;
}[] = [
  {
    name: "unclaimed too long",
    task: {},
    clocks: { start_within_ms: NOW - CREATED },
    reason: "start_deadline",
    outcome: null,
    cause: "start_deadline",
    isFinal: true,
    error: `task was not claimed within ${NOW - CREATED} ms`,
  },
  {
    name: "run time",
    task: held(),
    clocks: { run_within_ms: WITHIN },
    reason: "run_time_limit",
    outcome: "run_time_exceeded",
    cause: "run_time_limit",
    isFinal: false,
    error: `task ran longer than ${WITHIN} ms`,
  },
  {
    name: "silence since the claim",
    task: held(),
    clocks: { silent_within_ms: WITHIN },
    reason: "silence_limit",
    outcome: "silent",
    cause: "silence_limit",
    isFinal: false,
    error: `no progress was reported for ${WITHIN} ms`,
  },
  {
    name: "silence since the last report",
    task: held({ claimed_at_ms: CREATED, progress: { percent: 50, at_ms: CLAIMED } }),
    clocks: { silent_within_ms: WITHIN },
    reason: "silence_limit",
    outcome: "silent",
    cause: "silence_limit",
    isFinal: false,
    error: `no progress was reported for ${WITHIN} ms`,
  },
  {
    name: "total deadline while claimed",
    task: held(),
    clocks: { finish_within_ms: NOW - CREATED },
    reason: "total_deadline",
    outcome: "deadline",
    cause: "total_deadline",
    isFinal: true,
    error: `task was not finished within ${NOW - CREATED} ms`,
  },
  {
    name: "total deadline while it waits",
    task: { status: "blocked" },
    clocks: { finish_within_ms: NOW - CREATED },
    reason: "total_deadline",
    outcome: null,
    cause: "total_deadline",
    isFinal: true,
    error: `task was not finished within ${NOW - CREATED} ms`,
  },
];

describe("claims: each clock fires at its time, with its own reason", () => {
  it.each(CLOCKS)("$name: not a millisecond before", ({ task, clocks }) => {
    const run = memoryRun({}, [aTask({ ...task, clocks })]);
    expect(run.dueTasks(NOW - 1, 9)).toEqual([]);
    expect(settle(run, NOW - 1)).toEqual([]);
    expect(run.dueTasks(NOW, 9)).toHaveLength(1);
  });

  it.each(CLOCKS)("$name: without a retry policy it is a dead letter with that cause", (row) => {
    const { task, clocks, reason, outcome, cause, error } = row;
    const run = memoryRun({}, [aTask({ ...task, clocks })]);
    const [commit, ...others] = settle(run);
    expect(others).toEqual([]);
    const ended = run.task("t");
    expect(ended).toMatchObject({
      status: "failed",
      dead_letter: true,
      failure: { cause, at_ms: NOW },
      last_error: error,
      task_rev: 2,
      updated_ts: NOW,
    });
    for (const member of [
      "lease_owner",
      "lease_token",
      "lease_expires_at_ms",
      "fence",
      "claimed_at_ms",
      "progress",
    ]) {
      expect(ended).not.toHaveProperty(member);
    }
    expect(commit?.event).toMatchObject({
      type: "context.task.failed",
      task_id: "t",
      payload: {
        reason,
        error,
        status: "failed",
        lease_owner: outcome === null ? null : "ann",
        fence: outcome === null ? null : 3,
        task: ended,
      },
    });
    expect(commit?.patch).toMatchObject({
      op: "update_task_state",
      payload: { task_id: "t", status: "failed", lease_token: null, task_rev: 2, dead_letter: true, reason },
    });
    if (outcome === null) expect(ended).not.toHaveProperty("attempts");
    else
      expect(ended?.attempts).toMatchObject([
        { fence: 3, agent_id: "ann", ended_at_ms: NOW, outcome, error },
      ]);
    expect(settle(run)).toEqual([]);
  });

  it.each(CLOCKS)("$name: with a retry policy an attempt that may be repeated is", (row) => {
    const { task, clocks, reason, isFinal, cause } = row;
    const run = memoryRun({}, [aTask({ ...task, clocks, retry: POLICY })]);
    const [commit] = settle(run);
    if (isFinal) {
      expect(run.task("t")).toMatchObject({ status: "failed", dead_letter: true, failure: { cause } });
      return;
    }
    expect(commit?.event).toMatchObject({ type: "context.task.requeued", payload: { reason } });
    expect(commit?.patch?.payload).toMatchObject({
      status: "runnable",
      next_retry_at_ms: NOW + POLICY.base_ms,
    });
    expect(run.task("t")).toMatchObject({
      status: "runnable",
      attempt: 1,
      next_retry_at_ms: NOW + POLICY.base_ms,
    });
  });

  it("with a retry policy the last attempt that takes too long is a dead letter", () => {
    const clocks = { run_within_ms: WITHIN };
    const run = memoryRun({}, [aTask(held({ clocks, retry: POLICY, attempt: 2, max_attempts: 3 }))]);
    settle(run);
    expect(run.task("t")).toMatchObject({
      attempt: 3,
      dead_letter: true,
      failure: { cause: "attempts_exhausted" },
    });
  });

  it.each<[string, Partial<Task>]>([
    ["done", { status: "done" }],
    ["failed", { status: "failed" }],
  ])("a task that is %s has no clocks", (_, over) => {
    const clocks = { start_within_ms: 1, run_within_ms: 1, silent_within_ms: 1, finish_within_ms: 1 };
    expect(settle(memoryRun({}, [aTask({ ...over, clocks })]))).toEqual([]);
  });

  it.each<[string, Partial<Task>]>([
    ["is claimed", held()],
    ["is in progress without a lease", { status: "in_progress" }],
    [
      "was claimed",
      {
        status: "runnable",
        attempts: [
          { fence: 1, agent_id: "ann", claimed_at_ms: CREATED, ended_at_ms: CREATED, outcome: "released" },
        ],
      },
    ],
  ])("the start deadline is none for a task that %s", (_, members) => {
    const run = memoryRun({}, [aTask({ ...members, clocks: { start_within_ms: 1 } })]);
    expect(settle(run)).toEqual([]);
  });

  it("start and total deadline begin anew with a redrive", () => {
    const attempts: Task["attempts"] = [
      { fence: 1, agent_id: "ann", claimed_at_ms: CREATED, ended_at_ms: CREATED, outcome: "failed" },
    ];
    const clocks = { start_within_ms: 5_000, finish_within_ms: 9_000 };
    const run = memoryRun({}, [aTask({ attempts, clocks, redriven_at_ms: NOW })]);
    expect(settle(run, NOW + 4_999)).toEqual([]);
    settle(run, NOW + 5_000);
    expect(run.task("t")).toMatchObject({ failure: { cause: "start_deadline" } });
  });

  const ways = [{ action: "retry" }, { action: "status", status: "runnable" }] as const;

  it.each(ways)("and with $action, which would else be in vain", (way) => {
    const clocks = { start_within_ms: NOW - CREATED, finish_within_ms: NOW - CREATED + 5 };
    const run = memoryRun({}, [aTask({ clocks })]);
    settle(run);
    committed({ op: "transition_task", task_id: "t", ...way }, run, aContext(NOW + 100));
    expect(run.task("t")).toMatchObject({ status: "runnable", redriven_at_ms: NOW + 100 });
    expect(settle(run, NOW + 99 + NOW - CREATED)).toEqual([]);
    settle(run, NOW + 100 + NOW - CREATED);
    expect(run.task("t")).toMatchObject({ failure: { cause: "start_deadline" } });
  });

  it("what is blocked has failed nothing: its clocks go on when it is tried again", () => {
    const run = memoryRun({}, [aTask({ status: "blocked", clocks: { finish_within_ms: NOW - CREATED } })]);
    committed({ op: "transition_task", task_id: "t", action: "retry" }, run, aContext(NOW - 1));
    settle(run);
    expect(run.task("t")).toMatchObject({ failure: { cause: "total_deadline" } });
  });

  it("of two clocks that have run out, the first is the reason", () => {
    const clocks = { run_within_ms: WITHIN - 1, silent_within_ms: WITHIN, finish_within_ms: NOW - CREATED };
    const run = memoryRun({}, [aTask(held({ clocks }))]);
    settle(run);
    expect(run.task("t")?.failure?.cause).toBe("run_time_limit");
  });

  it("a lease that ran out before the clock ends as leases do, and its time limits with it", () => {
    const clocks = { run_within_ms: WITHIN };
    const run = memoryRun({}, [aTask(held({ clocks, lease_expires_at_ms: NOW - 1 }))]);
    const [commit] = settle(run);
    expect(commit?.event.type).toBe("context.task.stale_requeued");
    expect(run.task("t")).toMatchObject({ status: "runnable", attempts: [{ outcome: "lease_expired" }] });
    expect(settle(run)).toEqual([]);
  });

  it("the longest overdue is settled first, and the named task whatever else is due", () => {
    const late = (id: string, start_within_ms: number) => aTask({ id, clocks: { start_within_ms } });
    const run = memoryRun({}, [late("b", 3), late("a", 2), late("c", 1), late("later", NOW)]);
    const ids = settle(run).map(({ event }) => event.task_id);
    expect(ids).toEqual(["c", "a", "b"]);
    const many = Array.from({ length: 150 }, (_, index) => late(`t${index}`, 1));
    const full = memoryRun({}, [...many, late("named", 2)]);
    const decision = decide({ op: "settle_due", task_ids: ["named"] }, full, aContext());
    const settled = decision.ok ? decision.commits.map(({ event }) => event.task_id) : [];
    expect(settled).toHaveLength(101);
    expect(settled).toContain("named");
  });

  it("of two that are overdue since the same moment, the lower id is settled first, named or not", () => {
    const late = (id: string) => aTask({ id, clocks: { start_within_ms: 1 } });
    const run = () => memoryRun({}, [late("c"), late("a"), late("d"), late("b")]);
    for (const task_ids of [undefined, ["d", "a", "nope"]]) {
      const command = { op: "settle_due", ...(task_ids !== undefined && { task_ids }) } as const;
      const ids = committed(command, run()).map(({ event }) => event.task_id);
      expect(ids).toEqual(["a", "b", "c", "d"]);
    }
  });

  it("an early one is told beside one that is late, and what is not there or has no clock is left", () => {
    const early = aTask({ id: "early", clocks: { start_within_ms: NOW } });
    const late = aTask({ id: "late", clocks: { start_within_ms: 1 } });
    const minds = aTask({ id: "minds", depends_on_task_ids: ["ok"], on_dependency_failure: "fail" });
    const run = memoryRun({}, [early, late, minds, aTask({ id: "ok", status: "done" })]);
    vi.spyOn(run, "dueTasks").mockReturnValue([early, late]);
    const decision = decide({ op: "settle_due", task_ids: ["gone", "minds"] }, run, aContext());
    expect(decision).toMatchObject({
      ok: true,
      commits: [{ event: { task_id: "late" } }],
      outcome: { op: "settle_due", settled: 1, early: ["early"] },
    });
  });

  it("its event and patch are these, exactly", () => {
    const clocks = { run_within_ms: WITHIN };
    const before = aTask(held({ clocks, retry: POLICY, workflow_id: "w", last_error: "before" }));
    const run = memoryRun({}, [before]);
    const [commit] = settle(run);
    const error = `task ran longer than ${WITHIN} ms`;
    const told = { task_id: "t", task_rev: 2, status: "runnable", error, reason: "run_time_limit" };
    expect(commit?.event.payload).toEqual({
      ...told,
      workflow_id: "w",
      lease_owner: "ann",
      fence: 3,
      task: run.task("t"),
      patch_seq: 1,
    });
    expect(commit?.patch?.payload).toEqual({
      ...told,
      lease_owner: null,
      lease_token: null,
      lease_expires_at_ms: null,
      assigned_agent: "ann",
      attempt: 1,
      next_retry_at_ms: NOW + POLICY.base_ms,
    });
  });

  it("a task that was noted too early is told, so that its clock is noted anew", () => {
    const early = aTask({ id: "early", clocks: { start_within_ms: NOW } });
    const run = memoryRun({}, [early, aTask({ id: "none" })]);
    const view = new Proxy(run, {
      get: (target, name) => {
        if (name === "dueTasks") return () => [early];
        const member = Reflect.get(target, name);
        return typeof member === "function" ? member.bind(target) : member;
      },
    });
    const decision = decide({ op: "settle_due", task_ids: ["none"] }, view, aContext());
    expect(decision).toMatchObject({
      ok: true,
      commits: [],
      outcome: { op: "settle_due", settled: 0, early: ["early"] },
    });
  });

  it("a claim gives out nothing that is overdue", () => {
    const run = memoryRun({}, [aTask({ clocks: { finish_within_ms: NOW - CREATED } })]);
    const decision = decide({ op: "claim_task", agent_id: "ann" }, run, aContext());
    expect(decision).toMatchObject({ ok: true, commits: [], outcome: { task: null } });
  });
});

describe("claims: what becomes of a task whose dependency failed", () => {
  const board = (policy: Task["on_dependency_failure"], members: Partial<Task> = {}) =>
    memoryRun({}, [
      aTask({ id: "ok", status: "done" }),
      aTask({ id: "bad", status: "failed" }),
      aTask({
        depends_on_task_ids: ["ok", "bad"],
        ...(policy !== undefined && { on_dependency_failure: policy }),
        ...members,
      }),
    ]);

  it.each([undefined, "wait"] as const)("%s: it waits", (policy) => {
    expect(settle(board(policy))).toEqual([]);
  });

  it("fail: it is a dead letter that names the dependency", () => {
    const run = board("fail");
    const [commit] = settle(run);
    const failure = { cause: "dependency_failed", at_ms: NOW, dependency_id: "bad" };
    expect(run.task("t")).toMatchObject({ status: "failed", dead_letter: true, failure });
    expect(commit?.event).toMatchObject({
      type: "context.task.failed",
      payload: { reason: "dependency_failed", dependency_id: "bad", error: "dependency bad failed" },
    });
  });

  it("skip: it ends as done without work", () => {
    const run = board("skip", { last_error: "earlier" });
    const [commit] = settle(run);
    expect(run.task("t")).toMatchObject({ status: "done", skipped: true });
    expect(run.task("t")).not.toHaveProperty("last_error");
    expect(commit?.event).toMatchObject({
      type: "context.task.skipped",
      payload: { reason: "dependency_failed", status: "done" },
    });
  });

  it.each(["fail", "skip"] as const)(
    "%s: a blocked task goes too, and the lease that its holder kept",
    (policy) => {
      const run = board(policy, { ...held(), status: "blocked" });
      settle(run);
      expect(run.task("t")?.status).toBe(policy === "fail" ? "failed" : "done");
      expect(run.task("t")).not.toHaveProperty("lease_token");
      expect(run.task("t")?.attempts).toMatchObject([{ outcome: "revoked" }]);
    },
  );

  it("work that is under way goes on, and ends with its attempt", () => {
    const run = board("fail", held());
    expect(settle(run)).toEqual([]);
    committed({ op: "transition_task", task_id: "t", action: "release", lease_token: "lease-1" }, run);
    settle(run);
    expect(run.task("t")?.failure?.cause).toBe("dependency_failed");
  });

  it("it goes on from task to task, one step at a time, until nothing waits in vain", () => {
    const link = (id: string, on: string, policy: Task["on_dependency_failure"]) =>
      aTask({
        id,
        depends_on_task_ids: [on],
        ...(policy !== undefined && { on_dependency_failure: policy }),
      });
    const run = memoryRun({}, [
      aTask({ id: "a", status: "failed" }),
      link("b", "a", "fail"),
      link("c", "b", "fail"),
      link("d", "c", "skip"),
      link("e", "d", "fail"),
      link("f", "c", undefined),
    ]);
    for (let step = 0; run.dueTasks(NOW, 1).length > 0; step += 1) {
      expect(step).toBeLessThan(4);
      settle(run);
    }
    const statuses = Object.fromEntries(run.run().tasks.map(({ id, status }) => [id, status]));
    expect(statuses).toEqual({
      a: "failed",
      b: "failed",
      c: "failed",
      d: "done",
      e: "pending",
      f: "pending",
    });
    expect(run.nextClaimable({}, NOW)?.id).toBe("e");
  });
});

describe("claims: a task that is to be cancelled ends with its attempt", () => {
  const cancellation = { requested_at_ms: NOW - 5, revoke_at_ms: NOW, reason: "not needed" };
  const cancelling = (members: Partial<Task> = {}) =>
    memoryRun({}, [aTask(held({ cancellation, ...members }))]);

  it.each([
    [undefined, "task was cancelled"],
    ["no need", "task was cancelled: no need"],
  ])("with the reason %s its error is: %s", (reason, error) => {
    const run = memoryRun({}, [aTask()]);
    const command = { op: "cancel_task", task_id: "t", ...(reason !== undefined && { reason }) } as const;
    const [commit] = committed(command, run);
    expect(run.task("t")?.last_error).toBe(error);
    expect(commit?.event.payload).toMatchObject({ error });
  });

  it("at the end of the grace the lease is revoked, and the task is cancelled", () => {
    const run = cancelling();
    expect(settle(run, NOW - 1)).toEqual([]);
    const [commit] = settle(run);
    const failure = { cause: "cancelled", at_ms: NOW, reason: "not needed" };
    expect(run.task("t")).toMatchObject({
      status: "failed",
      failure,
      last_error: "task was cancelled: not needed",
      attempts: [{ fence: 3, outcome: "cancelled" }],
    });
    expect(run.task("t")).not.toHaveProperty("dead_letter");
    expect(run.task("t")).not.toHaveProperty("cancellation");
    expect(commit?.event).toMatchObject({ type: "context.task.failed", payload: { reason: "cancelled" } });
  });

  it.each(["fail", "release", "retry", "status runnable", "status failed", "expiry", "run time"])(
    "%s before that: cancelled at once",
    (how) => {
      const isBlocked = how === "retry";
      const run = cancelling({
        ...(isBlocked && { status: "blocked" }),
        ...(how === "run time" && { clocks: { run_within_ms: WITHIN - 1 } }),
        ...(how === "expiry" && { lease_expires_at_ms: NOW - 1 }),
      });
      const [action = "", status] = how.split(" ");
      if (how === "run time") settle(run, NOW - 1);
      else if (how === "expiry") committed({ op: "requeue_stale" }, run, aContext(NOW - 1));
      else {
        const wanted = status === undefined ? {} : { status: status as Task["status"] };
        const command = {
          op: "transition_task",
          task_id: "t",
          action,
          lease_token: "lease-1",
          ...wanted,
        } as const;
        committed(command, run, aContext(NOW - 1));
      }
      expect(run.task("t")).toMatchObject({
        status: "failed",
        failure: { cause: "cancelled", reason: "not needed" },
      });
      for (const member of ["cancellation", "dead_letter", "lease_token"]) {
        expect(run.task("t")).not.toHaveProperty(member);
      }
    },
  );

  it.each(["complete", "status"])("%s before that: done, and nothing is left of it", (action) => {
    const run = cancelling();
    const command = { op: "transition_task", task_id: "t", action, lease_token: "lease-1" } as const;
    committed({ ...command, ...(action === "status" && { status: "done" }) }, run, aContext(NOW - 1));
    expect(run.task("t")?.status).toBe("done");
    expect(run.task("t")).not.toHaveProperty("cancellation");
    expect(settle(run)).toEqual([]);
  });
});

describe("claims: a halted run takes back what it gave out before", () => {
  const halt = { seq: 10, revoke_at_ms: NOW };
  const lease = (id: string, fence: number | undefined, members: Partial<Task> = {}) =>
    aTask({
      id,
      status: "in_progress",
      ...leasedTo("ann", `lease-${id}`, NOW + 100_000),
      claimed_at_ms: CREATED,
      ...(fence !== undefined && { fence }),
      ...members,
    });
  const halted = (...tasks: Task[]) => {
    const run = memoryRunOf({ halt, run: aRun({ status: "paused", last_event_seq: 20 }) });
    for (const task of tasks) run.restore({ task });
    return run;
  };

  it("not before the grace is over, and then once", () => {
    const run = halted(lease("a", 9));
    expect(settle(run, NOW - 1)).toEqual([]);
    const [commit] = settle(run);
    expect(commit?.event).toMatchObject({
      type: "context.task.requeued",
      payload: { reason: "revoked", fence: 9 },
    });
    expect(run.task("a")).toMatchObject({
      status: "runnable",
      attempt: 0,
      attempts: [{ outcome: "revoked" }],
    });
    expect(settle(run)).toEqual([]);
  });

  it("what was given out later, or by no claim, is left alone", () => {
    const run = halted(lease("at", 10), lease("later", 11), lease("put", undefined));
    expect(settle(run).map(({ event }) => event.task_id)).toEqual(["at"]);
  });

  it("the attempt does not count, even with a retry policy", () => {
    const run = halted(lease("a", 9, { retry: POLICY, attempt: 2 }));
    settle(run);
    expect(run.task("a")).toMatchObject({ status: "runnable", attempt: 2 });
  });

  it("a lease that ran out before the grace did ends as leases do, and counts", () => {
    const run = halted(lease("a", 9, { retry: POLICY, attempt: 0, lease_expires_at_ms: NOW - 1 }));
    const [commit] = settle(run, NOW + 5_000);
    expect(commit?.event.type).toBe("context.task.stale_requeued");
    expect(run.task("a")).toMatchObject({ attempt: 1, attempts: [{ outcome: "lease_expired" }] });
  });

  it("a task that is to be cancelled is", () => {
    const cancellation = { requested_at_ms: NOW, revoke_at_ms: NOW + 9 };
    const run = halted(lease("a", 9, { cancellation }));
    const [commit] = settle(run);
    expect(commit?.event.payload).toMatchObject({ reason: "cancelled" });
    expect(run.task("a")).toMatchObject({ status: "failed", failure: { cause: "cancelled" } });
  });

  it("a task that is due as well is settled once", () => {
    const run = halted(lease("a", 9, { clocks: { finish_within_ms: 1 } }));
    expect(settle(run).map(({ event }) => event.type)).toEqual(["context.task.failed"]);
  });

  it("no more than so many at once", () => {
    const run = halted(...Array.from({ length: 130 }, (_, index) => lease(`t${index}`, 1)));
    expect(settle(run)).toHaveLength(100);
    expect(settle(run)).toHaveLength(30);
  });

  it("the named task whatever else is out, and nothing that was given out later", () => {
    const run = halted(
      ...Array.from({ length: 130 }, (_, index) => lease(`t${index}`, 1)),
      lease("named", 9),
      lease("later", 11),
    );
    const commits = committed({ op: "settle_due", task_ids: ["named", "later"] }, run);
    expect(commits).toHaveLength(101);
    expect(run.task("named")).toMatchObject({ attempts: [{ outcome: "revoked" }] });
    expect(run.task("later")?.status).toBe("in_progress");
  });

  it("a lease that ran out before has ended as leases do, and counts", () => {
    const run = halted(lease("a", 9, { retry: POLICY, lease_expires_at_ms: NOW - 1 }));
    settle(run);
    expect(run.task("a")).toMatchObject({ attempt: 1, attempts: [{ outcome: "lease_expired" }] });
  });
});

it("a token proves nothing once its lease was taken back", () => {
  const run = memoryRun({}, [aTask(held({ clocks: { run_within_ms: WITHIN } }))]);
  settle(run);
  expect(run.task("t")?.lease_token).not.toBe(maskToken("lease-1"));
});
