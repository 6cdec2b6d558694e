import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { MemoryRun } from "../../src/domain/memory.ts";
import { type Surroundings, type Wait, waitsFor } from "../../src/domain/why.ts";
import { RUN_STATUSES, type RunStatus } from "../../src/protocol/status.ts";
import type { Task } from "../../src/protocol/task.ts";
import { accepted, aTask, committed, heldTask, memoryRun, NOW } from "../support/builders.ts";

const LIMITS: Readonly<Record<string, number>> = { two: 2, none: 0 };
const settings = { concurrency_limits: LIMITS };
const limitOf = (key: string) => LIMITS[key] ?? 1;

const IDS = ["a", "b", "c", "d", "e"];
const holder = { lease_owner: "ann", fence: 7, claimed_at_ms: NOW - 1, lease_expires_at_ms: NOW + 1 };

/** Each of a type of its own, so that a claim can ask for it alone. */
const anyTask = (id: string): fc.Arbitrary<Task> =>
  fc
    .record({
      state: fc.constantFrom<Partial<Task>>(
        ...new Array<Partial<Task>>(6).fill({ status: "pending" }),
        { status: "runnable" },
        { status: "in_progress", ...holder },
        { status: "in_progress" },
        { status: "blocked", ...holder },
        { status: "blocked" },
        { status: "done" },
        { status: "failed" },
      ),
      key: fc.constantFrom<Partial<Task>>(
        {},
        { concurrency_key: "one" },
        { concurrency_key: "two" },
        { concurrency_key: "none" },
      ),
      retry: fc.constantFrom<Partial<Task>>(
        ...new Array<Partial<Task>>(5).fill({}),
        { next_retry_at_ms: NOW },
        { next_retry_at_ms: NOW + 1 },
      ),
      depends_on_task_ids: fc.oneof(
        { weight: 3, arbitrary: fc.constant<string[]>([]) },
        { weight: 1, arbitrary: fc.constantFrom(...IDS.filter((other) => other !== id)).map((one) => [one]) },
      ),
      priority: fc.nat(1),
    })
    .map(({ state, key, retry, depends_on_task_ids, priority }) =>
      aTask({ id, task_type: id, depends_on_task_ids, priority, ...state, ...key, ...retry }),
    );
const anyTasks = fc.tuple(...IDS.map(anyTask)).chain((tasks) => fc.shuffledSubarray(tasks, { minLength: 3 }));

const busyUnder = (tasks: readonly Task[], key: string) =>
  tasks.filter(
    (task) =>
      task.concurrency_key === key && (task.status === "in_progress" || task.lease_owner !== undefined),
  );

function around(tasks: readonly Task[], runStatus: RunStatus): Surroundings {
  return {
    runStatus,
    openDependencies: ({ depends_on_task_ids }) =>
      depends_on_task_ids
        .map((task_id) => ({ task_id, status: tasks.find(({ id }) => id === task_id)?.status ?? null }))
        .filter(({ status }) => status !== "done"),
    placesOf: (key) => ({ limit: limitOf(key), busy: busyUnder(tasks, key).length }),
    holdersOf: (key) => busyUnder(tasks, key),
  };
}

describe("what a task waits for, and what claims take", () => {
  it("claims: a strict claim that asks for one task gets it exactly when it waits for nothing", () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(anyTasks, fc.constantFrom(...RUN_STATUSES), (tasks, status) => {
        const run = memoryRun({ status, settings }, tasks);
        for (const task of tasks) {
          const waits = waitsFor(task, around(tasks, status), NOW);
          for (const { kind } of waits) seen.add(kind);
          const command = { op: "claim_task", agent_id: "bob", task_type: task.id, strict: true } as const;
          const { commits } = accepted(command, run);
          expect(commits.length, JSON.stringify(waits)).toBe(waits.length === 0 ? 1 : 0);
        }
      }),
      { numRuns: 300 },
    );
    const kinds: Wait["kind"][] = [
      "over",
      "holder",
      "blocked",
      "dependency",
      "retry_at",
      "concurrency_limit",
    ];
    const stops: Wait["kind"][] = ["run_paused", "run_cancelled", "run_ended"];
    expect([...seen].sort()).toEqual([...kinds, ...stops].sort());
  });

  it("claims: one for several takes as many as there are places for, of each key the most urgent", () => {
    const nextOf = (tasks: readonly Task[], run: MemoryRun) =>
      tasks
        .filter(
          ({ id }) => waitsFor(run.task(id) as Task, around(run.run().tasks, "running"), NOW).length === 0,
        )
        .toSorted((a, b) => b.priority - a.priority)[0];
    fc.assert(
      fc.property(anyTasks, fc.integer({ min: 1, max: 6 }), (tasks, max) => {
        const several = memoryRun({ settings }, tasks);
        const taken = committed({ op: "claim_task", agent_id: "bob", max }, several);
        // The same, one by one: what is next then is judged anew.
        const single = memoryRun({ settings }, tasks);
        const expected: string[] = [];
        for (let next = nextOf(tasks, single); next && expected.length < max; next = nextOf(tasks, single)) {
          committed({ op: "claim_task", agent_id: "bob", task_type: next.id }, single);
          expected.push(next.id);
        }
        expect(taken.map(({ event }) => event.task_id)).toEqual(expected);
      }),
      { numRuns: 300 },
    );
  });

  const bare = around([], "running");
  const told = { agent_id: "ann", fence: 7, expires_at_ms: NOW + 1 };
  const failure = { cause: "cancelled", at_ms: 5 } as const;
  const key = aTask({ concurrency_key: "k" });
  const held = heldTask({ id: "other", concurrency_key: "k" });
  const cases: [string, Task, Surroundings, Wait[]][] = [
    ["nothing", aTask(), bare, []],
    [
      "done",
      aTask({ status: "done", skipped: true }),
      bare,
      [{ kind: "over", status: "done", skipped: true }],
    ],
    [
      "failed, in a run that is paused",
      aTask({ status: "failed", dead_letter: true, failure }),
      around([], "paused"),
      [{ kind: "over", status: "failed", dead_letter: true, failure }],
    ],
    ["failed without more", aTask({ status: "failed" }), bare, [{ kind: "over", status: "failed" }]],
    ["held", heldTask({ next_retry_at_ms: NOW + 9 }), bare, [{ kind: "holder", ...told }]],
    [
      "held and set aside, in a run that is paused",
      heldTask({ status: "blocked" }),
      around([], "paused"),
      [{ kind: "run_paused", run_status: "paused" }, { kind: "blocked" }, { kind: "holder", ...told }],
    ],
    [
      "in progress without a lease",
      aTask({ status: "in_progress", assigned_agent: "eve" }),
      bare,
      [{ kind: "holder", agent_id: "eve", fence: null, expires_at_ms: null }],
    ],
    [
      "in progress, and nobody's",
      aTask({ status: "in_progress" }),
      bare,
      [{ kind: "holder", agent_id: "", fence: null, expires_at_ms: null }],
    ],
    [
      "its dependencies and its time",
      aTask({ depends_on_task_ids: ["x", "y"], next_retry_at_ms: NOW + 1 }),
      around([aTask({ id: "y", status: "blocked" })], "running"),
      [
        { kind: "dependency", task_id: "x", status: null },
        { kind: "dependency", task_id: "y", status: "blocked" },
        { kind: "retry_at", at_ms: NOW + 1 },
      ],
    ],
    [
      "a place",
      key,
      around([key, held], "running"),
      [{ kind: "concurrency_limit", key: "k", limit: 1, holders: [{ task_id: "other", ...told }] }],
    ],
  ];
  it.each(cases)("claims: %s, in full", (_, task, surroundings, waits) => {
    expect(waitsFor(task, surroundings, NOW)).toStrictEqual(waits);
  });
});

describe("heartbeats that are recorded later", () => {
  const record = (run: MemoryRun, task_rev = 1, expires_at_ms = NOW + 500) =>
    committed({ op: "record_heartbeats", reports: [{ task_id: "t", task_rev, expires_at_ms }] }, run);

  it.each<[string, Partial<Task>, number]>([
    ["make the lease longer", {}, NOW + 500],
    ["never make it shorter", { lease_expires_at_ms: NOW + 900 }, NOW + 900],
    ["leave one that has run out as it is", { lease_expires_at_ms: NOW }, NOW],
  ])("claims: %s", (_, members, expected) => {
    const run = memoryRun({}, [heldTask(members)]);
    const [commit, ...others] = record(run);
    expect(others).toEqual([]);
    expect(commit?.event.type).toBe("context.task.heartbeat");
    expect(run.task("t")).toMatchObject({ task_rev: 2, lease_expires_at_ms: expected });
  });

  it.each<[string, Task[], number]>([
    ["is not there", [], 1],
    ["has moved on", [heldTask({ task_rev: 2 })], 1],
    ["is in other hands by now", [heldTask()], 2],
    ["is not worked on any more", [heldTask({ status: "blocked" })], 1],
  ])("claims: are none for a task that %s", (_, tasks, task_rev) => {
    expect(record(memoryRun({}, tasks), task_rev)).toEqual([]);
  });
});
