import { describe, expect, it } from "vitest";
import type { CommandOf } from "../../src/domain/command.ts";
import type { Commit } from "../../src/domain/commit.ts";
import { recall } from "../../src/domain/outcome.ts";
import { MAX_CLAIMED_LENGTH } from "../../src/protocol/limits.ts";
import type { RunStatus } from "../../src/protocol/status.ts";
import type { EmptyClaimReason, Task } from "../../src/protocol/task.ts";
import {
  aContext,
  accepted,
  aTask,
  CREATED,
  committed,
  FINGERPRINT,
  leasedTo,
  maskToken,
  memoryRun,
  NOW,
  refused,
} from "../support/builders.ts";

const claim = (members: Partial<CommandOf<"claim_task">> = {}): CommandOf<"claim_task"> => ({
  op: "claim_task",
  agent_id: "ann",
  ...members,
});

/** The id of the task that a claim takes of these, or null. */
function taken(tasks: Task[], members: Partial<CommandOf<"claim_task">> = {}): string | null {
  const { outcome } = accepted(claim(members), memoryRun({}, tasks));
  return outcome.op === "claim_task" ? (outcome.task?.id ?? null) : null;
}

describe("candidates", () => {
  it.each([
    ["pending", true],
    ["runnable", true],
    ["in_progress", false],
    ["blocked", false],
    ["done", false],
    ["failed", false],
  ] as const)("04§4 D52 a task that is %s: claimable %s", (status, claimable) => {
    expect(taken([aTask({ status })])).toBe(claimable ? "t" : null);
  });

  it.each([
    "queued",
    "planning",
    "awaiting_approval",
    "paused",
    "blocked",
    "failed",
    "completed",
    "cancelled",
  ] as const)("D51 the run's status %s does not matter", (status) => {
    const run = memoryRun({ status }, [aTask()]);
    committed(claim(), run);
    expect(run.task("t")?.status).toBe("in_progress");
    expect(run.run().status).toBe(status);
  });

  const filters: [Partial<CommandOf<"claim_task">>, Partial<Task>, boolean][] = [
    [{}, { task_type: "x", workflow_id: "w" }, true],
    [{ task_type: "x" }, { task_type: "x" }, true],
    [{ task_type: "x" }, { task_type: "X" }, false],
    [{ task_type: " x" }, { task_type: "x" }, false],
    [{ task_type: "" }, { task_type: "x" }, false],
    [{ workflow_id: "w" }, { workflow_id: "w" }, true],
    [{ workflow_id: "w" }, { workflow_id: "v" }, false],
    [{ workflow_id: "w" }, {}, false],
    [{ workflow_id: "" }, {}, false],
    [{ task_type: "x", workflow_id: "w" }, { task_type: "x", workflow_id: "w" }, true],
    [{ task_type: "x", workflow_id: "w" }, { task_type: "y", workflow_id: "w" }, false],
  ];
  it.each(filters)("04§4 the filter %j on %j: %s", (filter, members, matches) => {
    expect(taken([aTask(members)], filter)).toBe(matches ? "t" : null);
  });

  it.each([
    [undefined, true],
    [0, true],
    [NOW - 1, true],
    [NOW, true],
    [NOW + 1, false],
  ])("04§4 a retry window from %s is open: %s", (next, isOpen) => {
    const task = aTask(next === undefined ? {} : { next_retry_at_ms: next });
    expect(taken([task])).toBe(isOpen ? "t" : null);
  });

  const waiting = aTask({ depends_on_task_ids: ["a", "b"] });
  const done = (id: string) => aTask({ id, status: "done" });
  const dependencies: [string, Task[], string | null][] = [
    ["all done", [waiting, done("a"), done("b")], "t"],
    ["one missing", [waiting, done("a")], null],
    ["one failed", [waiting, done("a"), aTask({ id: "b", status: "failed" })], null],
    ["one blocked", [waiting, done("a"), aTask({ id: "b", status: "blocked" })], null],
    ["one still to do, itself claimable", [waiting, done("a"), aTask({ id: "b" })], "b"],
    ["itself", [aTask({ depends_on_task_ids: ["t"] })], null],
    ["one done, named twice", [aTask({ depends_on_task_ids: ["a", "a"] }), done("a")], "t"],
  ];
  it.each(dependencies)("04§4 dependencies: %s", (_, tasks, expected) => {
    expect(taken(tasks)).toBe(expected);
  });

  const order: [string, Partial<Task>[], string][] = [
    ["priority first", [{ id: "a" }, { id: "b", priority: 1 }, { id: "c", priority: -1 }], "b"],
    [
      "then age",
      [
        { id: "a", created_ts: 3 },
        { id: "b", created_ts: 1 },
        { id: "c", created_ts: 2 },
      ],
      "b",
    ],
    ["then list order", [{ id: "b" }, { id: "a" }], "b"],
    ["pending and runnable alike", [{ id: "a" }, { id: "b", status: "runnable" }], "a"],
    [
      "priority over age",
      [
        { id: "a", created_ts: 1 },
        { id: "b", created_ts: 2, priority: 1 },
      ],
      "b",
    ],
    [
      "negative priorities",
      [
        { id: "a", priority: -5 },
        { id: "b", priority: -4 },
      ],
      "b",
    ],
  ];
  it.each(order)("04§4 order: %s", (_, tasks, first) => {
    expect(taken(tasks.map((members) => aTask(members)))).toBe(first);
  });
});

describe("the claim", () => {
  it("04§4 D05 exact task, event, patch and answer: the token is the claimer's alone", () => {
    const before = aTask({
      workflow_id: "wf",
      attempt: 2,
      last_error: "e",
      next_retry_at_ms: 7,
      task_rev: 4,
    });
    const run = memoryRun({ status: "paused" }, [before]);
    const decision = accepted(claim({ agent_id: " ann ", lease_ms: 6_000 }), run, aContext(), "c1");
    const [commit, ...others] = decision.commits;
    if (commit === undefined) throw new Error("no commit");
    const token = `lease-${commit.event.event_id.replace("evt-", "")}`;
    const expires = NOW + 6_000;
    const task = {
      ...before,
      status: "in_progress",
      ...leasedTo("ann", token, expires),
      fence: 1,
      claimed_at_ms: NOW,
      task_rev: 5,
      updated_ts: NOW,
    };
    expect(others).toEqual([]);
    expect(maskToken(token)).toMatch(FINGERPRINT);
    expect(decision.outcome).toEqual({
      op: "claim_task",
      task: { ...task, lease_token: token },
      lease: { token, owner: "ann", fence: 1, expires_at_ms: expires, expires_in_ms: 6_000 },
      reason: null,
      run_status: "paused",
    });
    expect(commit.event).toStrictEqual({
      event_id: expect.stringMatching(/^evt-[0-9a-f-]{36}$/),
      run_id: "r",
      seq: 1,
      ts_ms: NOW,
      type: "context.task.claimed",
      status: "paused",
      run_status: "paused",
      revision: 2,
      step_id: "t",
      task_id: "t",
      command_id: "c1",
      payload: { task_id: "t", agent_id: "ann", task_rev: 5, workflow_id: "wf", task, patch_seq: 1 },
    });
    expect(commit.patch).toMatchObject({ op: "update_task_state", seq: 1, source_event_seq: 1, ts_ms: NOW });
    expect(commit.patch?.payload).toStrictEqual({
      task_id: "t",
      status: "in_progress",
      ...leasedTo("ann", token, expires),
      task_rev: 5,
      command_id: "c1",
    });
    expect(JSON.stringify(decision.commits)).not.toContain(token);
    run.apply(commit);
    expect(run.run().tasks).toStrictEqual([task]);
  });

  it("04§4 no workflow: null in the event; no lease length: 30 s; two claims, two tokens", () => {
    const run = memoryRun({}, [aTask({ id: "a" }), aTask({ id: "b" })]);
    const context = aContext();
    const [first] = committed(claim(), run, context);
    const [second] = committed(claim(), run, context);
    expect(first?.event.payload).toMatchObject({ task_id: "a", workflow_id: null });
    expect(run.task("a")?.lease_expires_at_ms).toBe(NOW + 30_000);
    expect(second?.event.payload).toMatchObject({ task_id: "b" });
    expect(run.task("a")?.lease_token).not.toBe(run.task("b")?.lease_token);
  });

  it("04§4 nothing claimable: no task, no commit", () => {
    expect(accepted(claim(), memoryRun())).toEqual({
      ok: true,
      commits: [],
      outcome: {
        op: "claim_task",
        task: null,
        lease: null,
        reason: "nothing_claimable",
        run_status: "queued",
      },
    });
  });

  const stops: [RunStatus, EmptyClaimReason][] = [
    ["paused", "run_paused"],
    ["cancelled", "run_cancelled"],
    ["completed", "run_ended"],
    ["failed", "run_ended"],
  ];
  it.each(stops)("claims: by the strict rules a run that is %s gives out nothing: %s", (status, reason) => {
    const decision = accepted(claim({ strict: true }), memoryRun({ status }, [aTask()]));
    expect(decision.commits).toEqual([]);
    expect(decision.outcome).toMatchObject({ task: null, lease: null, reason, run_status: status });
  });

  it.each(["", " \n"])("04§4 the agent %j is blank", (agent_id) => {
    const refusal = refused(claim({ agent_id }), memoryRun({}, [aTask()]));
    expect(refusal).toMatchObject({
      code: "FIELD_INVALID",
      issues: [{ field: "agent_id", rule: "non_blank" }],
    });
  });
});

describe("a claim of several", () => {
  const names = (count: number) => Array.from({ length: count }, (_, index) => `t${index}`);
  const several = (max: number, tasks: Task[], members: Partial<CommandOf<"claim_task">> = {}) => {
    const run = memoryRun({}, tasks);
    const decision = accepted(claim({ max, ...members }), run, aContext(), "c1");
    for (const commit of decision.commits) run.apply(commit);
    const { outcome } = decision;
    if (outcome.op !== "claim_task" || outcome.claims === undefined) throw new Error("it names no claims");
    return { ...decision, outcome, claims: outcome.claims, run };
  };

  it.each([
    [1, 5, 1],
    [3, 5, 3],
    [100, 5, 5],
    [4, 0, 0],
  ])(
    "claims: max %i of %i that are claimable takes %i, in the order of single claims",
    (max, there, taken) => {
      const { claims, run } = several(
        max,
        names(there).map((id, index) => aTask({ id, priority: index % 2 })),
      );
      const inTurn = memoryRun(
        {},
        names(there).map((id, index) => aTask({ id, priority: index % 2 })),
      );
      const expected = names(taken).map(() => {
        const [commit] = committed(claim(), inTurn);
        return commit?.event.task_id;
      });
      expect(claims.map(({ task }) => task.id)).toEqual(expected);
      expect(run.run().tasks.filter(({ status }) => status === "in_progress")).toHaveLength(taken);
    },
  );

  it("claims: each has a lease of its own: token, fence, expiry; the first commit alone bears the command's id", () => {
    const { claims, commits, outcome } = several(
      3,
      names(3).map((id) => aTask({ id })),
      { lease_ms: 7_000 },
    );
    expect(new Set(claims.map(({ lease }) => lease?.token)).size).toBe(3);
    expect(claims.map(({ lease }) => lease?.fence)).toEqual([1, 2, 3]);
    expect(claims.map(({ task }) => task.fence)).toEqual([1, 2, 3]);
    for (const { task, lease } of claims) {
      expect(lease?.expires_at_ms).toBe(NOW + 7_000);
      expect(task.lease_token).toBe(lease?.token);
      expect(JSON.stringify(commits)).not.toContain(lease?.token);
    }
    expect(commits.map(({ event }) => event.command_id)).toEqual(["c1", undefined, undefined]);
    expect(outcome).toMatchObject({ task: null, lease: null, reason: null, run_status: "queued" });
  });

  it("claims: where there is nothing, it names no claims and the reason", () => {
    expect(several(5, []).outcome).toMatchObject({ claims: [], reason: "nothing_claimable" });
  });

  it("claims: it takes fewer than it might where they are too long for one answer, but always one", () => {
    const payload = { text: "x".repeat(MAX_CLAIMED_LENGTH / 2 - 1_000) };
    const long = names(4).map((id) => aTask({ id, payload }));
    expect(several(4, long).claims).toHaveLength(2);
    const longer = { text: "x".repeat(MAX_CLAIMED_LENGTH) };
    expect(several(4, [aTask({ payload: longer })]).claims).toHaveLength(1);
  });

  it("claims: as much as just fits is taken", () => {
    const text = (task: Task) => JSON.stringify(task).length;
    const second = (length: number) => aTask({ id: "u", payload: "x".repeat(length) });
    const room = MAX_CLAIMED_LENGTH - text(aTask()) - text(second(0));
    expect(several(2, [aTask(), second(room)]).claims).toHaveLength(2);
    expect(several(2, [aTask(), second(room + 1)]).claims).toHaveLength(1);
  });

  it("claims: what is overdue is given out no more, nor what comes after it", () => {
    const late = aTask({ id: "late", priority: 1, clocks: { start_within_ms: NOW - CREATED } });
    const first = aTask({ id: "first", priority: 2 });
    expect(several(3, [aTask(), late, first]).claims.map(({ task }) => task.id)).toEqual(["first"]);
    const inTime = { ...late, clocks: { start_within_ms: NOW - CREATED + 1 } };
    expect(several(3, [aTask(), inTime, first]).claims).toHaveLength(3);
  });

  it("claims: a repeat gets them all again, with the same tokens", () => {
    const { commits, outcome } = several(
      3,
      names(3).map((id) => aTask({ id })),
    );
    const logged = JSON.parse(JSON.stringify(commits)) as Commit[];
    expect(recall(claim({ max: 3 }), logged, {}, aContext())).toEqual(outcome);
  });
});
