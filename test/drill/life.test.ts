import { describe, expect, it } from "vitest";
import type { AuditInput } from "../../bench/drill/audit.ts";
import { checkClocks } from "../../bench/drill/audit-clocks.ts";
import { checkKeys } from "../../bench/drill/audit-keys.ts";
import { checkLocks } from "../../bench/drill/audit-locks.ts";
import {
  type AuditEvent,
  type CommandRecord,
  type Resource,
  toAuditEvent,
  toAuditTask,
} from "../../bench/drill/records.ts";
import type { Flag } from "../../bench/drill/violation.ts";

/*
 * Clocks, concurrency keys and locks, by the log: each check finds nothing in a log in order, and what breaks its rules in one that
 * is not.
 */

type Check = (input: AuditInput, flag: Flag) => number;

function found(check: Check, input: Partial<AuditInput>): { rules: string[]; examined: number } {
  const rules: string[] = [];
  const whole = { events: [], commands: [], concurrencyLimits: {}, ...input } as unknown as AuditInput;
  const examined = check(whole, (name, rule) => rules.push(`${name}/${rule}`));
  return { rules, examined };
}

type Row = [ts_ms: number, verb: string, task?: object, payload?: object];

/** Events about task `t`, unless it is another's; only the engine's have a reason, and only others' a command. */
function eventsOf(rows: readonly Row[], always: object = {}): AuditEvent[] {
  return rows.map(([ts_ms, verb, task = {}, payload = {}], index) =>
    toAuditEvent({
      seq: index + 1,
      ts_ms,
      type: `context.task.${verb}`,
      ...("reason" in payload ? {} : { command_id: `c${index}` }),
      payload: { task: { id: "t", status: "runnable", ...always, ...task }, ...payload },
    }),
  );
}

const held = { status: "in_progress", lease_owner: "a" };
const failed = { status: "failed", dead_letter: true };

describe("clocks", () => {
  const clocked = (rows: readonly Row[], clocks: object) =>
    found(checkClocks, { events: eventsOf(rows, { clocks }) });
  const start: Row[] = [[100, "created"]];

  it.each<[what: string, clocks: object, rows: Row[], endings: number]>([
    [
      "a task that nobody began in time, and that was put back and done",
      { start_within_ms: 50 },
      [
        ...start,
        [150, "failed", failed, { reason: "start_deadline" }],
        [400, "redriven"],
        [449, "claimed", held],
        [900, "completed", { status: "done" }],
      ],
      1,
    ],
    [
      "attempts that ran too long, each by its own claim",
      { run_within_ms: 50 },
      [
        ...start,
        [200, "claimed", held],
        [250, "requeued", {}, { reason: "run_time_limit" }],
        [260, "claimed", held],
        [309, "completed", { status: "done" }],
      ],
      1,
    ],
    [
      "silence, counted from the last report",
      { silent_within_ms: 50 },
      [
        ...start,
        [200, "claimed", held],
        [240, "heartbeat", held],
        [290, "requeued", {}, { reason: "silence_limit" }],
      ],
      1,
    ],
    [
      "a task that was not done in time, held or not",
      { finish_within_ms: 50 },
      [
        ...start,
        [120, "claimed", held],
        [151, "failed", failed, { reason: "total_deadline" }],
        [160, "redriven"],
        [215, "failed", failed, { reason: "total_deadline" }],
      ],
      2,
    ],
    [
      "a lease that ran out before the clock, noticed after it",
      { run_within_ms: 50 },
      [...start, [200, "claimed", held], [300, "stale_requeued", {}, { reason: "lease_expired" }]],
      0,
    ],
  ])("finds nothing wrong with %s", (_, clocks, rows, endings) => {
    expect(clocked(rows, clocks)).toEqual({ rules: [], examined: endings });
  });

  it.each<[rule: string, what: string, clocks: object, rows: Row[]]>([
    [
      "ended_early",
      "a start deadline a moment too soon",
      { start_within_ms: 50 },
      [...start, [149, "failed", failed, { reason: "start_deadline" }]],
    ],
    [
      "ended_early",
      "silence although there was a report",
      { silent_within_ms: 50 },
      [
        ...start,
        [200, "claimed", held],
        [240, "heartbeat", held],
        [289, "requeued", {}, { reason: "silence_limit" }],
      ],
    ],
    [
      "ended_early",
      "a deadline that forgot that the task was put back",
      { finish_within_ms: 50 },
      [
        ...start,
        [150, "failed", failed, { reason: "total_deadline" }],
        [300, "redriven"],
        [310, "failed", failed, { reason: "total_deadline" }],
      ],
    ],
    [
      "ended_by_no_clock",
      "a clock that the task does not have",
      { finish_within_ms: 50 },
      [...start, [900, "failed", failed, { reason: "start_deadline" }]],
    ],
    [
      "ended_by_no_clock",
      "a run time limit where nobody runs",
      { run_within_ms: 50 },
      [...start, [900, "failed", failed, { reason: "run_time_limit" }]],
    ],
    [
      "ended_by_no_clock",
      "a start deadline after somebody had begun",
      { start_within_ms: 50 },
      [
        ...start,
        [110, "claimed", held],
        [120, "requeued"],
        [190, "failed", failed, { reason: "start_deadline" }],
      ],
    ],
    [
      "went_on",
      "a claim at the very moment of its start deadline",
      { start_within_ms: 50 },
      [...start, [150, "claimed", held]],
    ],
    [
      "went_on",
      "a completion of work that ran too long",
      { run_within_ms: 50 },
      [...start, [200, "claimed", held], [250, "completed", { status: "done" }]],
    ],
    [
      "went_on",
      "a report after too long a silence",
      { silent_within_ms: 50 },
      [...start, [200, "claimed", held], [250, "heartbeat", held]],
    ],
    [
      "went_on",
      "a failure told after the task was to be done",
      { finish_within_ms: 50 },
      [...start, [120, "claimed", held], [150, "failed", { status: "failed" }]],
    ],
  ])("finds %s: %s", (rule, _, clocks, rows) => {
    expect(clocked(rows, clocks).rules).toEqual([`clocks/${rule}`]);
  });
});

describe("concurrency keys", () => {
  const key = (id: string, more: object = {}) => ({ id, concurrency_key: "k", ...more });
  const claims = (limit: number | undefined, rows: Row[]) =>
    found(checkKeys, {
      events: eventsOf(rows),
      concurrencyLimits: limit === undefined ? {} : { k: limit },
    });
  const two: Row[] = [
    [1, "claimed", key("a", held)],
    [2, "claimed", key("b", held)],
  ];

  it("finds nothing wrong where a place is free again, or the limit is larger", () => {
    const back: Row[] = [
      [1, "claimed", key("a", held)],
      [2, "heartbeat", key("a", held)],
      [3, "requeued", key("a")],
      [4, "claimed", key("b", held)],
      [5, "completed", key("b", { status: "done" })],
      [6, "claimed", key("a", held)],
      [7, "claimed", { id: "c", ...held }],
    ];
    expect(claims(undefined, back)).toEqual({ rules: [], examined: 3 });
    expect(claims(2, two)).toEqual({ rules: [], examined: 2 });
  });

  it("finds one more than there are places", () => {
    expect(claims(undefined, two).rules).toEqual(["keys/too_many_at_once"]);
    expect(claims(2, [...two, [3, "claimed", key("c", held)]]).rules).toEqual(["keys/too_many_at_once"]);
    // Work that is blocked keeps its place while it has its lease.
    const blocked: Row = [2, "blocked", key("a", { status: "blocked", lease_owner: "a" })];
    const after: Row[] = [[1, "claimed", key("a", held)], blocked, [3, "claimed", key("b", held)]];
    expect(claims(undefined, after).rules).toEqual(["keys/too_many_at_once"]);
  });
});

describe("locks", () => {
  const alone = (name: string): Resource => ({ name, mode: "exclusive" });
  const shared = (name: string): Resource => ({ name, mode: "shared" });
  type Step = [ts_ms: number, type: string, payload: object, more?: object];

  function logged(steps: readonly Step[]): AuditEvent[] {
    return steps.map(([ts_ms, type, payload, more = {}], index) =>
      toAuditEvent({ seq: index + 1, ts_ms, type: `context.${type}`, payload, ...more }),
    );
  }

  const lock = (lock_id: string, fence: number, resources: Resource[], expires_at_ms: number) => ({
    lock: { lock_id, agent_id: `agent ${lock_id}`, fence, resources, expires_at_ms },
  });
  const locks = (steps: readonly Step[], commands: readonly CommandRecord[] = []) =>
    found(checkLocks, { events: logged(steps), commands });
  const task = (fence: number | undefined, lease_expires_at_ms?: number) => ({
    task: { ...toAuditTask({ id: "t" }), fence, lease_expires_at_ms },
  });
  const withTask = (lock_id: string, fence: number, resources: Resource[], expires: number) => ({
    lock: { ...lock(lock_id, fence, resources, expires).lock, task_id: "t" },
    ...task(fence, expires),
  });

  it.each<[what: string, taken: number, steps: Step[]]>([
    [
      "locks one after the other",
      3,
      [
        [10, "lock.acquired", lock("a", 1, [alone("x")], 60)],
        [50, "lock.renewed", lock("a", 1, [alone("x")], 100)],
        [90, "lock.released", { lock_ids: ["a"], reason: "released" }],
        [91, "lock.acquired", lock("b", 4, [alone("x")], 141)],
        [141, "lock.acquired", lock("c", 5, [alone("x")], 191)],
        [142, "lock.released", { lock_ids: ["b"], reason: "expired" }],
      ],
    ],
    [
      "two that share, and one on something else",
      3,
      [
        [10, "lock.acquired", lock("a", 1, [shared("x")], 60)],
        [11, "lock.acquired", lock("b", 2, [shared("x"), alone("z")], 61)],
        [12, "lock.acquired", lock("c", 3, [alone("y")], 62)],
      ],
    ],
    [
      "one that goes on with its task's lease, and ends with it",
      2,
      [
        [10, "task.claimed", withTask("a", 1, [alone("x")], 60)],
        [50, "task.heartbeat", task(1, 100)],
        [90, "task.completed", task(undefined)],
        [91, "lock.acquired", lock("b", 4, [alone("x")], 141)],
      ],
    ],
  ])("finds nothing wrong with %s", (_, taken, steps) => {
    expect(locks(steps)).toEqual({ rules: [], examined: taken });
  });

  const first: Step = [10, "lock.acquired", lock("a", 1, [alone("x")], 60)];

  it.each<[rule: string, what: string, steps: Step[]]>([
    ["two_locks", "two at once", [first, [59, "lock.acquired", lock("b", 2, [alone("x")], 109)]]],
    [
      "two_locks",
      "one alone on what another shares",
      [first, [59, "lock.acquired", lock("b", 2, [alone("y"), shared("x")], 109)]],
    ],
    [
      "two_locks",
      "two at once because of a renewal",
      [
        first,
        [50, "lock.renewed", lock("a", 1, [alone("x")], 100)],
        [99, "lock.acquired", lock("b", 3, [alone("x")], 149)],
      ],
    ],
    [
      "two_locks",
      "one beside that of a task whose lease goes on",
      [
        [10, "task.claimed", withTask("a", 1, [alone("x")], 60)],
        [50, "task.heartbeat", task(1, 100)],
        [99, "lock.acquired", lock("b", 3, [alone("x")], 149)],
      ],
    ],
    ["lock_fence", "a fence of another place", [[10, "lock.acquired", lock("a", 7, [alone("x")], 60)]]],
    [
      "lock_without_term",
      "one that is over when it begins",
      [[10, "lock.acquired", lock("a", 1, [alone("x")], 10)]],
    ],
    ["renewed_late", "one renewed after its time", [first, [60, "lock.renewed", lock("a", 1, [], 110)]]],
    [
      "renewed_as_another",
      "one renewed with another fence",
      [first, [50, "lock.renewed", lock("a", 2, [], 99)]],
    ],
    ["released_late", "one released after its time", [first, [60, "lock.released", { lock_ids: ["a"] }]]],
    [
      "released_early",
      "one swept before its time",
      [first, [59, "lock.released", { lock_ids: ["a"], reason: "expired" }]],
    ],
    [
      "released_twice",
      "one released twice",
      [
        first,
        [20, "lock.released", { lock_ids: ["a"], reason: "released" }],
        [21, "lock.released", { lock_ids: ["a"], reason: "released" }],
      ],
    ],
  ])("finds %s: %s", (rule, _, steps) => {
    expect(locks(steps).rules).toEqual([`locks/${rule}`]);
  });

  describe("as they were told", () => {
    const told = (effect: object | null | undefined, more: Partial<CommandRecord> = {}): CommandRecord => ({
      command_id: "c",
      kind: "lock",
      delivery: "once",
      sent_ms: 0,
      missed: 0,
      answers: [{ status: 201, code: undefined, replayed: false, effect, answered_ms: 1 }],
      ...more,
    });
    const step: Step = [first[0], first[1], first[2], { command_id: "c" }];

    it("finds nothing wrong with a lock told as it is logged, and with what was lost on the way", () => {
      expect(locks([step], [told({ lock_id: "a", fence: 1 })]).rules).toEqual([]);
      expect(locks([step], [told(undefined, { missed: 1 })]).rules).toEqual([]);
      expect(locks([step], [told(undefined, { missed: 1, answers: [] })]).rules).toEqual([]);
    });

    it.each<[rule: string, what: string, steps: Step[], command: CommandRecord]>([
      ["lock_unlike_log", "another lock", [step], told({ lock_id: "b", fence: 1 })],
      ["lock_unlike_log", "another fence", [step], told({ lock_id: "a", fence: 2 })],
      ["lock_unlike_log", "a lock that is not in the log", [], told({ lock_id: "a", fence: 1 })],
      [
        "lock_unlike_log",
        "a claim told of no lock, though it asked for one",
        [step],
        told({ task_id: "t", fence: 1 }, { kind: "claim", resources: [alone("x")] }),
      ],
      ["refused_but_done", "a refusal of what is in the log", [step], told(undefined)],
    ])("finds %s: %s", (rule, _, steps, command) => {
      expect(locks(steps, [command]).rules).toEqual([`locks/${rule}`]);
    });
  });
});
