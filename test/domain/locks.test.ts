import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Commit } from "../../src/domain/commit.ts";
import { decide } from "../../src/domain/decide.ts";
import type { Decision } from "../../src/domain/decision.ts";
import type { Context } from "../../src/domain/draft.ts";
import { newHead } from "../../src/domain/head.ts";
import { heldLocks, locksAfter, obstacleTo } from "../../src/domain/locks.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import type { EventRecord } from "../../src/protocol/event.ts";
import { MAX_LOCK_COMPARISONS, MAX_LOCK_NAMES_LENGTH, MAX_LOCKS } from "../../src/protocol/limits.ts";
import type { Lock, LockedResource, LockMode } from "../../src/protocol/lock.ts";
import type { Task } from "../../src/protocol/task.ts";
import {
  aContext,
  accepted,
  aRun,
  aTask,
  committed,
  heldTask,
  idSource,
  maskToken,
  memoryRun,
  memoryRunOf,
  NOW,
  refused,
} from "../support/builders.ts";

/** Names, and which of five paths each of them means. */
const MEANT = {
  a: ["a"],
  "a/x": ["a/x"],
  "a/?": ["a/x", "a/y"],
  "a/**": ["a", "a/x", "a/y"],
  "b/*": ["b/x"],
  "**": ["a", "a/x", "a/y", "b", "b/x"],
} as const;

const EXCLUSIVE: LockMode = "exclusive";

/** A lock as the model knows it. */
interface Known {
  lock_id: string;
  agent_id: string;
  fence: number;
  token: string;
  resources: LockedResource[];
  task_id?: string;
  expires_at_ms: number;
}

interface Grant {
  do: "acquire" | "claim";
  agent: string;
  resources: LockedResource[];
  lease_ms: number;
}
type Plan =
  | Grant
  | { do: "renew" | "release" | "write"; nth: number; isProven: boolean }
  | { do: "heartbeat" | "block" | "complete" | "release task"; nth: number }
  | { do: "sweep" };

const nth = fc.nat(5);
const given = fc.record({
  do: fc.constantFrom("acquire" as const, "acquire" as const, "claim" as const),
  agent: fc.constantFrom("ann", "bob"),
  resources: fc.array(
    fc.record({
      name: fc.constantFrom(...(Object.keys(MEANT) as (keyof typeof MEANT)[])),
      mode: fc.constantFrom<LockMode>("shared", "exclusive"),
    }),
    { minLength: 1, maxLength: 2 },
  ),
  lease_ms: fc.constantFrom(5_000, 10_000, 20_000),
});
const anyPlan: fc.Arbitrary<Plan> = fc.oneof(
  { weight: 3, arbitrary: given },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constantFrom("renew" as const, "release" as const, "write" as const),
      nth,
      isProven: fc.constantFrom(true, true, false),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constantFrom(
        "heartbeat" as const,
        "block" as const,
        "complete" as const,
        "release task" as const,
      ),
      nth,
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("sweep" as const) }) },
);
const anySteps = fc.array(fc.tuple(fc.constantFrom(0, 1, 4_999, 5_000, 12_000), anyPlan), {
  minLength: 10,
  maxLength: 30,
});

/** Locks written down anew: who was given what, and until when. */
class Model {
  /** All that were ever given, and those of them that are out. */
  readonly all: Known[] = [];
  held: Known[] = [];

  readonly run: MemoryRun;

  constructor(run: MemoryRun) {
    this.run = run;
  }

  /** What has run out by now never comes back; what goes with a task is out as long as the lease that it came with. */
  passTo(nowMs: number): void {
    this.held = this.held.flatMap((lock) => {
      if (lock.expires_at_ms <= nowMs) return [];
      if (lock.task_id === undefined) return lock;
      const task = this.run.task(lock.task_id);
      const expires_at_ms = task?.fence === lock.fence ? (task.lease_expires_at_ms ?? 0) : 0;
      return expires_at_ms > nowMs ? { ...lock, expires_at_ms } : [];
    });
  }

  conflictsWith(wanted: readonly LockedResource[]) {
    return this.held.flatMap(({ resources, token: _token, ...lock }) =>
      resources.flatMap(({ name, mode }) => {
        const first = wanted.find(
          (own) =>
            [own.mode, mode].includes(EXCLUSIVE) &&
            pathsOf(own.name).some((path) => pathsOf(name).includes(path)),
        );
        return first === undefined ? [] : [{ ...lock, resource: name, mode, wanted: first.name }];
      }),
    );
  }

  give(lock: Known): void {
    this.all.push(lock);
    this.held.push(lock);
  }
}

function pathsOf(name: string): readonly string[] {
  return MEANT[name as keyof typeof MEANT];
}

/**
 * Does one step to the run and to the model. Asserts that the run answers what the model says.
 * @returns the answer in a word.
 */
function tried(plan: Plan, model: Model, context: Context): string {
  const { run } = model;
  switch (plan.do) {
    case "sweep":
      committed({ op: "requeue_stale" }, run, context);
      expect(run.head().locks ?? []).toEqual(heldLocks(run.head().locks, context.nowMs));
      return "done";
    case "acquire":
      return acquired(plan, model, context);
    case "claim":
      return claimed(plan, model, context);
    case "renew":
    case "release":
    case "write": {
      const lock = model.all[plan.nth % model.all.length];
      return lock === undefined ? "nothing" : proven(plan.do, lock, plan.isProven, model, context);
    }
    default: {
      const withTasks = model.all.filter(({ task_id }) => task_id !== undefined);
      const { task_id, token: lease_token } = withTasks[plan.nth % withTasks.length] ?? {};
      if (task_id === undefined) return "nothing";
      const action = {
        heartbeat: "heartbeat",
        block: "status",
        complete: "complete",
        "release task": "release",
      };
      const command = {
        op: "transition_task",
        task_id,
        action: action[plan.do],
        lease_token,
        ...(plan.do === "block" && { status: "blocked" as const }),
        ...(plan.do === "heartbeat" && { lease_ms: 7_000 }),
      } as const;
      return done(decide(command, run, context), run);
    }
  }
}

function acquired(plan: Grant, model: Model, context: Context): string {
  const { run } = model;
  const { agent: agent_id, resources, lease_ms } = plan;
  const conflicts = model.conflictsWith(resources);
  const decision = decide({ op: "acquire_lock", agent_id, resources, lease_ms }, run, context);
  if (conflicts.length > 0) {
    const error = "resources are locked";
    expect(decision).toEqual({ ok: false, refusal: { code: "LOCK_HELD", error, conflicts } });
    return "LOCK_HELD";
  }
  const fence = run.head().run.last_event_seq + 1;
  const word = done(decision, run);
  if (!decision.ok || decision.outcome.op !== "acquire_lock") throw new Error(word);
  const { lock, token, at_ms } = decision.outcome;
  expect(at_ms).toBe(context.nowMs);
  const { lock_id } = lock;
  model.give({ lock_id, agent_id, fence, token: token ?? "", resources, expires_at_ms: at_ms + lease_ms });
  return word;
}

function claimed(plan: Grant, model: Model, context: Context): string {
  const { run } = model;
  const { agent: agent_id, resources: locks, lease_ms } = plan;
  committed({ op: "requeue_stale" }, run, context);
  const conflicts = model.conflictsWith(locks);
  const decision = decide({ op: "claim_task", agent_id, locks, lease_ms }, run, context);
  if (!decision.ok || decision.outcome.op !== "claim_task") throw new Error("a claim is not refused");
  const { reason, task, lease, lock } = decision.outcome;
  if (reason !== null) {
    expect(decision.commits).toEqual([]);
    if (reason === "locks_held") expect(decision.outcome.conflicts).toEqual(conflicts);
    return reason;
  }
  expect(conflicts).toEqual([]);
  const fence = run.head().run.last_event_seq + 1;
  const word = done(decision, run);
  if (lock === undefined || lease === null || task === null) throw new Error("a claim with locks gives one");
  expect(lock).not.toHaveProperty("lease_token");
  const { lock_id, expires_at_ms } = lock;
  expect(expires_at_ms).toBe(context.nowMs + lease_ms);
  model.give({
    lock_id,
    agent_id,
    fence,
    token: lease.token,
    resources: locks,
    task_id: task.id,
    expires_at_ms,
  });
  return word;
}

/** Shows a lock's token, or another, and asks for what only its holder may. */
function proven(
  what: "renew" | "release" | "write",
  { lock_id, token, task_id, agent_id, fence }: Known,
  isProven: boolean,
  model: Model,
  context: Context,
): string {
  const { run } = model;
  const proof = { lock_id, lease_token: isProven ? token : "lease-never-given" };
  const decision = decide(
    {
      renew: { op: "heartbeat_lock", lease_ms: 9_000, ...proof } as const,
      release: { op: "release_lock", ...proof } as const,
      write: { op: "append_event", type: "note", payload: null, strict: true, ...proof } as const,
    }[what],
    run,
    context,
  );
  const lock = model.held.find((each) => each.lock_id === lock_id);
  if (lock === undefined || !isProven) {
    expect(decision).toMatchObject({ ok: false, refusal: { code: "LOCK_LOST", lock_id } });
    return "LOCK_LOST";
  }
  if (what === "renew" && task_id !== undefined) {
    expect(decision).toMatchObject({ ok: false, refusal: { code: "FIELD_INVALID" } });
    return "FIELD_INVALID";
  }
  const word = done(decision, run);
  if (what === "release") model.held = model.held.filter((each) => each !== lock);
  if (what === "renew") lock.expires_at_ms = context.nowMs + 9_000;
  if (what === "write" && decision.ok) {
    expect(decision.commits[0]?.event.under).toEqual({ lock_id, agent_id, fence });
  }
  return word;
}

/** Applies what was decided, read back from its text. @returns what became of it, in a word. */
function done(decision: Decision, run: MemoryRun): string {
  if (!decision.ok) return decision.refusal.code;
  for (const commit of decision.commits) run.apply(JSON.parse(JSON.stringify(commit)) as Commit);
  return "done";
}

/** Everything that a step can come to. */
const OUTCOMES = [
  "acquire: LOCK_HELD",
  "acquire: done",
  "block: done",
  "claim: done",
  "claim: locks_held",
  "claim: nothing_claimable",
  "complete: done",
  "heartbeat: done",
  "release task: done",
  "release: LOCK_LOST",
  "release: done",
  "renew: FIELD_INVALID",
  "renew: LOCK_LOST",
  "renew: done",
  "sweep: done",
  "write: LOCK_LOST",
  "write: done",
];

describe("locks of a run", () => {
  it("claims: are those of a model, whatever is asked of them and however time passes", () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(anySteps, (steps) => {
        const tasks = ["t", "u"].map((id) => aTask({ id }));
        const model = new Model(memoryRun({}, tasks));
        const ids = idSource();
        let nowMs = NOW;
        for (const [waitMs, plan] of steps) {
          nowMs += waitMs;
          model.passTo(nowMs);
          seen.add(`${plan.do}: ${tried(plan, model, { nowMs, ...ids })}`);
          model.passTo(nowMs);
          const locks = heldLocks(model.run.head().locks, nowMs);
          const shown = locks.map(({ lease_token: _token, ...lock }) => lock);
          expect(shown).toEqual(model.held.map(({ token: _token, ...lock }) => lock));
        }
      }),
      { numRuns: 300 },
    );
    expect([...seen]).toEqual(expect.arrayContaining(OUTCOMES));
  });
});

/** An event of the engine. */
const anEvent = (type: string): EventRecord => ({
  event_id: "e",
  run_id: "r",
  seq: 9,
  ts_ms: NOW,
  type,
  status: "running",
  run_status: "running",
  revision: 10,
  payload: null,
});

/** Locks of bob on one name each, all of them out. */
function locksOn(names: readonly string[]): Lock[] {
  return names.map((name, index) => ({
    lock_id: `lock-${index}`,
    agent_id: "bob",
    fence: index + 1,
    resources: [{ name, mode: EXCLUSIVE }],
    lease_token: maskToken("lease-1"),
    expires_at_ms: NOW + 1,
  }));
}

const acquire = (...names: string[]) =>
  ({
    op: "acquire_lock",
    agent_id: " ann ",
    resources: names.map((name) => ({ name, mode: EXCLUSIVE })),
  }) as const;

describe("bounds of locks", () => {
  const many = (count: number) => locksOn(Array.from({ length: count }, (_, index) => `n${index}`));
  const long = (length: number) => [...locksOn(["x".repeat(1_000)]), ...locksOn(["y".repeat(length)])];

  it.each([
    ["locks", many(MAX_LOCKS - 1), many(MAX_LOCKS), MAX_LOCKS, MAX_LOCKS + 1],
    [
      "lock_names_length",
      long(MAX_LOCK_NAMES_LENGTH - 1_001),
      long(MAX_LOCK_NAMES_LENGTH - 1_000),
      MAX_LOCK_NAMES_LENGTH,
      MAX_LOCK_NAMES_LENGTH + 1,
    ],
  ] as const)(
    "claims: %s: the last that fits is given, the next is not",
    (limit_name, fits, full, limit, actual) => {
      const view = (locks: readonly Lock[]) => memoryRunOf({ locks: [...locks] });
      expect(accepted(acquire("z"), view(fits)).commits).toHaveLength(1);
      const refusal = { code: "LIMIT_EXCEEDED", limit_name, limit, actual };
      expect(refused(acquire("z"), view(full))).toMatchObject(refusal);
      const run = new MemoryRun({ ...newHead(aRun()), locks: [...full] }, [aTask()]);
      const { resources: locks } = acquire("z");
      const claim = { op: "claim_task", agent_id: "ann", locks } as const;
      expect(refused(claim, run)).toMatchObject(refusal);
      // Who wants nothing is not kept from it.
      expect(accepted({ ...claim, locks: [] }, run).commits).toHaveLength(1);
    },
  );

  it("claims: a refusal tells of twenty conflicts at most", () => {
    const run = (count: number) => memoryRunOf({ locks: many(count) });
    for (const [count, told] of [
      [19, 19],
      [20, 20],
      [21, 20],
    ] as const) {
      const refusal = refused(acquire("**"), run(count));
      expect(refusal.code === "LOCK_HELD" && refusal.conflicts.length).toBe(told);
    }
  });

  it("claims: what one command may compare has a bound", () => {
    const long = (end: string) => `${"*a".repeat(199)}${end}`;
    const resources = acquire(long("b")).resources;
    expect(obstacleTo(resources, locksOn([long("c")]), NOW).refusal).toBeNull();
    const tooMany = locksOn(Array.from({ length: 20 }, (_, index) => `${long("c")}${index}`));
    const refusal = { limit_name: "lock_comparisons", limit: MAX_LOCK_COMPARISONS };
    expect(obstacleTo(resources, tooMany, NOW)).toMatchObject({ conflicts: [], refusal });
  });

  it("claims: names that take too long to compare are refused, and the commands of a batch share what there is", () => {
    const resources = acquire("*a").resources;
    const locks = locksOn(["*b"]);
    const enough = { left: 13 };
    expect(obstacleTo(resources, locks, NOW, enough)).toEqual({ conflicts: [], refusal: null });
    expect(enough.left).toBe(0);
    const { conflicts, refusal } = obstacleTo(resources, locks, NOW, enough);
    expect(conflicts).toEqual([]);
    const limit = MAX_LOCK_COMPARISONS;
    expect(refusal).toMatchObject({ limit_name: "lock_comparisons", limit, actual: limit + 1 });
  });
});

describe("what the holder of a lock is told", () => {
  it("claims: with a renewal, the lock as it is now, its token, and when that was", () => {
    const [lock] = locksOn(["n"]);
    const command = {
      op: "heartbeat_lock",
      lock_id: "lock-0",
      lease_token: "lease-1",
      lease_ms: 9_000,
    } as const;
    expect(accepted(command, memoryRunOf({ locks: locksOn(["n"]) })).outcome).toEqual({
      op: "heartbeat_lock",
      lock: { ...lock, expires_at_ms: NOW + 9_000 },
      token: "lease-1",
      at_ms: NOW,
    });
  });
});

describe("refusals of locks", () => {
  const view = memoryRunOf({ locks: locksOn(["n"]) });
  const held = { agent_id: "bob", fence: 1, expires_at_ms: NOW + 1 };
  const nobody = { agent_id: null, fence: null, expires_at_ms: null };
  const right = { lock_id: "lock-0", lease_token: "lease-1" };

  it.each([
    [
      "one that never was",
      view,
      { lock_id: "x", lease_token: "lease-1" },
      NOW,
      "there is no such lock",
      nobody,
    ],
    ["any where none is", memoryRun(), right, NOW, "there is no such lock", nobody],
    ["another token", view, { ...right, lease_token: "lease-2" }, NOW, "invalid lease token", held],
    ["its last millisecond", view, right, NOW + 1, "the lock has expired", held],
  ] as const)(
    "claims: LOCK_LOST for %s, telling what is known of the lock",
    (_, run, proof, nowMs, error, known) => {
      const refusal = { code: "LOCK_LOST", error, lock_id: proof.lock_id, ...known };
      for (const op of ["heartbeat_lock", "release_lock"] as const) {
        expect(refused({ op, ...proof }, run, aContext(nowMs))).toEqual(refusal);
      }
      expect(
        refused({ op: "append_event", type: "note", payload: null, ...proof }, run, aContext(nowMs)),
      ).toEqual(refusal);
    },
  );

  it("claims: a lock that was taken with a task that is gone is nobody's", () => {
    const locks = locksOn(["n"]).map(({ lease_token: _token, ...lock }) => ({ ...lock, task_id: "gone" }));
    const refusal = refused({ op: "release_lock", ...right }, memoryRunOf({ locks }));
    expect(refusal).toMatchObject({ code: "LOCK_LOST", error: "invalid lease token" });
  });

  const write = { op: "append_event", type: "note", payload: null } as const;
  it.each([
    ["a blank agent", { ...acquire("n"), agent_id: " " }, "agent_id", "non_blank"],
    ["no resources", acquire(), "resources", "non_empty"],
    ["a write under two leases", { ...write, ...right, task_id: "t" }, "lock_id", "one_lease"],
    ["a write that does not prove its lock", { ...write, lock_id: "lock-0" }, "lease_token", "required"],
  ] as const)("claims: %s", (_, command, field, rule) => {
    const refusal = refused(command, view);
    expect(refusal).toMatchObject({ code: "FIELD_INVALID", issues: [{ field, rule }] });
  });

  it("claims: only a strict write tells of the lock it is made under", () => {
    expect(accepted({ ...write, ...right }, view).commits[0]?.event).not.toHaveProperty("under");
  });
});

describe("what ends locks beside their holders", () => {
  it("claims: a client's event of that name does not", () => {
    const run = memoryRunOf({ locks: locksOn(["n"]) });
    const payload = { lock_ids: ["lock-0"] };
    committed({ op: "append_event", type: "context.lock.released", payload }, run);
    expect(run.head().locks).toHaveLength(1);
  });

  it("claims: putting back a copy without the task's lease does", () => {
    const [lock] = locksOn(["n"]);
    const task = heldTask();
    const changes: [string, Task[]][] = [
      ["as it is", [task]],
      ["without the task", []],
      ["with a fence that no claim gave", [{ ...task, fence: 8 }]],
      ["with work that is over", [{ ...task, status: "done" }]],
      ["with a lease of the copy's making", [{ ...task, lease_token: maskToken("lease-9") }]],
    ];
    const left = changes.map(([name, tasks]) => {
      const locks = [{ ...lock, task_id: "t", fence: 7 }, ...locksOn(["m"])] as Lock[];
      const run = new MemoryRun({ ...newHead(aRun()), locks }, [task]);
      committed({ op: "replace_run", run: { ...run.run(), tasks } }, run);
      return [name, run.head().locks?.map(({ resources }) => resources[0]?.name)];
    });
    expect(Object.fromEntries(left)).toEqual({
      "as it is": ["n", "m"],
      "without the task": ["m"],
      "with a fence that no claim gave": ["n", "m"],
      "with work that is over": ["m"],
      "with a lease of the copy's making": ["m"],
    });
  });
});

describe("a lock that was taken with a task", () => {
  const lock: Lock = {
    lock_id: "l",
    agent_id: "ann",
    fence: 7,
    resources: [{ name: "n", mode: EXCLUSIVE }],
    task_id: "t",
    expires_at_ms: NOW + 1,
  };
  const until = NOW + 500;
  const task = heldTask({ lease_expires_at_ms: until });
  const { lease_expires_at_ms: _expires, ...endless } = task;
  const beat = anEvent("context.task.heartbeat");

  it.each<[string, Task, Lock, Lock[]]>([
    ["goes on as long as the task's lease", task, lock, [{ ...lock, expires_at_ms: until }]],
    [
      "goes on when the task is set aside",
      { ...task, status: "blocked" },
      lock,
      [{ ...lock, expires_at_ms: until }],
    ],
    ["ends with the work", { ...task, status: "runnable" }, lock, []],
    ["ends when another claim has the task", { ...task, fence: 8 }, lock, []],
    ["ends when the task's lease has no end that it could share", endless, lock, []],
    ["never comes back once it has expired", task, { ...lock, expires_at_ms: NOW }, []],
    ["is none of another task's", { ...task, id: "u", status: "done" }, lock, [lock]],
  ])("claims: %s", (_, after, before, expected) => {
    const { locks = [] } = locksAfter([before], beat, [{ kind: "put_task", task: after }]);
    expect(locks).toEqual(expected);
  });
});
