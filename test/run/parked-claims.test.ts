import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Command, TaskFilter } from "../../src/domain/command.ts";
import type { OutcomeOf } from "../../src/domain/outcome.ts";
import { MAX_PARKED_CLAIMS } from "../../src/protocol/limits.ts";
import { type ParkedClaim, ParkedClaims } from "../../src/run/parked-claims.ts";
import { RunState } from "../../src/run/run-state.ts";
import { CommitTable } from "../../src/run/storage/commits.ts";
import { aTask } from "../support/builders.ts";
import { givenTo, type ParkingEngine, type Waiter, withParking } from "./support/parked.ts";
import { creation, note, row, useTestClock } from "./support/test-run.ts";

const TYPES = ["a", "b", ""];
const WORKFLOWS = ["v", "w"];

function claimAt(place: number, filter: TaskFilter, commandId?: string): ParkedClaim {
  const command = { op: "claim_task", agent_id: `agent-${place}`, ...filter } as const;
  const never = (): never => {
    throw new Error("the queue answers nobody");
  };
  return { submission: { command, commandId }, place, isAwaited: () => true, answer: never, fail: never };
}

const anyFilter: fc.Arbitrary<TaskFilter> = fc.record({
  task_type: fc.option(fc.constantFrom(...TYPES), { nil: undefined }),
  workflow_id: fc.option(fc.constantFrom(...WORKFLOWS), { nil: undefined }),
});

const anyLane = fc.record({
  task_type: fc.constantFrom(...TYPES),
  workflow_id: fc.constantFrom("", ...WORKFLOWS),
});

describe("the queue of parked claims", () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant("add" as const), place: fc.integer({ min: 1, max: 30 }), filter: anyFilter }),
    fc.record({ do: fc.constant("remove" as const), place: fc.integer({ min: 1, max: 30 }) }),
    fc.record({ do: fc.constant("first" as const), lanes: fc.array(anyLane, { maxLength: 3 }) }),
  );

  it("claims: W1: of those that a lane is for, the first by place is found, whatever the others wait for", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: "max" }), (steps) => {
        const queue = new ParkedClaims();
        const model = new Map<number, { claim: ParkedClaim; filter: TaskFilter }>();
        for (const each of steps) {
          if (each.do === "add" && !model.has(each.place)) {
            const claim = claimAt(each.place, each.filter);
            queue.add(claim);
            model.set(each.place, { claim, filter: each.filter });
          } else if (each.do === "remove") {
            const known = model.get(each.place);
            const claim = known?.claim ?? claimAt(each.place, {});
            expect(queue.remove(claim)).toBe(model.delete(each.place));
            expect(queue.remove(claim)).toBe(false);
          } else if (each.do === "first") {
            const fitting = [...model.values()].filter(({ filter }) =>
              each.lanes.some(
                (lane) =>
                  (filter.task_type === undefined || filter.task_type === lane.task_type) &&
                  (filter.workflow_id === undefined || filter.workflow_id === lane.workflow_id),
              ),
            );
            const expected = fitting.sort((a, b) => a.claim.place - b.claim.place)[0]?.claim ?? null;
            expect(queue.first(each.lanes, new Set())).toBe(expected);
          }
          expect(queue.size).toBe(model.size);
          expect([...queue.all()].map(({ place }) => place).sort((a, b) => a - b)).toEqual(
            [...model.keys()].sort((a, b) => a - b),
          );
        }
      }),
    );
  });

  it("claims: those that could take the same as one that got nothing are left out with it, others are not", () => {
    const queue = new ParkedClaims();
    const claims = [claimAt(1, { task_type: "a" }), claimAt(2, { task_type: "a" }), claimAt(3, {})];
    for (const claim of claims) queue.add(claim);
    const lanes = [{ task_type: "a", workflow_id: "" }];
    const passed = new Set<ParkedClaim>();
    const found = [1, 2, 3].map(() => {
      const first = queue.first(lanes, passed);
      if (first !== null) passed.add(first);
      return first?.place ?? null;
    });
    expect(found).toEqual([1, 3, null]);
  });

  it("claims: finding the first looks at lanes, not at those who wait", () => {
    const queue = new ParkedClaims();
    for (let place = 1; place <= MAX_PARKED_CLAIMS; place += 1) {
      queue.add(claimAt(place, { task_type: `type-${place % 1_000}` }));
    }
    const lanes = [{ task_type: "type-7", workflow_id: "" }];
    const startMs = performance.now();
    for (let turn = 0; turn < 10_000; turn += 1) queue.first(lanes, new Set());
    // A look at all of them would take minutes.
    expect(performance.now() - startMs).toBeLessThan(5_000);
    expect(queue.first(lanes, new Set())?.place).toBe(7);
  });
});

const tasks = (...ids: string[]) => creation(...ids.map((id) => row(id)));
const given = (waiters: Waiter[]) => waiters.map(givenTo);

describe("parked claims in the engine", () => {
  const clock = useTestClock();
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("claims: a task that becomes ready is held by one that waits, with the flush that made it ready", () =>
    withParking(async (parking) => {
      const waiters = [parking.park(), parking.park()];
      await parking.settled();
      parking.flushes.length = 0;
      await parking.submit(tasks("t"));
      expect(given(waiters)).toEqual([["t"], null]);
      expect(parking.flushes).toEqual([2]);
      expect(parking.state.task("t")).toMatchObject({ status: "in_progress", lease_owner: "agent-1" });
    }));

  it("claims: in order of their places, one task each", () =>
    withParking(async (parking) => {
      const waiters = [3, 1, 2, 5].map((place) => parking.park({}, { place }));
      await parking.submit(tasks("x", "y", "z"));
      expect(given(waiters)).toEqual([["z"], ["x"], ["y"], null]);
    }));

  it("claims: who has a filter waits for what it lets through, and holds up nobody", () =>
    withParking(async (parking) => {
      const waiters = [
        parking.park({ task_type: "other" }),
        parking.park({ workflow_id: "w" }),
        parking.park({ task_type: "custom" }),
        parking.park(),
      ];
      await parking.submit(creation(row("a"), row("b", { workflow_id: "w" }), row("c")));
      expect(given(waiters)).toEqual([null, ["b"], ["a"], ["c"]]);
    }));

  it("claims: each takes the best task that there is for it", () =>
    withParking(async (parking) => {
      const waiters = [parking.park(), parking.park()];
      await parking.submit(creation(row("low", { priority: 1 }), row("high", { priority: 9 })));
      expect(given(waiters)).toEqual([["high"], ["low"]]);
    }));

  it("claims: one that waits for several takes what there is as soon as there is something", () =>
    withParking(async (parking) => {
      const waiters = [parking.park({ max: 3 }), parking.park({ max: 3 })];
      await parking.submit(tasks("a", "b", "c", "d"));
      expect(given(waiters)).toEqual([["a", "b", "c"], ["d"]]);
    }));

  const lockOf = async (parking: ParkingEngine) => {
    const answer = await parking.submit({
      op: "acquire_lock",
      agent_id: "holder",
      resources: [{ name: "db", mode: "exclusive" }],
    });
    if (!answer.ok || answer.outcome?.op !== "acquire_lock") throw new Error("no lock was given");
    return { lock_id: answer.outcome.lock.lock_id, lease_token: answer.outcome.token ?? "" };
  };
  const endings: [
    string,
    (parking: ParkingEngine, proof: Awaited<ReturnType<typeof lockOf>>) => Promise<unknown>,
  ][] = [
    ["is released", (parking, proof) => parking.submit({ op: "release_lock", ...proof })],
    [
      "runs out",
      async (parking) => {
        clock.advance((parking.state.lockDueAtMs() ?? Infinity) - clock.nowMs());
        await parking.submit({ op: "requeue_stale" });
      },
    ],
  ];
  it.each(endings)(
    "claims: who wants locks is served when what was in the way %s, and holds up nobody",
    (_title, end) =>
      withParking(async (parking) => {
        const proof = await lockOf(parking);
        const locks = [{ name: "d*", mode: "shared" as const }];
        const waiters = [
          parking.park({ locks }),
          parking.park({ lease_ms: 60_000 }),
          parking.park({ locks }),
        ];
        await parking.submit(tasks("a", "b", "c"));
        expect(given(waiters)).toEqual([null, ["a"], null]);
        await end(parking, proof);
        expect(given(waiters)).toEqual([["b"], ["a"], ["c"]]);
      }),
  );

  it("claims: what is there when a claim is parked is given to it at once", () =>
    withParking(async (parking) => {
      await parking.submit(tasks("t"));
      const waiter = parking.park();
      await parking.settled();
      expect(givenTo(waiter)).toEqual(["t"]);
    }));

  it("claims: a claim that does not wait does not overtake those that do, not even in one turn", () =>
    withParking(async (parking) => {
      const waiter = parking.park();
      await parking.settled();
      const answers = await Promise.all([
        parking.submit(tasks("t")),
        parking.submit({ op: "claim_task", agent_id: "quick" }),
      ]);
      expect(givenTo(waiter)).toEqual(["t"]);
      expect(answers[1]).toMatchObject({ ok: true, outcome: { task: null } });
      const { expiresAtMs } = { expiresAtMs: parking.state.task("t")?.lease_expires_at_ms ?? 0 };
      const second = parking.park();
      clock.advance(expiresAtMs - clock.nowMs());
      // The lease is out, and whoever claims requeues it: for the one that waits.
      expect(await parking.submit({ op: "claim_task", agent_id: "quick" })).toMatchObject({
        outcome: { task: null },
      });
      expect(givenTo(second)).toEqual(["t"]);
    }));

  it.each([
    ["completes what they wait for", "complete", { depends_on_task_ids: ["first"] }],
    ["gives it back", "release", null],
    ["fails it, and it is retried", "retry", null],
  ] as [string, string, { depends_on_task_ids: string[] } | null][])(
    "claims: they are served when somebody %s",
    (_name, action, dependent) =>
      withParking(async (parking) => {
        await parking.submit(creation(row("first"), ...(dependent ? [row("second", dependent)] : [])));
        const held = await parking.submit({ op: "claim_task", agent_id: "holder" });
        if (!held.ok || held.outcome?.op !== "claim_task") throw new Error("there is a task");
        const waiter = parking.park();
        await parking.settled();
        expect(givenTo(waiter)).toBeNull();
        const transition = {
          op: "transition_task",
          task_id: "first",
          lease_token: held.outcome.lease?.token,
        } as const;
        if (action === "retry") await parking.submit({ ...transition, action: "fail" });
        await parking.submit({ ...transition, action });
        expect(givenTo(waiter)).toEqual([dependent === null ? "first" : "second"]);
      }),
  );

  it("claims: nor does a claim within a batch; but what a batch makes and takes itself, nobody sees between", () =>
    withParking(async (parking) => {
      const waiter = parking.park();
      await parking.settled();
      const claim = { op: "claim_task", agent_id: "quick" } as const;
      const batch = (...commands: Command[]) =>
        parking.engine.submit({ command: { op: "batch", commands, dry_run: false } });
      const answers = await Promise.all([parking.submit(tasks("t")), batch(claim)]);
      expect(givenTo(waiter)).toEqual(["t"]);
      expect(answers[1]).toMatchObject({ ok: true, outcome: { outcomes: [{ task: null }] } });
      const second = parking.park();
      expect(await batch(tasks("u", "v"), claim)).toMatchObject({
        outcome: { outcomes: [{ op: "create_tasks" }, { task: { id: "u" } }] },
      });
      expect(givenTo(second)).toEqual(["v"]);
    }));

  it("claims: what a concurrency key holds back is theirs when a place is free, or another is allowed", () =>
    withParking(async (parking) => {
      await parking.submit(creation(...["a", "b", "c"].map((id) => row(id, { concurrency_key: "k" }))));
      const waiters = [parking.park(), parking.park({ max: 2 }), parking.park()];
      await parking.settled();
      expect(given(waiters)).toEqual([["a"], null, null]);
      const { told } = waiters[0] as Waiter;
      if (told === undefined || told === "failed" || !told.ok) throw new Error("it was given a task");
      const { lease } = told.outcome as OutcomeOf<"claim_task">;
      await parking.submit({
        op: "transition_task",
        task_id: "a",
        action: "complete",
        lease_token: lease?.token,
      });
      expect(given(waiters)).toEqual([["a"], ["b"], null]);
      await parking.submit({ op: "put_settings", settings: { concurrency_limits: { k: 2 } } });
      expect(given(waiters)).toEqual([["a"], ["b"], ["c"]]);
    }));

  const exclusive = (name: string) => [{ name, mode: "exclusive" as const }];

  it.each(["is released", "runs out"])(
    "claims: what locks hold back is theirs when the lock %s, and whoever waits for other resources goes before",
    (end) =>
      withParking(async (parking) => {
        const held = await parking.submit({
          op: "acquire_lock",
          agent_id: "x",
          resources: exclusive("a/**"),
          lease_ms: 10_000,
        });
        if (!held.ok || held.outcome?.op !== "acquire_lock") throw new Error("it is locked");
        const { lock, token } = held.outcome;
        await parking.submit(tasks("t", "u"));
        const waiters = [parking.park({ locks: exclusive("a/1") }), parking.park({ locks: exclusive("b") })];
        await parking.settled();
        expect(given(waiters)).toEqual([null, ["t"]]);
        if (end === "runs out") {
          clock.advance(lock.expires_at_ms - clock.nowMs() - 1);
          await parking.settled();
          expect(givenTo(waiters[0] as Waiter)).toBeNull();
          clock.advance(1);
          await parking.settled();
        } else {
          await parking.submit({ op: "release_lock", lock_id: lock.lock_id, lease_token: token ?? "" });
        }
        expect(given(waiters)).toEqual([["u"], ["t"]]);
      }),
  );

  it("claims: what is committed while their resources are locked does not look for work for each of them again", () =>
    withParking(async (parking) => {
      await parking.submit({ op: "acquire_lock", agent_id: "x", resources: exclusive("a/**") });
      await parking.submit(tasks("t"));
      for (let index = 0; index < 50; index += 1) parking.park({ locks: exclusive(`a/${index}`) });
      await parking.settled();
      const looks = vi.spyOn(RunState.prototype, "nextClaimable");
      await parking.submit(note("x"));
      await parking.submit({ op: "acquire_lock", agent_id: "y", resources: exclusive("other") });
      expect(looks).not.toHaveBeenCalled();
    }));

  it("claims: while the run is paused they wait; what was added meanwhile is theirs when it goes on", () =>
    withParking(async (parking) => {
      const waiter = parking.park();
      await parking.submit(note(null, "paused"));
      await parking.submit(tasks("t"));
      expect(givenTo(waiter)).toBeNull();
      expect(parking.engine.parkedDueAtMs()).toBeNull();
      await parking.submit(note(null, "running"));
      expect(givenTo(waiter)).toEqual(["t"]);
    }));

  it.each([
    ["completed", "run_ended"],
    ["failed", "run_ended"],
    ["cancelled", "run_cancelled"],
  ] as const)("claims: when the run is %s, all that wait are told so", (status, reason) =>
    withParking(async (parking) => {
      const waiters = [parking.park(), parking.park({ task_type: "x", max: 5 })];
      await parking.submit(note(null, status));
      for (const { told } of waiters) {
        expect(told).toMatchObject({ ok: true, outcome: { task: null, reason, run_status: status } });
      }
      expect(given([parking.park()])).toEqual([null]);
      await parking.settled();
      expect(parking.waiters.at(-1)?.told).toMatchObject({ outcome: { reason } });
    }),
  );

  it("claims: one that left without a word is passed over, and one that has taken its leave is served no more", () =>
    withParking(async (parking) => {
      const [gone, left, third] = [parking.park(), parking.park(), parking.park()];
      gone.isGone = true;
      expect(parking.engine.unpark(left.claim)).toBe(true);
      expect(parking.engine.unpark(left.claim)).toBe(false);
      await parking.submit(tasks("t"));
      expect(given([gone, left, third])).toEqual([null, null, ["t"]]);
      expect(parking.engine.unpark(third.claim)).toBe(false);
    }));

  it("claims: two that wait under one command id are given the same lease", () =>
    withParking(async (parking) => {
      const twins = [1, 2].map(() => parking.park({ agent_id: "me" }, { commandId: "k" }));
      const other = parking.park();
      await parking.submit(tasks("a", "b"));
      expect(given([...twins, other])).toEqual([["a"], ["a"], ["b"]]);
      const [first, second] = twins.map(({ told }) => told);
      if (first === "failed" || second === "failed" || !first?.ok || !second?.ok)
        throw new Error("both are served");
      expect(second.outcome).toEqual(first.outcome);
      expect([first.repeat, second.repeat]).toMatchObject([null, { same: true }]);
      // So is one that comes back later.
      const third = parking.park({ agent_id: "me" }, { commandId: "k" });
      await parking.settled();
      expect(givenTo(third)).toEqual(["a"]);
    }));

  it("claims: one that waits under the id of another command is told so when that is done", () =>
    withParking(async (parking) => {
      const waiter = parking.park({}, { commandId: "k" });
      await parking.submit(note("x"), "k");
      expect(waiter.told).toMatchObject({ ok: true, outcome: null, repeat: { same: false } });
    }));

  it("claims: a delayed task is due for them by itself", () =>
    withParking(async (parking) => {
      const { run } = parking.state.head();
      const delayed = aTask({ status: "runnable", next_retry_at_ms: clock.nowMs() + 5_000 });
      await parking.submit({ op: "replace_run", run: { ...run, tasks: [delayed] } });
      expect(parking.engine.parkedDueAtMs()).toBeNull();
      const waiter = parking.park();
      await parking.settled();
      expect(parking.engine.parkedDueAtMs()).toBe(clock.nowMs() + 5_000);
      clock.advance(4_999);
      await parking.settled();
      expect(givenTo(waiter)).toBeNull();
      clock.advance(1);
      await parking.settled();
      expect(givenTo(waiter)).toEqual(["t"]);
      expect(parking.engine.parkedDueAtMs()).toBeNull();
    }));

  it("claims: no more may wait than there is room for; those known to be gone make room", () =>
    withParking(async (parking) => {
      for (let place = 1; place <= MAX_PARKED_CLAIMS; place += 1) parking.park();
      expect(parking.park().told).toMatchObject({ ok: false, refusal: { code: "OVERLOADED" } });
      const [first] = parking.waiters;
      if (first !== undefined) first.isGone = true;
      const late = parking.park();
      expect(late.told).toBeUndefined();
      await parking.submit(tasks("t"));
      expect(given(parking.waiters.slice(0, 2))).toEqual([null, ["t"]]);
    }));

  it("claims: a thousand are served in transactions of bounded length, at once and in order", () =>
    withParking(async (parking) => {
      const waiters = Array.from({ length: 1_000 }, () => parking.park());
      await parking.settled();
      parking.flushes.length = 0;
      const ids = Array.from({ length: 1_000 }, (_, index) => `t${index}`);
      await Promise.all([
        parking.submit(tasks(...ids.slice(0, 500))),
        parking.submit(tasks(...ids.slice(500))),
      ]);
      await parking.settled();
      expect(given(waiters)).toEqual(ids.map((id) => [id]));
      const [first = 0, ...rest] = parking.flushes.filter((commits) => commits > 0);
      expect(first).toBeLessThanOrEqual(1_000 + 128);
      expect(Math.max(...rest)).toBeLessThanOrEqual(128);
    }));

  it("budget: who waits costs those that commit no row, and when its turn comes what a claim with a key costs", () =>
    withParking(async (parking) => {
      await parking.submit(
        creation(...Array.from({ length: 50 }, (_, n) => row(`r${n}`, { workflow_id: `w${n}` }))),
      );
      const { rows: alone } = await parking.submit(note());
      const direct = await parking.submit({ op: "claim_task", agent_id: "quick", workflow_id: "w1" }, "key");
      for (let n = 0; n < 1_000; n += 1) parking.park({ task_type: `none-${n % 100}` });
      await parking.settled();
      const { rows: beside } = await parking.submit(note());
      expect(beside).toEqual(alone);
      const waiter = parking.park({ task_type: "x" }, { commandId: "waits" });
      await parking.submit(creation(row("t", { task_type: "x" })));
      expect(givenTo(waiter)).toEqual(["t"]);
      if (waiter.told === undefined || waiter.told === "failed") throw new Error("it was told");
      expect(waiter.told.rows.written).toBe(direct.rows.written);
      expect(waiter.told.rows.read).toBeLessThanOrEqual(20);
    }));

  it("claims: claims that come in great number cannot keep those that wait from their turn", () =>
    withParking(async (parking) => {
      const waiters = Array.from({ length: 300 }, () => parking.park());
      const ids = Array.from({ length: 400 }, (_, index) => `t${index}`);
      const [, ...claims] = await Promise.all([
        parking.submit(tasks(...ids)),
        ...ids.map(() => parking.submit({ op: "claim_task", agent_id: "quick" })),
      ]);
      expect(given(waiters)).toEqual(ids.slice(0, 300).map((id) => [id]));
      const taken = claims.flatMap((answer) =>
        answer.ok && answer.outcome?.op === "claim_task" ? (answer.outcome.task?.id ?? []) : [],
      );
      expect(taken).toEqual(ids.slice(300));
    }));
});

describe("parked claims and faults", () => {
  useTestClock();
  afterEach(() => {
    vi.restoreAllMocks();
  });

  /** Lets the next claim that is stored fail. */
  function failNextClaim(): void {
    const append = CommitTable.prototype.append;
    let isDue = true;
    vi.spyOn(CommitTable.prototype, "append").mockImplementation(function (this: CommitTable, ...args) {
      if (isDue && args[0].event.type === "context.task.claimed") {
        isDue = false;
        throw new Error("the disk said no");
      }
      return append.apply(this, args);
    });
  }

  const sound = async (parking: ParkingEngine) => {
    expect(parking.state.isIndexSound()).toBe(true);
    parking.park();
    await parking.submit(tasks("after"));
  };

  it("claims: a fault while one is served undoes and fails that one alone: the next has the task", () =>
    withParking(async (parking) => {
      const waiters = [parking.park(), parking.park()];
      await parking.settled();
      failNextClaim();
      expect(await parking.submit(tasks("t"))).toMatchObject({ ok: true });
      expect(waiters[0]?.told).toBe("failed");
      expect(givenTo(waiters[1] as Waiter)).toEqual(["t"]);
      await sound(parking);
    }));

  it("claims: a fault of the whole transaction undoes what was given in it: they wait on, in their places", () =>
    withParking(async (parking) => {
      vi.spyOn(console, "error").mockReturnValue(undefined);
      const waiters = [parking.park(), parking.park()];
      await parking.settled();
      vi.spyOn(RunState.prototype, "isSaveDue").mockImplementationOnce(() => {
        throw new Error("the disk said no");
      });
      await expect(parking.submit(tasks("a"))).rejects.toThrow("the disk said no");
      expect(given(waiters)).toEqual([null, null]);
      expect(parking.state.taskCount()).toBe(0);
      await parking.submit(tasks("b"));
      expect(given(waiters)).toEqual([["b"], null]);
      await parking.submit(tasks("c"));
      expect(given(waiters)).toEqual([["b"], ["c"]]);
      await sound(parking);
    }));

  it("claims: a refused or failed command beside them changes nothing for them", () =>
    withParking(async (parking) => {
      const waiter = parking.park();
      const answers = await Promise.allSettled([
        parking.submit(creation(row("t"), row("t"))),
        parking.submit({ op: "transition_task", task_id: "none", action: "complete" }),
      ]);
      expect(answers).toMatchObject([{ value: { ok: false } }, { value: { ok: false } }]);
      expect(givenTo(waiter)).toBeNull();
      await parking.submit(tasks("u"));
      expect(givenTo(waiter)).toEqual(["u"]);
    }));

  it("claims: when the engine closes, nobody is served any more", () =>
    withParking(async (parking) => {
      const waiter = parking.park();
      await parking.settled();
      parking.engine.close();
      expect(await parking.submit(tasks("t"))).toMatchObject({ ok: false });
      expect(parking.engine.unpark(waiter.claim)).toBe(false);
      expect(parking.park().told).toMatchObject({ ok: false, refusal: { code: "RUN_NOT_FOUND" } });
    }));
});
