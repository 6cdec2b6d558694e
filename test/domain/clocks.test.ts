import { describe, expect, it } from "vitest";
import { isOverdue, nextDue } from "../../src/domain/clocks.ts";
import type { Task } from "../../src/protocol/task.ts";
import type { Attempt } from "../../src/protocol/task-life.ts";
import { aTask, CREATED, heldTask, NOW } from "../support/builders.ts";

const CLOCKS = { start_within_ms: 100, run_within_ms: 200, silent_within_ms: 300, finish_within_ms: 100_000 };
const CLAIMED = NOW - 10;

const claimedAt = (...times: number[]): Attempt[] =>
  times.map((claimed_at_ms, index) => ({
    fence: index + 1,
    agent_id: "ann",
    claimed_at_ms,
    ended_at_ms: claimed_at_ms + 1,
    outcome: "released",
  }));

const held = (members: Partial<Task> = {}) => heldTask({ claimed_at_ms: CLAIMED, ...members });

/** Which clocks run for a task, told by taking away the one that is due first until none is left. */
function clocksOf(task: Task): Record<string, number> {
  const found: Record<string, number> = {};
  const clocks: Record<string, number> = { ...CLOCKS };
  for (const _ of Object.keys(CLOCKS)) {
    const due = nextDue({ ...task, clocks }, false, NOW);
    if (due === null) break;
    found[due.clock] = due.at_ms;
    delete clocks[`${due.clock}_within_ms`];
  }
  return found;
}

const start = CREATED + 100;
const finish = CREATED + 100_000;
const run = CLAIMED + 200;
const silent = CLAIMED + 300;

describe("claims: the clocks that run", () => {
  it.each<[string, Task, Record<string, number>]>([
    ["of a task that nobody had yet", aTask(), { start, finish }],
    ["of one that is blocked, and nobody had", aTask({ status: "blocked" }), { start, finish }],
    ["of one that somebody has", held(), { run, silent, finish }],
    [
      "of one whose holder has told of itself",
      held({ progress: { at_ms: NOW } }),
      { run, silent: NOW + 300, finish },
    ],
    ["of one that its holder has set aside", held({ status: "blocked" }), { finish }],
    ["of one in progress that no claim gave", aTask({ status: "in_progress" }), { finish }],
    ["of one that somebody had", aTask({ attempts: claimedAt(CREATED + 5) }), { finish }],
    [
      "of one that was redriven since",
      aTask({ attempts: claimedAt(CREATED + 5), redriven_at_ms: CREATED + 9 }),
      { start: start + 9, finish: finish + 9 },
    ],
    [
      "of one that somebody had before and after it was redriven",
      aTask({ attempts: claimedAt(CREATED + 5, CREATED + 9), redriven_at_ms: CREATED + 9 }),
      { finish: finish + 9 },
    ],
  ])("%s", (_, task, expected) => {
    expect(clocksOf(task)).toEqual(expected);
  });

  it("of two for the same moment, the one that says more comes first", () => {
    const cancellation = { requested_at_ms: 1, revoke_at_ms: CREATED + 100 };
    const clocks = { finish_within_ms: 100, start_within_ms: 100 };
    const due = (members: Partial<Task>) => nextDue(aTask({ clocks, ...members }), false, NOW)?.clock;
    expect([due({ cancellation }), due({})]).toEqual(["revoke", "finish"]);
  });
});

describe("claims: what is overdue", () => {
  it.each<[string, Partial<Task>, boolean]>([
    ["no clock", {}, false],
    ["a clock that runs", { clocks: { start_within_ms: NOW - CREATED + 1 } }, false],
    ["a clock in its last millisecond", { clocks: { start_within_ms: NOW - CREATED } }, true],
    ["a dependency that may fail", { on_dependency_failure: "fail" }, false],
  ])("a task with %s: %s", (_, members, expected) => {
    expect(isOverdue(aTask(members), NOW)).toBe(expected);
  });
});
