import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createRng } from "../../bench/drill/rng.ts";
import { checkHistory } from "../../bench/history/check.ts";
import { clockOf, STEADY } from "../../bench/history/clock.ts";
import type { History, LostClaim, Operation, Phase } from "../../bench/history/operation.ts";
import { after, expired, FRESH, type Register, type Rules } from "../../bench/history/register.ts";

const NEVER = Number.POSITIVE_INFINITY;
const STRICT: Rules = { isStrict: true, slackMs: 0, clock: STEADY };
const LATE: Rules = { isStrict: false, slackMs: 0, clock: STEADY };
/** The server's clock jumped once, between `atMs` and 10 ms later. */
const jumped = (atMs: number, byMs: number): Rules => ({
  ...STRICT,
  clock: clockOf([{ atMs, doneMs: atMs + 10, byMs }]),
});
const TERM = 1_000;

/** An operation on task `t`, named by its act and when it was called. */
type Times = readonly [calledMs: number, returnedMs: number];
const at = ([calledMs, returnedMs]: Times, act: string) => ({
  id: `${act}@${calledMs}`,
  task: "t",
  calledMs,
  returnedMs,
});
const claim = (times: Times, agent: string, fence: number): Operation => ({
  ...at(times, "claim"),
  act: "claim",
  agent,
  fence,
  termMs: TERM,
});
const heartbeat = (times: Times, fence: number, termMs = TERM): Operation => ({
  ...at(times, "heartbeat"),
  act: "heartbeat",
  fence,
  termMs,
});
const write = (times: Times, fence: number): Operation => ({ ...at(times, "write"), act: "write", fence });
const complete = (times: Times, fence: number): Operation => ({
  ...at(times, "complete"),
  act: "end",
  fence,
  to: "over",
});
const release = (times: Times, fence: number): Operation => ({
  ...at(times, "release"),
  act: "end",
  fence,
  to: "open",
});
const refused = (times: Times, fence: number, holder?: readonly [string, number] | null): Operation => ({
  ...at(times, "refused"),
  act: "refused",
  fence,
  ...(holder !== undefined && {
    holder: holder === null ? null : { agent: holder[0], fence: holder[1] },
  }),
});
const read = (times: Times, phase: Phase, holder?: readonly [string, number]): Operation => ({
  ...at(times, "read"),
  act: "read",
  phase,
  holder: holder === undefined ? null : { agent: holder[0], fence: holder[1] },
});
const revoke = (times: Times, fence: number): Operation => ({ ...at(times, "revoke"), act: "revoke", fence });
const bare = (act: "revoke" | "reopen" | "close", times: Times): Operation => ({ ...at(times, act), act });
const lost = (calledMs: number, agent: string): LostClaim => ({
  id: `lost@${calledMs}`,
  agent,
  calledMs,
  termMs: TERM,
  max: 1,
});

const check = (operations: readonly Operation[], rules = STRICT, lostClaims: readonly LostClaim[] = []) =>
  checkHistory({ operations, lostClaims }, rules).map(({ rule, id }) => `${rule} ${id}`);

describe("claims: histories that can be", () => {
  it.each<[what: string, operations: Operation[], rules?: Rules, lostClaims?: LostClaim[]]>([
    ["nothing", []],
    ["a claim and its completion", [claim([0, 2], "a", 1), complete([5, 7], 1)]],
    [
      "a lease that ran out, was given to another, and its first holder refused",
      [
        claim([0, 2], "a", 1),
        claim([1_001, 1_003], "b", 9),
        refused([1_002, 1_004], 1),
        complete([1_005, 1_006], 9),
      ],
    ],
    [
      "a heartbeat that was called before the lease ran out and answered after",
      [claim([0, 2], "a", 1), heartbeat([999, 1_500], 1), complete([1_600, 1_601], 1)],
    ],
    [
      "a claim answered before the release that made room for it",
      [claim([0, 2], "a", 1), release([10, 20], 1), claim([11, 15], "b", 4)],
    ],
    [
      "two claims at once, answered in the other order of their fences",
      [claim([0, 50], "b", 7), claim([1, 60], "a", 3), release([2, 40], 3)],
    ],
    [
      "a completion without an answer, seen by a reader",
      [claim([0, 2], "a", 1), complete([5, NEVER], 1), read([20, 21], "over")],
    ],
    [
      "a completion without an answer that never arrived",
      [claim([0, 2], "a", 1), complete([5, NEVER], 1), claim([1_100, 1_101], "b", 2)],
    ],
    [
      "a heartbeat without an answer, in force much later",
      [claim([0, 2], "a", 1), heartbeat([900, NEVER], 1), write([1_700, 1_701], 1)],
    ],
    [
      "a refusal that names a claim whose answer was lost",
      [claim([0, 2], "a", 1), refused([1_200, 1_201], 1, ["b", 5])],
      STRICT,
      [lost(1_100, "b")],
    ],
    [
      "a refusal that names the lease that ran out itself",
      [claim([0, 2], "a", 1), refused([1_100, 1_101], 1, ["a", 1])],
    ],
    ["a refusal that names nobody", [claim([0, 2], "a", 1), refused([1_100, 1_101], 1, null)]],
    [
      "a late completion that nobody noticed, where leases last until then",
      [claim([0, 2], "a", 1), complete([5_000, 5_001], 1)],
      LATE,
    ],
    [
      "a lease that was revoked before its term",
      [claim([0, 2], "a", 1), bare("revoke", [10, NEVER]), refused([20, 21], 1), claim([22, 23], "b", 2)],
    ],
    [
      "a dead letter that was redriven",
      [
        claim([0, 2], "a", 1),
        complete([3, 4], 1),
        read([5, 6], "over"),
        bare("reopen", [7, 8]),
        claim([9, 10], "a", 2),
      ],
    ],
    [
      "a dead letter made of a lease that ran out",
      [claim([0, 2], "a", 1), read([1_100, 1_101], "over"), bare("reopen", [1_102, 1_103])],
    ],
    [
      "writes while a task is held, also beside its completion",
      [claim([0, 2], "a", 1), write([3, 9], 1), complete([4, 10], 1)],
    ],
    ["a task that was cancelled before anybody took it", [bare("close", [0, 1]), read([2, 3], "over")]],
    [
      "a second holder once the clock jumped over the first one's lease",
      [claim([0, 2], "a", 1), claim([110, 112], "b", 2), refused([120, 121], 1)],
      jumped(100, TERM),
    ],
    [
      "a second holder sooner by as much as the clock jumped",
      [claim([0, 2], "a", 1), claim([700, 702], "b", 2)],
      jumped(100, 300),
    ],
    [
      "a holder who had longer because the clock went back",
      [claim([0, 2], "a", 1), write([1_400, 1_401], 1), claim([1_500, 1_501], "b", 2)],
      jumped(600, -500),
    ],
    [
      "a lease of the moment at which time stood still",
      [claim([700, 702], "a", 1), complete([2_050, 2_051], 1)],
      jumped(600, -500),
    ],
    [
      "a lease that ended while a jump back was still unknown to it",
      [claim([0, 2], "a", 1), claim([1_000, 1_003], "b", 2)],
      jumped(1_001, -500),
    ],
    [
      "one lease that was revoked, of two",
      [
        claim([0, 2], "a", 1),
        release([3, 4], 1),
        claim([5, 6], "b", 2),
        revoke([7, NEVER], 2),
        claim([9, 10], "c", 3),
      ],
    ],
  ])("%s", (_, operations, rules, lostClaims) => {
    expect(check(operations, rules, lostClaims)).toEqual([]);
  });
});

describe("claims: histories that cannot be", () => {
  it.each<[what: string, misfit: string, operations: Operation[], rules?: Rules, lostClaims?: LostClaim[]]>([
    ["two holders at once", "not_linearizable claim@10", [claim([0, 2], "a", 1), claim([10, 12], "b", 2)]],
    [
      "two holders at once, where leases last until somebody notices",
      "not_linearizable claim@10",
      [claim([0, 2], "a", 1), claim([10, 12], "b", 2)],
      LATE,
    ],
    [
      "a claim a moment before the lease can have run out",
      "not_linearizable claim@990",
      [claim([0, 2], "a", 1), claim([990, 999], "b", 2)],
    ],
    [
      "a claim after a heartbeat, as if there had been none",
      "not_linearizable claim@1100",
      [claim([0, 2], "a", 1), heartbeat([900, 901], 1), claim([1_100, 1_101], "b", 2)],
    ],
    [
      "a completion by who is no longer the holder",
      "not_linearizable complete@1200",
      [claim([0, 2], "a", 1), claim([1_100, 1_101], "b", 2), complete([1_200, 1_201], 1)],
    ],
    [
      "two completions",
      "not_linearizable complete@5",
      [claim([0, 1], "a", 1), complete([2, 3], 1), complete([5, 6], 1)],
    ],
    [
      "a write the moment after the lease ran out, though nobody took the task",
      "not_linearizable write@1003",
      [claim([0, 2], "a", 1), write([1_003, 1_004], 1)],
    ],
    [
      "a write under a lease that another has followed",
      "not_linearizable write@1200",
      [claim([0, 2], "a", 1), claim([1_100, 1_101], "b", 2), write([1_200, 1_201], 1)],
      LATE,
    ],
    [
      "a write after the task was completed",
      "not_linearizable write@10",
      [claim([0, 2], "a", 1), complete([3, 4], 1), write([10, 11], 1)],
    ],
    [
      "a heartbeat after the lease ran out",
      "not_linearizable heartbeat@1003",
      [claim([0, 2], "a", 1), heartbeat([1_003, 1_004], 1)],
    ],
    [
      "a holder that was refused in the middle of its lease",
      "not_linearizable refused@500",
      [claim([0, 2], "a", 1), refused([500, 501], 1), complete([600, 601], 1)],
    ],
    [
      "a fence that went back",
      "fence_went_back claim@1100",
      [claim([0, 2], "a", 8), claim([1_100, 1_101], "b", 5), complete([1_102, 1_103], 5)],
    ],
    ["one fence for two", "fence_twice claim@0", [claim([0, 2], "a", 1), claim([1_100, 1_101], "b", 1)]],
    [
      "a claim of a task that was done",
      "not_linearizable claim@10",
      [claim([0, 1], "a", 1), complete([2, 3], 1), claim([10, 11], "b", 2)],
    ],
    [
      "a refusal that names somebody whom no claim explains",
      "holder_unknown refused@1200",
      [claim([0, 2], "a", 1), refused([1_200, 1_201], 1, ["c", 5])],
      STRICT,
      [lost(1_100, "b")],
    ],
    [
      "a refusal that names a claim made later",
      "holder_unknown refused@1200",
      [claim([0, 2], "a", 1), refused([1_200, 1_201], 1, ["b", 5])],
      STRICT,
      [lost(1_300, "b")],
    ],
    [
      "a refusal that names nobody while another holds the task",
      "not_linearizable refused@1200",
      [claim([0, 2], "a", 1), claim([1_100, 1_101], "b", 2), refused([1_200, 1_201], 1, null)],
    ],
    [
      "two holders at once, and a jump that had been before",
      "not_linearizable claim@200",
      [claim([100, 102], "a", 1), claim([200, 202], "b", 2)],
      jumped(50, TERM),
    ],
    [
      "two holders at once, and a jump that came later",
      "not_linearizable claim@10",
      [claim([0, 2], "a", 1), claim([10, 12], "b", 2)],
      jumped(13, TERM),
    ],
    [
      "two holders at once, and a jump that was too short",
      "not_linearizable claim@600",
      [claim([0, 2], "a", 1), claim([600, 602], "b", 2)],
      jumped(100, 300),
    ],
    [
      "two holders at once, and a jump the other way",
      "not_linearizable claim@600",
      [claim([0, 2], "a", 1), claim([600, 602], "b", 2)],
      jumped(100, -500),
    ],
    [
      "a holder refused although the clock went back",
      "not_linearizable refused@500",
      [claim([0, 2], "a", 1), refused([500, 501], 1)],
      jumped(100, -500),
    ],
    [
      "a write later than a jump back explains",
      "not_linearizable write@1503",
      [claim([0, 2], "a", 1), write([1_503, 1_504], 1)],
      jumped(600, -500),
    ],
    [
      "a write that was too late before the clock went back",
      "not_linearizable write@1003",
      [claim([0, 2], "a", 1), write([1_003, 1_004], 1)],
      jumped(1_100, -500),
    ],
    [
      "a late write, and a jump back that time had caught up with before the lease",
      "not_linearizable write@3003",
      [claim([2_000, 2_002], "a", 1), write([3_003, 3_004], 1)],
      jumped(100, -500),
    ],
    [
      "two holders at once, and the lease of another revoked",
      "not_linearizable claim@9",
      [claim([0, 2], "a", 1), revoke([3, NEVER], 2), claim([9, 10], "c", 3)],
    ],
    [
      "a reader that finds the task free while it is held",
      "not_linearizable read@10",
      [claim([0, 2], "a", 1), read([10, 11], "open")],
    ],
    [
      "a reader that finds the holder before last",
      "not_linearizable read@1200",
      [claim([0, 2], "a", 1), claim([1_100, 1_101], "b", 2), read([1_200, 1_201], "held", ["a", 1])],
    ],
    [
      "a lost completion that is undone",
      "not_linearizable read@30",
      [
        claim([0, 2], "a", 1),
        complete([5, NEVER], 1),
        read([20, 21], "over"),
        read([30, 31], "held", ["a", 1]),
      ],
    ],
    [
      "a completion that two claims must each have come before",
      "not_linearizable claim@40",
      [claim([0, 100], "a", 1), complete([20, 30], 1), claim([40, 50], "b", 2)],
    ],
  ])("%s", (_, misfit, operations, rules, lostClaims) => {
    expect(check(operations, rules, lostClaims)).toContain(misfit);
  });
});

describe("the search", () => {
  /** Tries every order, with the end of a lease anywhere. */
  function canBe(operations: readonly Operation[], rules: Rules): boolean {
    const go = (task: Register, left: readonly Operation[], nowMs: number): boolean => {
      if (left.every(({ returnedMs }) => returnedMs === NEVER)) return true;
      const next = left.some((operation) => {
        const thenMs = Math.max(nowMs, operation.calledMs);
        if (thenMs > operation.returnedMs) return false;
        const changed = after(task, operation, rules);
        return changed !== null && go(changed, without(left, operation), thenMs);
      });
      if (next || task.phase !== "held") return next;
      const endMs = Math.max(nowMs, Math.min(task.endsAfterMs, task.looseMs) - rules.slackMs);
      const ended = expired(task, endMs, rules);
      return ended !== null && go(ended, left, endMs);
    };
    return go(FRESH, operations, 0);
  }
  const without = (left: readonly Operation[], one: Operation) => left.filter((other) => other !== one);

  const times = fc
    .tuple(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: 7 }))
    .map(([calledMs, length, luck]): Times => [calledMs, luck === 0 ? NEVER : calledMs + length]);
  const fence = fc.integer({ min: 1, max: 3 });
  const holder = fc.oneof(
    fc.constant(undefined),
    fc.constant(null),
    fence.map((one): [string, number] => ["a", one]),
  );
  const some: fc.Arbitrary<Operation> = fc.oneof(
    fc.tuple(times, fence).map(([[called, returned], one]) => ({
      ...claim([called, returned === NEVER ? called + 3 : returned], "a", one),
      termMs: 9,
    })),
    fc.tuple(times, fence).map(([when, one]) => heartbeat(when, one, 9)),
    fc.tuple(times, fence).map(([when, one]) => write(when, one)),
    fc.tuple(times, fence).map(([when, one]) => complete(when, one)),
    fc.tuple(times, fence).map(([when, one]) => release(when, one)),
    fc.tuple(times, fence, holder).map(([when, one, named]) => refused(when, one, named)),
    fc
      .tuple(times, fc.constantFrom<Phase>("open", "held", "over"), fence)
      .map(([when, phase, one]) => read(when, phase, phase === "held" ? ["a", one] : undefined)),
    fc
      .tuple(times, fc.constantFrom("revoke" as const, "reopen" as const, "close" as const))
      .map(([when, act]) => bare(act, when)),
  );
  const histories = fc
    .array(some, { minLength: 1, maxLength: 7 })
    .map((operations) => operations.map((one, index): Operation => ({ ...one, id: `${one.act}-${index}` })))
    .filter((operations) => {
      const fences = operations.flatMap((one) => (one.act === "claim" ? [one.fence] : []));
      const named = operations.flatMap((one) => ("holder" in one && one.holder ? [one.holder.fence] : []));
      return new Set(fences).size === fences.length && named.every((one) => fences.includes(one));
    });

  it.each([
    ["strict", STRICT],
    ["late", LATE],
    ["with slack", { ...STRICT, slackMs: 2 }],
  ] as const)("finds an order exactly where there is one (%s)", (_, rules) => {
    let possible = 0;
    fc.assert(
      fc.property(histories, (operations) => {
        const expected = canBe(operations, rules);
        possible += expected ? 1 : 0;
        expect(checkHistory({ operations, lostClaims: [] }, rules).length === 0).toBe(expected);
      }),
      { numRuns: 3_000 },
    );
    // Neither answer may be the only one that was tried.
    expect(possible).toBeGreaterThan(100);
    expect(possible).toBeLessThan(2_900);
  });
});

/** A history of tasks that agents claim, work and lose, as a server without a fault would answer it. */
function played(options: { tasks: number; operations: number; seed: number; together: number }): History {
  const rng = createRng(options.seed, 0);
  const operations: Operation[] = [];
  const lostClaims: LostClaim[] = [];
  interface Played {
    fence: number;
    agent: string;
    isHeld: boolean;
    /** Whether the holder knows that it is one. */
    isAnswered: boolean;
    endMs: number;
    stale: number[];
  }
  const tasks = Array.from(
    { length: options.tasks },
    (): Played => ({ fence: 0, agent: "", isHeld: false, isAnswered: false, endMs: 0, stale: [] }),
  );
  let nowMs = 0;
  for (let count = 0; count < options.operations; count += 1) {
    nowMs += rng.next() * 2;
    const index = rng.between(0, options.tasks - 1);
    const task = tasks[index] as Played;
    // As long as that many others take, so that so many are at work at once.
    const early = rng.next() * options.together;
    const late = rng.chance(0.03) ? NEVER : rng.next() * options.together;
    const seen = { id: `o${count}`, task: `t${index}`, calledMs: nowMs - early, returnedMs: nowMs + late };
    if (task.isHeld && task.endMs <= nowMs) {
      task.isHeld = false;
      task.stale.push(task.fence);
    }
    const old = task.stale.at(-1);
    if (old !== undefined && rng.chance(0.2)) {
      const holder = task.isHeld ? { agent: task.agent, fence: task.fence } : null;
      operations.push({ ...seen, act: "refused", fence: old, ...(rng.chance(0.5) && { holder }) });
    } else if (!task.isHeld) {
      const fence = count + 1;
      const agent = `agent-${count}`;
      Object.assign(task, { fence, agent, isHeld: true, isAnswered: late !== NEVER, endMs: nowMs + TERM });
      if (late === NEVER)
        lostClaims.push({ id: seen.id, agent, calledMs: seen.calledMs, termMs: TERM, max: 1 });
      else operations.push({ ...seen, act: "claim", agent, fence, termMs: TERM });
    } else if (task.isAnswered) {
      const { fence } = task;
      const kind = rng.next();
      if (kind < 0.5) {
        task.endMs = nowMs + TERM;
        operations.push({ ...seen, act: "heartbeat", fence, termMs: TERM });
      } else if (kind < 0.8) {
        operations.push({ ...seen, act: "write", fence });
      } else {
        task.isHeld = false;
        task.stale.push(fence);
        operations.push({ ...seen, act: "end", fence, to: "open" });
      }
    }
  }
  return { operations, lostClaims };
}

describe("long histories", () => {
  const sizes = [
    { tasks: 2_000, operations: 40_000, together: 20 },
    { tasks: 1, operations: 20_000, together: 20 },
    { tasks: 3, operations: 20_000, together: 200 },
  ];

  it.each(sizes)("of $operations operations on $tasks tasks can be, $together ms at work", (size) => {
    expect(checkHistory(played({ ...size, seed: 5 }), STRICT)).toEqual([]);
  });

  it.each(sizes)("of $operations operations on $tasks tasks cannot be once one answer is false", (size) => {
    const { operations, lostClaims } = played({ ...size, seed: 6 });
    // A completion long after its lease is gone, amid everything else.
    const old = operations.find((one) => one.act === "claim");
    if (old === undefined) throw new Error("nothing was claimed");
    const middle = (operations[Math.floor(operations.length * 0.9)] as Operation).calledMs;
    const seen = { id: "false", task: old.task, calledMs: middle, returnedMs: middle + 1 };
    const all: Operation[] = [...operations, { ...seen, act: "end", fence: old.fence, to: "over" }];
    const misfits = checkHistory({ operations: all, lostClaims }, STRICT);
    expect(misfits).toMatchObject([{ rule: "not_linearizable", task: old.task, id: "false" }]);
  });
});
