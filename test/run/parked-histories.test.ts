import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Command, TaskFilter } from "../../src/domain/command.ts";
import { obstacleTo } from "../../src/domain/locks.ts";
import { claimsOf } from "../../src/domain/outcome.ts";
import type { LockedResource } from "../../src/protocol/lock.ts";
import type { Task } from "../../src/protocol/task.ts";
import { RunState } from "../../src/run/run-state.ts";
import { CommitTable } from "../../src/run/storage/commits.ts";
import { type ParkingEngine, type Waiter, withParking } from "./support/parked.ts";
import { creation, note, PROPERTY_TIMEOUT_MS, row, useTestClock } from "./support/test-run.ts";

const TYPES = ["a", "b"];
const WORKFLOWS = ["v", "w"];

const maybe = <T>(...values: T[]) => fc.option(fc.constantFrom(...values), { nil: undefined });
const filter = fc.record({ task_type: maybe(...TYPES), workflow_id: maybe(...WORKFLOWS) });

const step = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("lock" as const), name: fc.constantFrom("x/1", "x/2", "**") }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("unlock" as const), nth: fc.nat(5) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("park" as const),
      filter,
      max: maybe(1, 2, 5),
      key: maybe("k1", "k2"),
      lock: maybe("x/1", "x/*"),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("create" as const),
      task_type: fc.constantFrom(...TYPES),
      workflow_id: maybe(...WORKFLOWS),
      count: fc.integer({ min: 1, max: 4 }),
      concurrency_key: maybe("one"),
      priority: fc.integer({ min: 0, max: 2 }),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("end" as const),
      nth: fc.nat(20),
      how: fc.constantFrom("complete", "release", "fail"),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("claim" as const), filter }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constantFrom("leave" as const, "vanish" as const), nth: fc.nat(20) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("status" as const),
      status: fc.constantFrom("paused" as const, "running" as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("clock" as const), ms: fc.constantFrom(10, 1_000, 31_000) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant("fault" as const),
      of: fc.constantFrom("claim" as const, "transaction" as const),
    }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

/** What the test knows of those that wait, and what it holds the engine against after each step. */
class Watch {
  readonly parking: ParkingEngine;
  readonly #advance: (ms: number) => void;
  #waiting: Waiter[] = [];
  #tasks = 0;
  readonly #locks: { lock_id: string; lease_token: string }[] = [];

  constructor(parking: ParkingEngine, advance: (ms: number) => void) {
    this.parking = parking;
    this.#advance = advance;
  }

  /** Several steps are taken in one turn: their commands meet in one transaction. */
  async take(steps: readonly Step[]): Promise<void> {
    vi.spyOn(console, "error").mockReturnValue(undefined);
    await Promise.all(steps.map((each) => this.#take(each).catch(() => undefined)));
    vi.restoreAllMocks();
    // What a fault has undone has its turn now.
    await this.parking.settled();
    this.#check();
  }

  async #take(each: Step): Promise<unknown> {
    switch (each.do) {
      case "park": {
        // A claim of several takes no locks.
        const locks = each.max === undefined && each.lock !== undefined ? [exclusive(each.lock)] : undefined;
        const members = {
          ...each.filter,
          ...(each.max !== undefined && { max: each.max }),
          ...(locks && { locks }),
        };
        const options = each.key === undefined ? {} : { commandId: `${each.key}-${JSON.stringify(members)}` };
        const waiter = this.parking.park({ agent_id: "agent", ...members }, options);
        this.#waiting.push(waiter);
        return;
      }
      case "create": {
        const { count, do: _do, ...fields } = each;
        const rows = Array.from({ length: count }, () => row(`t${this.#tasks++}`, fields));
        return this.parking.submit(creation(...rows));
      }
      case "end": {
        const held = this.parking.waiters.flatMap(claimsTold);
        const claimed = held[each.nth % held.length];
        if (claimed === undefined) return;
        const { task, lease } = claimed;
        const lease_token = lease?.token;
        return this.parking.submit({
          op: "transition_task",
          task_id: task.id,
          action: each.how,
          lease_token,
        });
      }
      case "claim":
        return this.parking.submit({
          op: "claim_task",
          agent_id: "quick",
          strict: true,
          ...each.filter,
        } as Command);
      case "leave":
      case "vanish": {
        const waiter = this.#waiting[each.nth % this.#waiting.length];
        if (waiter === undefined || waiter.told !== undefined) return;
        if (each.do === "vanish") waiter.isGone = true;
        else if (!this.parking.engine.unpark(waiter.claim)) return;
        this.#waiting = this.#waiting.filter((other) => other !== waiter);
        return;
      }
      case "lock": {
        const resources = [exclusive(each.name)];
        const answer = await this.parking.submit({ op: "acquire_lock", agent_id: "locker", resources });
        if (!answer.ok || answer.outcome?.op !== "acquire_lock") return;
        this.#locks.push({ lock_id: answer.outcome.lock.lock_id, lease_token: answer.outcome.token ?? "" });
        return;
      }
      case "unlock": {
        const [lock] = this.#locks.splice(each.nth % Math.max(1, this.#locks.length), 1);
        return lock && this.parking.submit({ op: "release_lock", ...lock });
      }
      case "status":
        return this.parking.submit(note(null, each.status));
      case "clock":
        return this.#advance(each.ms);
      case "fault":
        return each.of === "claim" ? failNextClaim() : failNextTransaction();
    }
  }

  #check(): void {
    const { state } = this.parking;
    const nowMs = Math.max(state.head().run.updated_at_ms, Date.now());
    this.#waiting = this.#waiting.filter(({ told }) => told === undefined);
    if (state.head().run.status !== "paused") {
      // Nobody waits for what is there.
      for (const { claim } of this.#waiting) {
        const { command } = claim.submission;
        const { conflicts } = obstacleTo(command.locks ?? [], state.head().locks, nowMs);
        if (conflicts.length === 0) expect(state.nextClaimable(command, nowMs)?.id).toBeUndefined();
      }
    }
    for (const waiter of this.parking.waiters) {
      const { told } = waiter;
      if (told === undefined || told === "failed") continue;
      // A parked claim is never told that there is nothing.
      expect(told.ok && (told.repeat !== null || claimsOf(told.outcome).length > 0)).toBe(true);
    }
    // One lease is one claim's, or that of its repeats.
    const tokens = new Map<string, string>();
    for (const [index, waiter] of this.parking.waiters.entries()) {
      for (const { lease } of claimsTold(waiter)) {
        const whose = waiter.claim.submission.commandId ?? String(index);
        const known = tokens.get(lease?.token ?? "");
        expect(known ?? whose).toBe(whose);
        tokens.set(lease?.token ?? "", whose);
      }
    }
    expect(state.isIndexSound()).toBe(true);
  }
}

const exclusive = (name: string): LockedResource => ({ name, mode: "exclusive" });

function claimsTold({ told }: Waiter) {
  return told === undefined || told === "failed" || !told.ok ? [] : claimsOf(told.outcome);
}

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

function failNextTransaction(): void {
  vi.spyOn(RunState.prototype, "isSaveDue").mockImplementationOnce(() => {
    throw new Error("the disk said no");
  });
}

function fits(task: Task, wanted: TaskFilter): boolean {
  return (
    (wanted.task_type === undefined || wanted.task_type === task.task_type) &&
    (wanted.workflow_id === undefined || wanted.workflow_id === task.workflow_id)
  );
}

describe("random histories of claims that wait", () => {
  const clock = useTestClock();
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it(
    "claims: whatever happens, nobody waits for what is there, no lease is given to two, and the index stays sound",
    async () => {
      const groups = fc.array(fc.array(step, { minLength: 1, maxLength: 4 }), {
        minLength: 5,
        maxLength: 25,
      });
      await fc.assert(
        fc.asyncProperty(groups, (turns) =>
          withParking(async (parking) => {
            const watch = new Watch(parking, (ms) => clock.advance(ms));
            for (const turn of turns) await watch.take(turn);
          }),
        ),
        { numRuns: 60 },
      );
    },
    PROPERTY_TIMEOUT_MS * 2,
  );

  it(
    "claims: a task is given to the first by place of those it fits, however they came",
    async () => {
      const arrivals = fc.array(
        fc.oneof(
          fc.record({ park: filter, max: fc.constantFrom(1, 3) }),
          fc.record({
            create: fc.record({ task_type: fc.constantFrom(...TYPES), workflow_id: maybe(...WORKFLOWS) }),
          }),
        ),
        { minLength: 10, maxLength: 40 },
      );
      await fc.assert(
        fc.asyncProperty(arrivals, (steps) =>
          withParking(async (parking) => {
            const waiting: Waiter[] = [];
            for (const [n, each] of steps.entries()) {
              if ("park" in each) waiting.push(parking.park({ ...each.park, max: each.max }));
              else await parking.submit(creation(row(`t${n}`, each.create)));
              await parking.settled();
              for (const waiter of waiting.filter(({ told }) => told !== undefined)) {
                // Those before it that wait yet could not have taken any of what it was given.
                const earlier = waiting.filter(
                  ({ told, claim }) => told === undefined && claim.place < waiter.claim.place,
                );
                for (const { task } of claimsTold(waiter)) {
                  expect(earlier.some(({ claim }) => fits(task, claim.submission.command))).toBe(false);
                }
              }
              for (const told of waiting.filter((waiter) => waiter.told !== undefined)) {
                waiting.splice(waiting.indexOf(told), 1);
              }
            }
          }),
        ),
        { numRuns: 40 },
      );
    },
    PROPERTY_TIMEOUT_MS * 2,
  );
});
