import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { afterAttempt, backoffMs } from "../../src/domain/attempts.ts";
import { handoverOf } from "../../src/domain/handover.ts";
import { recall } from "../../src/domain/outcome.ts";
import type { Task } from "../../src/protocol/task.ts";
import {
  type Attempt,
  DEFAULT_RETRY,
  FAILURE_CAUSES,
  type RetryPolicy,
} from "../../src/protocol/task-life.ts";
import {
  aContext,
  accepted,
  aRow,
  aTask,
  batch,
  committed,
  heldTask,
  leasedTo,
  memoryRun,
  NOW,
  RETRY,
  refused,
  transition,
} from "../support/builders.ts";

const LETTER = { dead_letter: true } as const;

/** What a transition by the holder makes of that task. */
function changedBy(task: Task, action: string, members: Parameters<typeof transition>[1] = {}): Task {
  const run = memoryRun({ last_event_seq: 9, revision: 10 }, [task]);
  committed(transition(action, { lease_token: "lease-1", ...members }), run);
  const changed = run.task("t");
  if (changed === null) throw new Error("no task");
  return changed;
}

describe("a failed attempt", () => {
  it.each<[string, Partial<Task>, object, Partial<Task>]>([
    [
      "comes back after a wait, and counts",
      { attempt: 0 },
      { error: "boom" },
      { status: "runnable", attempt: 1, next_retry_at_ms: NOW + 100, last_error: "boom" },
    ],
    ["waits longer each time", { attempt: 1 }, {}, { attempt: 2, next_retry_at_ms: NOW + 200 }],
    [
      "waits no longer than the cap",
      { attempt: 30, max_attempts: 99 },
      {},
      { attempt: 31, next_retry_at_ms: NOW + 1_000 },
    ],
    [
      "was the last one that the cap allows",
      { attempt: 2 },
      { error_code: "E" },
      {
        ...LETTER,
        status: "failed",
        attempt: 3,
        failure: { cause: "attempts_exhausted", at_ms: NOW, error_code: "E" },
      },
    ],
    [
      "has a code that no attempt would change",
      {},
      { error_code: "BAD_INPUT" },
      { ...LETTER, failure: { cause: "not_retryable", at_ms: NOW, error_code: "BAD_INPUT" } },
    ],
    [
      "is said to be final",
      {},
      { retryable: false },
      { ...LETTER, status: "failed", failure: { cause: "not_retryable", at_ms: NOW } },
    ],
    [
      "may be retried, but not by the policy",
      {},
      { retryable: true, error_code: "BAD_INPUT" },
      { ...LETTER, failure: { cause: "not_retryable", at_ms: NOW, error_code: "BAD_INPUT" } },
    ],
  ])("claims: %s", (_title, before, said, expected) => {
    const task = changedBy(heldTask(before), "fail", said);
    expect(task).toMatchObject(expected);
    for (const name of ["lease_owner", "lease_token", "lease_expires_at_ms", "fence", "claimed_at_ms"]) {
      expect(task).not.toHaveProperty(name);
    }
    expect(task.attempts).toMatchObject([{ fence: 7, agent_id: "ann", outcome: "failed" }]);
  });

  it("claims: its event and patch say that it comes back, and when; or that it is a dead letter", () => {
    const failing = (members: Partial<Task>) => {
      const [commit] = accepted(
        transition("fail", { lease_token: "lease-1", error: "e", error_code: "E" }),
        memoryRun({}, [heldTask(members)]),
      ).commits;
      return commit;
    };
    expect(failing({})).toMatchObject({
      event: { type: "context.task.requeued", payload: { error: "e", error_code: "E" } },
      patch: { payload: { status: "runnable", next_retry_at_ms: NOW + 100, attempt: 1, error: "e" } },
    });
    expect(failing({ attempt: 2 })).toMatchObject({
      event: { type: "context.task.failed", payload: { error_code: "E" } },
      patch: { payload: { status: "failed", dead_letter: true, attempt: 3 } },
    });
  });

  it("04§8 without a policy it is failed at once, and no dead letter", () => {
    const { retry: _retry, ...task } = heldTask();
    const failed = changedBy(task, "fail", { retryable: true });
    expect(failed).toMatchObject({ status: "failed", attempt: 1 });
    expect(failed).not.toHaveProperty("dead_letter");
    expect(failed).not.toHaveProperty("failure");
  });

  it("claims: a crash counts like a failure, and its cause is found", () => {
    const run = memoryRun({}, [heldTask({ attempt: 1, lease_expires_at_ms: NOW })]);
    const crash = () => committed({ op: "requeue_stale" }, run)[0];
    expect(crash()?.event.type).toBe("context.task.stale_requeued");
    expect(run.task("t")).toMatchObject({ status: "runnable", attempt: 2, next_retry_at_ms: NOW + 200 });
    const last = memoryRun({}, [heldTask({ attempt: 2, lease_expires_at_ms: NOW })]);
    const [commit] = committed({ op: "requeue_stale" }, last);
    expect(commit).toMatchObject({
      event: { type: "context.task.failed" },
      patch: { payload: { dead_letter: true } },
    });
    expect(last.task("t")).toMatchObject({
      status: "failed",
      ...LETTER,
      failure: { cause: "attempts_exhausted" },
      attempts: [{ outcome: "lease_expired", error: "task lease expired while assigned to ann" }],
      last_error: "task lease expired while assigned to ann",
    });
  });

  it("claims: a release does not count", () => {
    expect(changedBy(heldTask({ attempt: 2 }), "release", { error: "restart" })).toMatchObject({
      status: "runnable",
      attempt: 2,
      attempts: [{ outcome: "released", error: "restart" }],
    });
  });

  it("claims: who says `status: failed` means it", () => {
    expect(changedBy(heldTask(), "status", { status: "failed", error_code: "E" })).toMatchObject({
      status: "failed",
      ...LETTER,
      failure: { cause: "not_retryable", error_code: "E" },
    });
    const blocked = changedBy(heldTask({ status: "blocked" }), "status", { status: "failed" });
    expect(blocked).toMatchObject({ ...LETTER });
  });

  it("04§8.1 who says it again of what has failed changes nothing", () => {
    const failure = { cause: "not_retryable", at_ms: 5 } as const;
    const clocks = { finish_within_ms: 1_000_000 };
    const failed = aTask({ status: "failed", retry: RETRY, attempt: 1, clocks, dead_letter: true, failure });
    const again = changedBy(failed, "status", { status: "failed" });
    expect(again).toStrictEqual({ ...failed, task_rev: 2, updated_ts: NOW });
  });

  it("claims: a wait is within its bounds, whatever the policy", () => {
    const policy: fc.Arbitrary<RetryPolicy> = fc.record({
      base_ms: fc.integer({ min: 0, max: 1e9 }),
      factor: fc.double({ min: 1, max: 100, noNaN: true }),
      max_ms: fc.integer({ min: 0, max: 1e9 }),
      jitter: fc.double({ min: 0, max: 1, noNaN: true }),
      non_retryable: fc.constant([]),
    });
    const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(policy, fc.integer({ min: 1, max: 2 ** 32 }), chance, (retry, attempt, dice) => {
        const wait = backoffMs(retry, attempt, dice);
        expect(Number.isSafeInteger(wait)).toBe(true);
        const whole = backoffMs({ ...retry, jitter: 0 }, attempt, dice);
        expect(wait).toBeLessThanOrEqual(whole);
        expect(wait).toBeGreaterThanOrEqual(Math.floor(whole * (1 - retry.jitter)) - 1);
        expect(whole).toBeLessThanOrEqual(retry.max_ms);
        expect(backoffMs({ ...retry, jitter: 0 }, attempt + 1, 0)).toBeGreaterThanOrEqual(whole);
      }),
    );
  });

  it("claims: chance makes a wait shorter by up to its jitter", () => {
    const policy = { base_ms: 1_000, factor: 3, max_ms: 5_000, jitter: 0.5, non_retryable: [] };
    const waits = [0, 0.2, 0.5].map((chance) =>
      [1, 2, 3].map((attempt) => backoffMs(policy, attempt, chance)),
    );
    expect(waits).toEqual([
      [1_000, 3_000, 5_000],
      [900, 2_700, 4_500],
      [750, 2_250, 3_750],
    ]);
  });

  it.each(["run_time_exceeded", "silent", "failed"] as const)(
    "claims: without a policy, %s is an attempt",
    (outcome) => {
      const { retry: _retry, ...task } = heldTask({ attempt: 1 });
      const after = afterAttempt(
        task,
        { outcome, error: "e", error_code: "E" },
        { nowMs: NOW, random: () => 0 },
      );
      expect(after).toMatchObject({ status: "failed", attempt: 2 });
      const { fence, claimed_at_ms } = task;
      const attempt = { fence, agent_id: "ann", claimed_at_ms, ended_at_ms: NOW, outcome };
      expect(after.attempts).toStrictEqual([{ ...attempt, error: "e", error_code: "E" }]);
      for (const without of ["fence", "claimed_at_ms"] as const) {
        const { [without]: _left, ...unclaimed } = task;
        expect(
          afterAttempt(unclaimed as Task, { outcome }, { nowMs: NOW, random: () => 0 }),
        ).not.toHaveProperty("attempts");
      }
    },
  );

  it("claims: who gives work back by its status has not failed", () => {
    const run = memoryRun({}, [heldTask({ attempt: 1, max_attempts: 2 })]);
    committed(transition("status", { status: "runnable", lease_token: "lease-1" }), run);
    const attempts = [{ outcome: "released" }];
    expect(run.task("t")).toMatchObject({ status: "runnable", attempt: 1, attempts });
    expect(run.task("t")).not.toHaveProperty("dead_letter");
  });

  it("claims: no task under a policy is tried more often than its cap", () => {
    const ends = fc.constantFrom("failed", "lease_expired", "run_time_exceeded", "silent") as fc.Arbitrary<
      Attempt["outcome"]
    >;
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.array(ends, { minLength: 6, maxLength: 6 }),
        (cap, list) => {
          let task = heldTask({ max_attempts: cap });
          let tried = 0;
          for (const outcome of list) {
            if (task.status === "failed") break;
            tried += 1;
            task = afterAttempt(task, { outcome }, { nowMs: NOW, random: () => 0 });
          }
          expect(tried).toBe(Math.min(cap, list.length));
          expect(task).toMatchObject({
            status: "failed",
            ...LETTER,
            failure: { cause: "attempts_exhausted" },
          });
        },
      ),
    );
  });
});

describe("what goes with which action", () => {
  it.each<[string, Parameters<typeof transition>[1], string]>([
    ["complete", { retryable: false }, "retryable"],
    ["release", { error_code: "E" }, "error_code"],
    ["heartbeat", { retryable: true }, "retryable"],
    ["status", { status: "blocked", error_code: "E" }, "error_code"],
    ["complete", { status: "failed", error_code: "E" }, "error_code"],
    ["complete", { progress: { percent: 100 } }, "progress"],
    ["retry", { progress: {} }, "progress"],
  ])("claims: %s with %j is refused, not half done", (action, said, field) => {
    const refusal = refused(
      transition(action, { lease_token: "lease-1", ...said }),
      memoryRun({}, [heldTask()]),
    );
    expect(refusal).toMatchObject({ code: "FIELD_INVALID", issues: [{ field }] });
  });

  it("claims: the data of a report has a limit", () => {
    const progress = { data: "x".repeat(4 * 1024) };
    expect(
      refused(transition("heartbeat", { lease_token: "lease-1", progress }), memoryRun({}, [heldTask()])),
    ).toMatchObject({ code: "LIMIT_EXCEEDED", limit_name: "progress_data_bytes" });
  });
});

describe("handing over", () => {
  const report = { percent: 40, note: "half", data: { done: ["a"] } };
  const told = { ...report, at_ms: NOW };

  it("claims: a heartbeat's report is on the task, the last one only, and leaves with the lease", () => {
    const task = changedBy(heldTask(), "heartbeat", { progress: report });
    expect(task.progress).toEqual(told);
    expect(changedBy(task, "heartbeat", {}).progress).toEqual(told);
    expect(changedBy(task, "heartbeat", { progress: { note: "n" } }).progress).toEqual({
      note: "n",
      at_ms: NOW,
    });
    expect(changedBy(task, "complete")).not.toHaveProperty("progress");
  });

  it("claims: a heartbeat's patch has the last report, and none where there is none", () => {
    const beat = (task: Task, progress?: object) => {
      const command = transition("heartbeat", { lease_token: "lease-1", ...(progress && { progress }) });
      const [commit] = committed(command, memoryRun({}, [task]));
      return commit?.patch?.payload;
    };
    expect(beat(heldTask(), report)).toMatchObject({ progress: told });
    expect(beat(heldTask({ progress: told }))).toMatchObject({ progress: told });
    expect(beat(heldTask())).not.toHaveProperty("progress");
  });

  /** Every way in which a lease ends and the task goes on. */
  const ends: [string, (task: Task) => Task, Attempt["outcome"]][] = [
    ["a failure", (task) => changedBy(task, "fail", { error: "e" }), "failed"],
    ["a release", (task) => changedBy(task, "release"), "released"],
    ["a status", (task) => changedBy(task, "status", { status: "runnable" }), "released"],
    ["a retry of blocked work", (task) => changedBy({ ...task, status: "blocked" }, "retry"), "released"],
    [
      "a crash",
      (task) => {
        const run = memoryRun({}, [{ ...task, lease_expires_at_ms: NOW }]);
        committed({ op: "requeue_stale" }, run);
        return run.task("t") as Task;
      },
      "lease_expired",
    ],
    [
      "a PUT that takes the lease away",
      (task) => {
        const run = memoryRun({}, [task]);
        const { attempts: _attempts, ...copy } = aTask({ status: "runnable" });
        committed({ op: "replace_run", run: { ...run.run(), tasks: [copy] } }, run);
        return run.task("t") as Task;
      },
      "revoked",
    ],
  ];
  it.each(ends)("claims: after %s the next holder is told of the one before", (_title, end, outcome) => {
    const ended = end(heldTask({ progress: told }));
    expect(ended).not.toHaveProperty("progress");
    const run = memoryRun({ last_event_seq: 20, revision: 21 }, [ended]);
    const { outcome: claimed, commits } = accepted(
      { op: "claim_task", agent_id: "bob" },
      run,
      aContext(NOW + 1_000_000),
    );
    if (claimed.op !== "claim_task" || claimed.task === null) throw new Error("nothing was claimed");
    const handover = {
      attempt: ended.attempt,
      last_progress: told,
      previous_attempts: [
        expect.objectContaining({
          fence: 7,
          agent_id: "ann",
          claimed_at_ms: NOW - 10,
          outcome,
          progress: told,
        }),
      ],
    };
    expect(handoverOf(claimed.task)).toEqual(handover);
    const again = recall({ op: "claim_task", agent_id: "bob" }, commits, {}, aContext());
    expect(again).toEqual(claimed);
  });

  it("claims: the last report counts, whoever made it; a task that nobody held has none", () => {
    const attempt = (fence: number, progress?: Attempt["progress"]): Attempt => ({
      fence,
      agent_id: "a",
      claimed_at_ms: 1,
      ended_at_ms: 2,
      outcome: "failed",
      ...(progress !== undefined && { progress }),
    });
    const attempts = [attempt(1, { at_ms: 1 }), attempt(2, { at_ms: 2 }), attempt(3)];
    expect(handoverOf(aTask({ attempts }))?.last_progress).toEqual({ at_ms: 2 });
    const silent = attempts.map(({ progress: _progress, ...one }) => one);
    expect(handoverOf(aTask({ attempts: silent }))?.last_progress).toBeNull();
    expect(handoverOf(aTask())).toBeNull();
  });

  it("claims: a fail or release may bring a last report", () => {
    for (const action of ["fail", "release"]) {
      expect(changedBy(heldTask(), action, { progress: report }).attempts).toMatchObject([
        { progress: told },
      ]);
    }
  });

  it("claims: a task tells of its last ten attempts, and of the beginning of each error", () => {
    let task = heldTask({ max_attempts: 99 });
    for (let fence = 1; fence <= 12; fence += 1) {
      task = changedBy(
        heldTask({ ...task, fence, ...leasedTo("ann", "lease-1"), status: "in_progress" }),
        "fail",
        {
          error: "x".repeat(2_000),
        },
      );
    }
    expect(task.attempts?.map((one) => one.fence)).toEqual([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    for (const { error } of task.attempts ?? []) expect(error?.length).toBeLessThanOrEqual(1_000);
    expect(task.last_error).toHaveLength(2_000);
  });
});

describe("dead letters", () => {
  const letter = (id: string, members: Partial<Task> = {}): Task =>
    aTask({
      id,
      status: "failed",
      retry: DEFAULT_RETRY,
      ...LETTER,
      attempt: 3,
      last_error: "e",
      next_retry_at_ms: 5,
      failure: { cause: "attempts_exhausted", at_ms: 5 },
      ...members,
    });

  it("claims: one that is redriven is as new, and tells of what was tried", () => {
    const attempts: Attempt[] = [
      { fence: 1, agent_id: "a", claimed_at_ms: 1, ended_at_ms: 2, outcome: "failed" },
    ];
    const run = memoryRun({}, [letter("t", { attempts })]);
    const { commits, outcome } = accepted({ op: "redrive_task", task_id: "t" }, run);
    const {
      dead_letter: _letter,
      failure: _failure,
      last_error: _error,
      next_retry_at_ms: _at,
      ...rest
    } = letter("t", { attempts });
    const task = {
      ...rest,
      status: "runnable",
      attempt: 0,
      redriven_at_ms: NOW,
      task_rev: 2,
      updated_ts: NOW,
    };
    expect(outcome).toEqual({ op: "redrive_task", task });
    expect(commits).toMatchObject([
      {
        event: {
          type: "context.task.redriven",
          task_id: "t",
          payload: { cause: "attempts_exhausted", task },
        },
        patch: { op: "update_task_state", payload: { status: "runnable", attempt: 0, error: null } },
      },
    ]);
    expect(recall({ op: "redrive_task", task_id: "t" }, commits, {}, aContext())).toEqual(outcome);
  });

  it("claims: of one that does not say why it failed, no cause is told", () => {
    const { failure: _failure, ...silent } = letter("t");
    const [commit] = committed({ op: "redrive_task", task_id: "t" }, memoryRun({}, [silent]));
    expect(commit?.event.payload).toMatchObject({ cause: null });
  });

  it("claims: only a dead letter is redriven", () => {
    const { dead_letter: _letter, ...failed } = letter("t");
    expect(refused({ op: "redrive_task", task_id: "t" }, memoryRun({}, [failed]))).toMatchObject({
      code: "TASK_TRANSITION_INVALID",
      current_status: "failed",
    });
    const run = memoryRun({}, [letter("t")]);
    expect(refused({ op: "redrive_task", task_id: "u" }, run)).toMatchObject({ code: "TASK_NOT_FOUND" });
    const stale = { op: "redrive_task", task_id: "t", expected_task_rev: 9 } as const;
    expect(refused(stale, run)).toMatchObject({ code: "TASK_REV_MISMATCH", task_rev: 1 });
    const bound = { op: "redrive_task", task_id: "t", task_types: ["x"] } as const;
    expect(refused(bound, run)).toMatchObject({ code: "TOKEN_BOUND" });
  });

  const board = [
    letter("a", { task_type: "x", workflow_id: "w" }),
    aTask({ id: "b", status: "failed" }),
    letter("c", { task_type: "y", failure: { cause: "not_retryable", at_ms: 5, error_code: "E" } }),
    letter("d", { task_type: "x", failure: { cause: "not_retryable", at_ms: 5 } }),
  ];
  it.each([
    [{}, ["a", "c", "d"]],
    [{ task_type: "x" }, ["a", "d"]],
    [{ workflow_id: "w" }, ["a"]],
    [{ cause: "not_retryable" as const }, ["c", "d"]],
    [{ error_code: "E" }, ["c"]],
    [{ task_type: "x", cause: "not_retryable" as const }, ["d"]],
    [{ task_types: ["y", "z"] }, ["c"]],
    [{ task_type: "none" }, []],
  ])("claims: of many, %j finds %j: counted by a preview, put back in list order", (filter, ids) => {
    const run = memoryRun({}, board);
    const many = { op: "redrive_tasks", limit: 500, ...filter } as const;
    const counted = accepted({ ...many, preview: true }, run);
    expect([counted.commits, counted.outcome]).toEqual([
      [],
      { op: "redrive_tasks", preview: true, matched: ids.length, task_ids: [] },
    ]);
    const done = accepted({ ...many, preview: false }, run);
    expect(done.outcome).toEqual({
      op: "redrive_tasks",
      preview: false,
      matched: ids.length,
      task_ids: ids,
    });
    if (ids.length > 0) {
      expect(recall({ ...many, preview: false }, done.commits, {}, aContext())).toEqual(done.outcome);
    }
    const [first] = accepted({ ...many, preview: false, limit: 1 }, run).commits;
    expect(first?.event.task_id).toBe(ids[0]);
  });

  it("claims: what a `retry` or a status puts back is no dead letter any more", () => {
    for (const action of ["retry", "status"]) {
      const task = changedBy(letter("t"), action, { status: "runnable" });
      expect(task.status).toBe("runnable");
      expect(task).not.toHaveProperty("dead_letter");
      expect(task).not.toHaveProperty("failure");
    }
  });

  it("claims: every cause can be a filter's", () => {
    for (const cause of FAILURE_CAUSES) {
      const run = memoryRun({}, [letter("t", { failure: { cause, at_ms: 1 } })]);
      expect(run.countDeadLetters({ cause })).toBe(1);
    }
  });
});

describe("a new task", () => {
  it("claims: that takes the place of another begins its own life", () => {
    const run = memoryRun({}, [
      aTask({ status: "failed", ...LETTER, failure: { cause: "not_retryable", at_ms: 1 }, retry: RETRY }),
    ]);
    committed(batch(aRow({ id: "t" })), run);
    expect(run.task("t")).toEqual(aTask({ created_ts: NOW, updated_ts: NOW }));
  });
});
