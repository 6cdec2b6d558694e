import { describe, expect, it } from "vitest";
import { isHeldUpTo, isStale, leaseMs, needsToken, withoutLease } from "../../src/domain/lease.ts";
import { WORK_STATUSES, type WorkStatus } from "../../src/protocol/status.ts";
import { TASK_ACTIONS, type Task, type TaskAction } from "../../src/protocol/task.ts";
import {
  aTask,
  committed,
  heldTask,
  leasedTo,
  maskToken,
  memoryRun,
  NOW,
  refused,
  transition,
} from "../support/builders.ts";

/** An action with the status it asks for, and when it needs the token of a leased task. */
type Need = "always" | "unless expired" | "never";
const NEEDS: [TaskAction | null, WorkStatus | null, Need][] = [
  ["heartbeat", null, "always"],
  ["complete", null, "always"],
  ["fail", null, "always"],
  ["release", null, "always"],
  ["retry", null, "unless expired"],
  ["status", "in_progress", "always"],
  ["status", "done", "always"],
  ["status", "failed", "always"],
  ["status", "blocked", "always"],
  ["status", "runnable", "unless expired"],
  ["status", "pending", "unless expired"],
  ["status", null, "never"],
  [null, null, "never"],
  [null, "done", "never"],
];

describe("the lease rule", () => {
  it.each(NEEDS)("04§7 D55 %s to %s needs the token: %s", (action, requested, need) => {
    for (const status of WORK_STATUSES) {
      const at = (expires: number) => aTask({ status, ...leasedTo("ann", "lease-1", expires) });
      const needs = (task: Task) => needsToken(task, action, requested, NOW);
      expect(needs(at(NOW + 1))).toBe(need !== "never");
      for (const expired of [NOW, NOW - 1, 0]) expect(needs(at(expired))).toBe(need === "always");
      const { lease_expires_at_ms: _expires, ...endless } = at(0);
      expect(needs(endless)).toBe(need !== "never");
      const { lease_token: _token, ...unleased } = at(NOW + 1);
      expect(needs(unleased)).toBe(false);
    }
  });

  it("04§7 a status beside an action that sets none makes no difference", () => {
    const expired = aTask({ status: "in_progress", ...leasedTo("ann", "lease-1", NOW) });
    for (const [action, requested, need] of NEEDS) {
      if (requested !== null || action === null || action === "status") continue;
      for (const status of WORK_STATUSES) {
        expect(needsToken(expired, action, status, NOW), action).toBe(need === "always");
      }
    }
  });

  it.each<[boolean, string, { [Name in keyof Task]?: Task[Name] | undefined }]>([
    [true, "of that very commit", {}],
    [true, "of an earlier one", { fence: 6 }],
    [false, "of a later one", { fence: 8 }],
    [false, "set aside", { status: "blocked" }],
    [false, "that no claim gave", { fence: undefined }],
    [false, "without an end", { lease_expires_at_ms: undefined }],
  ])("claims: a halt at fence 7 takes back (%s) a lease %s", (isTaken, _, members) => {
    const task = { ...heldTask(), ...members } as Task;
    expect(isHeldUpTo(task, 7)).toBe(isTaken);
  });

  it("04§7 every action besides status is in the table once", () => {
    const listed = NEEDS.flatMap(([action]) => (action === null || action === "status" ? [] : [action]));
    expect([...listed, "status"].toSorted()).toEqual([...TASK_ACTIONS].toSorted());
  });

  const held = (expires = NOW + 1) =>
    memoryRun({}, [aTask({ status: "in_progress", ...leasedTo("ann", "lease-1", expires) })]);
  const wrong = ["lease-2", "", " lease-1", "LEASE-1", maskToken("lease-1")];
  it.each(wrong)("04§7 D05 %j is not the token", (lease_token) => {
    for (const action of ["heartbeat", "complete", "fail", "release"]) {
      expect(refused(transition(action, { lease_token }), held())).toEqual({
        code: "TASK_LEASE_INVALID",
        error: "invalid lease token",
        lease_owner: "ann",
        fence: null,
        lease_expires_at_ms: NOW + 1,
      });
    }
  });

  it("D54 an expired token still completes, until the task is requeued", () => {
    const run = held(NOW - 1);
    expect(refused(transition("complete"), run)).toMatchObject({ code: "TASK_LEASE_REQUIRED" });
    committed(transition("complete", { lease_token: "lease-1" }), run);
    expect(run.task("t")?.status).toBe("done");
  });

  it("04§7 a token for a task without one is ignored", () => {
    const run = memoryRun({}, [aTask({ status: "in_progress" })]);
    committed(transition("complete", { lease_token: "anything" }), run);
    expect(run.task("t")?.status).toBe("done");
  });

  it("D55 taking leased work away needs the token while the lease lasts, and nothing after", () => {
    for (const command of [transition("retry"), transition("status", { status: "runnable" })]) {
      const blocked = (expires: number) =>
        memoryRun({}, [aTask({ status: "blocked", ...leasedTo("ann", "lease-1", expires) })]);
      expect(refused(command, blocked(NOW + 1))).toMatchObject({ code: "TASK_LEASE_REQUIRED" });
      const wrongly = { ...command, lease_token: "lease-2" };
      expect(refused(wrongly, blocked(NOW + 1))).toMatchObject({ code: "TASK_LEASE_INVALID" });
      const run = blocked(NOW);
      committed(wrongly, run);
      expect(run.task("t")?.status).toBe("runnable");
    }
  });
});

describe("lease length", () => {
  it.each([
    [undefined, 30_000],
    [null, 30_000],
    [0, 5_000],
    [4_999, 5_000],
    [5_000, 5_000],
    [5_001, 5_001],
    [299_999, 299_999],
    [300_000, 300_000],
    [300_001, 300_000],
    [Number.MAX_SAFE_INTEGER, 300_000],
  ])("04§4 %s ms asked for are %i ms", (asked, granted) => {
    expect(leaseMs(asked)).toBe(granted);
  });
});

describe("stale leases", () => {
  it.each(WORK_STATUSES)("04§9 D53 a task that is %s", (status) => {
    const isWorked = status === "in_progress";
    for (const [expires, expired] of [
      [NOW - 1, true],
      [NOW, true],
      [NOW + 1, false],
    ] as const) {
      const task = aTask({ status, lease_expires_at_ms: expires });
      expect(isStale(task, NOW)).toBe(isWorked && expired);
    }
    expect(isStale(aTask({ status }), NOW)).toBe(false);
  });

  it("04§8 without its lease a task keeps everything else", () => {
    const task = aTask({ ...leasedTo("ann", "lease-1"), last_error: "e" });
    expect(withoutLease(task)).toStrictEqual(aTask({ assigned_agent: "ann", last_error: "e" }));
  });
});
