import { describe, expect, it } from "vitest";
import { checkLatecomers, type Try } from "../../bench/torture/observers/late-writes.ts";
import { type RunLog, toLogRecord } from "../../bench/torture/observers/records.ts";

const late = (status: number | undefined): Try => ({
  run_id: "r",
  what: "completion of t",
  lateMs: 7,
  status,
});
const log = (...types: string[]): RunLog => ({
  run_id: "r",
  events: types.map((type, index) => toLogRecord({ seq: index + 1, ts_ms: index, type, task_id: "t" })),
  patches: [],
});
const rules = (tries: readonly Try[], logs: readonly RunLog[] = []) =>
  checkLatecomers(tries, logs).map(({ rule }) => rule);

describe("claims.md: what is written under a lease that is over is refused, whether anybody has noticed or not", () => {
  it.each([
    ["refused", 409, []],
    ["not answered", undefined, []],
    ["answered by a server that is about to die", 503, []],
    ["taken", 200, ["accepted"]],
    ["made something", 201, ["accepted"]],
    ["not understood: then it proves nothing", 400, ["other"]],
    ["of a task that is not there", 404, ["other"]],
    ["answered by a server that has failed", 500, ["other"]],
  ])("%s", (_, status, expected) => {
    expect(rules([late(409), late(status)])).toEqual(expected);
  });

  it.each([
    [
      "leases that ran out, clocks, and locks",
      ["context.task.stale_requeued", "context.task.failed", "context.lock.released"],
      [],
    ],
    [
      "a completion that nobody was answered",
      ["context.task.claimed", "context.task.completed"],
      ["written"],
    ],
    ["a heartbeat", ["context.task.heartbeat"], ["written"]],
    ["a fact", ["context.blackboard.patched"], ["written"]],
    ["a lock that was renewed", ["context.lock.renewed"], ["written"]],
  ])("in the log: %s", (_, types, expected) => {
    expect(rules([], [log(...types)])).toEqual(expected);
  });

  it("tells what was late, and by how much", () => {
    expect(checkLatecomers([late(200)], [])).toMatchObject([
      { run_id: "r", detail: "completion of t, 7 ms too late, was answered 200" },
    ]);
  });
});
