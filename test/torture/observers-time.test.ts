import { describe, expect, it } from "vitest";
import type { Disturbances } from "../../bench/torture/observers/observer.ts";
import { checkPunctual, type Due } from "../../bench/torture/observers/punctual.ts";
import { type RunLog, toLogRecord } from "../../bench/torture/observers/records.ts";
import { latestMoment, offsetsBetween } from "../../bench/torture/observers/timeline.ts";
import { checkWaiters } from "../../bench/torture/observers/waiter.ts";

const quiet: Disturbances = { outages: [], jumps: [] };
const slackMs = 100;

describe("the server's clock is this machine's and an offset that jumps", () => {
  const jumps = [
    { askedMs: 1_000, answeredMs: 1_010, byMs: 5_000 },
    { askedMs: 2_000, answeredMs: 2_010, byMs: -7_000 },
  ];

  it.each([
    [0, 999, { min: 0, max: 0 }],
    [0, 1_000, { min: 0, max: 5_000 }],
    [1_005, 1_500, { min: 0, max: 5_000 }],
    [1_011, 1_999, { min: 5_000, max: 5_000 }],
    [1_500, 3_000, { min: -2_000, max: 5_000 }],
    [2_011, 9_000, { min: -2_000, max: -2_000 }],
    [0, 9_000, { min: -2_000, max: 5_000 }],
  ])("between %i and %i", (fromMs, toMs, expected) => {
    expect(offsetsBetween({ outages: [], jumps }, fromMs, toMs)).toEqual(expected);
  });
});

describe("how late something may be is explained by what was done to the server, and by nothing else", () => {
  const latest = (disturbances: Partial<Disturbances>, dueMs = 1_000) =>
    latestMoment({ ...quiet, ...disturbances }, dueMs, 500, slackMs);

  it("by nothing, it may be late by the slack", () => {
    expect(latest({})).toEqual({ serverMs: 1_100, machineMs: 1_100 });
  });

  it("by a time without a server, which must then live for as long as the slack in one piece", () => {
    expect(latest({ outages: [{ fromMs: 700, untilMs: 900 }] }).serverMs).toBe(1_100);
    expect(latest({ outages: [{ fromMs: 900, untilMs: 1_300 }] }).serverMs).toBe(1_400);
    expect(latest({ outages: [{ fromMs: 1_050, untilMs: 1_300 }] }).serverMs).toBe(1_400);
    expect(
      latest({
        outages: [
          { fromMs: 900, untilMs: 1_300 },
          { fromMs: 1_399, untilMs: 2_000 },
        ],
      }).serverMs,
    ).toBe(2_100);
    expect(
      latest({
        outages: [
          { fromMs: 900, untilMs: 1_300 },
          { fromMs: 1_401, untilMs: 2_000 },
        ],
      }).serverMs,
    ).toBe(1_400);
  });

  it("by a jump forward: the alarm goes off by the old clock", () => {
    const jumps = [{ askedMs: 700, answeredMs: 710, byMs: 3_600_000 }];
    expect(latest({ jumps })).toEqual({ serverMs: 3_601_100, machineMs: 1_100 });
  });

  it("by a jump backward: its time comes later", () => {
    const jumps = [{ askedMs: 700, answeredMs: 710, byMs: -300 }];
    expect(latest({ jumps })).toEqual({ serverMs: 1_100, machineMs: 1_400 });
  });

  it("by no jump that was over before it was known", () => {
    const jumps = [{ askedMs: 100, answeredMs: 110, byMs: 3_600_000 }];
    expect(latest({ jumps }, 3_601_000)).toEqual({ serverMs: 3_601_100, machineMs: 1_100 });
  });
});

describe("claims.md: clocks, retries and leases end soon after their time, and never before it", () => {
  const due: Due = {
    run_id: "r",
    subject: "t",
    what: "a lease",
    dueMs: 1_000,
    afterSeq: 1,
    knownSinceMs: 500,
    type: "context.task.stale_requeued",
  };
  const logOf = (...events: object[]): RunLog[] => [
    { run_id: "r", events: events.map(toLogRecord), patches: [] },
  ];
  const claimed = { seq: 1, ts_ms: 500, type: "context.task.claimed", task_id: "t" };
  const requeued = { seq: 2, ts_ms: 1_020, type: "context.task.stale_requeued", task_id: "t" };
  const rules = (logs: RunLog[], disturbances = quiet, one = due) =>
    checkPunctual(logs, [one], disturbances, slackMs).map(({ rule }) => rule);

  it("in time", () => expect(rules(logOf(claimed, requeued))).toEqual([]));
  it("never", () => expect(rules(logOf(claimed))).toEqual(["never"]));
  it("never, where the whole run is gone", () => expect(rules([])).toEqual(["never"]));
  it("early", () => expect(rules(logOf(claimed, { ...requeued, ts_ms: 999 }))).toEqual(["early"]));
  it("late", () => expect(rules(logOf(claimed, { ...requeued, ts_ms: 1_101 }))).toEqual(["late"]));
  it("something else", () =>
    expect(rules(logOf(claimed, { ...requeued, type: "context.task.failed" }))).toEqual(["other"]));
  it("another task", () => expect(rules(logOf(claimed, { ...requeued, task_id: "u" }))).toEqual(["never"]));

  it("late, with an outage that explains part of it", () => {
    const disturbances = { ...quiet, outages: [{ fromMs: 900, untilMs: 1_500 }] };
    expect(rules(logOf(claimed, { ...requeued, ts_ms: 1_600 }), disturbances)).toEqual([]);
    expect(rules(logOf(claimed, { ...requeued, ts_ms: 1_601 }), disturbances)).toEqual(["late"]);
  });

  it("a lock, which events name in their payload", () => {
    const lock = { ...due, subject: "lock-1", type: "context.lock.released" };
    const released = {
      seq: 2,
      ts_ms: 1_020,
      type: "context.lock.released",
      payload: { lock_ids: ["lock-1"] },
    };
    expect(rules(logOf(released), quiet, lock)).toEqual([]);
    expect(rules(logOf({ ...released, payload: { lock_ids: ["lock-2"] } }), quiet, lock)).toEqual(["never"]);
  });
});

describe("streams.md: a waiting claim survives restarts, and gets each task once", () => {
  const awaited = { runId: "r", taskType: "t", dueMs: 1_000, afterSeq: 1, knownSinceMs: 500 };
  const granted = { task_id: "t", fence: 3 };
  const claim = (seq: number, ts_ms: number) => ({ seq, ts_ms, type: "context.task.claimed", task_id: "t" });
  const rules = (waiter: object, ...claims: object[]) => {
    const logs = [{ run_id: "r", events: [claim(1, 500), ...claims].map(toLogRecord), patches: [] }];
    const one = { awaited, granted: undefined, refusal: undefined, ...waiter };
    return checkWaiters(logs, [one], quiet, slackMs).map(({ rule }) => rule);
  };

  it("its task, in time", () => expect(rules({ granted }, claim(3, 1_010))).toEqual([]));
  it("nothing", () => expect(rules({})).toEqual(["never"]));
  it("a refusal", () => expect(rules({ refusal: "409" })).toEqual(["refused"]));
  it("a lease that the log does not have", () => expect(rules({ granted })).toEqual(["other"]));
  it("another lease than the log has", () => expect(rules({ granted }, claim(2, 1_010))).toEqual(["other"]));
  it("the task twice", () => expect(rules({ granted }, claim(3, 1_010), claim(4, 1_020))).toEqual(["other"]));
  it("its task early", () => expect(rules({ granted }, claim(3, 999))).toEqual(["early"]));
  it("its task late", () => expect(rules({ granted }, claim(3, 1_101))).toEqual(["late"]));
});
