import { runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Command } from "../../src/domain/command.ts";
import type { Answer } from "../../src/run/engine.ts";
import { submit } from "../../src/run/run-client.ts";
import type { RunObject } from "../../src/run/run-object.ts";
import { RunState } from "../../src/run/run-state.ts";
import { CommitTable } from "../../src/run/storage/commits.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import {
  accepted,
  claimed,
  creation,
  eventsOf,
  everything,
  evict,
  inObject,
  newTestRun,
  note,
  overviewOf,
  replayOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

/** How many commits each transaction had; those without any, and nested ones, are left out. */
function watchTransactions(): () => number[] {
  const transaction = Sql.prototype.transaction;
  const append = CommitTable.prototype.append;
  const counts: number[] = [];
  let depth = 0;
  vi.spyOn(Sql.prototype, "transaction").mockImplementation(function <T>(this: Sql, body: () => T): T {
    if (depth === 0) counts.push(0);
    depth += 1;
    try {
      return transaction.call(this, body) as T;
    } finally {
      depth -= 1;
    }
  });
  vi.spyOn(CommitTable.prototype, "append").mockImplementation(function (this: CommitTable, ...args) {
    counts.push((counts.pop() ?? 0) + 1);
    return append.apply(this, args);
  });
  return () => counts.filter((count) => count > 0);
}

/** Lets the storing of one event fail, once: that whose payload is, or whose task is called, "fault". */
function failOnFault(): void {
  const original = CommitTable.prototype.append;
  let isDue = true;
  vi.spyOn(CommitTable.prototype, "append").mockImplementation(function (this: CommitTable, ...args) {
    const { payload, task_id } = args[0].event;
    if (isDue && (payload === "fault" || task_id === "fault")) {
      isDue = false;
      throw new Error("the disk said no");
    }
    return original.apply(this, args);
  });
}

/** Submits all commands in one turn, inside the object. */
function atOnce(run: TestRun, commands: Command[]): Promise<PromiseSettledResult<Answer>[]> {
  return inObject(run, (object: RunObject) =>
    Promise.allSettled(commands.map((command) => submit(object, { command }))),
  );
}

/** What became of each command: its event's seq, the code of its refusal, or the fault. */
function resultsOf(settled: PromiseSettledResult<Answer>[]): (number | string)[] {
  return settled.map((result) => {
    if (result.status === "rejected") return String(result.reason);
    if (!result.value.ok) return result.value.refusal.code;
    const { outcome } = result.value;
    return outcome?.op === "append_event" ? outcome.event.seq : (outcome?.op ?? "none");
  });
}

/** The stored run must be whole: contiguous, without drift, and the same to an object that wakes now. */
async function expectWhole(run: TestRun): Promise<void> {
  const events = await eventsOf(run);
  expect(events.map((event) => event.seq)).toEqual(events.map((_event, index) => index + 1));
  expect((await replayOf(run)).drift.mismatch).toBe(false);
  const before = await everything(run);
  await evict(run);
  expect(await everything(run)).toEqual(before);
}

describe("design: group commit", () => {
  useTestClock();
  afterEach(() => {
    vi.restoreAllMocks();
  });

  it("G1: commands that arrive in one turn share a transaction", async () => {
    const run = await newTestRun();
    const transactions = watchTransactions();
    const settled = await atOnce(
      run,
      Array.from({ length: 64 }, (_, index) => note(index)),
    );
    expect(transactions()).toEqual([64]);
    expect(resultsOf(settled)).toEqual(Array.from({ length: 64 }, (_, index) => index + 1));
    await expectWhole(run);
  });

  it("G1: commands that arrive while a flush is pending share the next transaction", async () => {
    const run = await newTestRun();
    const transactions = watchTransactions();
    const settled = await inObject(run, async (object: RunObject) => {
      const first = submit(object, { command: note(0) });
      // Past the turn in which the first was taken up, and before its flush is over.
      for (let turn = 0; turn < 5; turn += 1) await null;
      const others = Array.from({ length: 9 }, (_, index) => submit(object, { command: note(index + 1) }));
      return Promise.allSettled([first, ...others]);
    });
    expect(transactions()).toEqual([1, 9]);
    expect(resultsOf(settled)).toEqual(Array.from({ length: 10 }, (_, index) => index + 1));
    await expectWhole(run);
  });

  it("G1: 64 concurrent callers are all answered, each with a seq of its own", async () => {
    const run = await newTestRun();
    const transactions = watchTransactions();
    const outcomes = await Promise.all(Array.from({ length: 64 }, (_, index) => accepted(run, note(index))));
    expect(new Set(outcomes.map(({ event }) => event.seq)).size).toBe(64);
    expect(Math.max(...outcomes.map(({ event }) => event.seq))).toBe(64);
    expect(transactions().length).toBeLessThanOrEqual(64);
    await expectWhole(run);
  });

  it("G1: concurrent claims give every task to one agent only", async () => {
    const run = await newTestRun();
    await accepted(run, creation(...Array.from({ length: 40 }, (_, index) => row(`t${index}`))));
    const settled = await atOnce(
      run,
      Array.from({ length: 64 }, (_, index): Command => ({ op: "claim_task", agent_id: `agent-${index}` })),
    );
    const tasks = settled.map((result) => {
      if (result.status === "rejected" || !result.value.ok) throw new Error("a claim was not answered");
      return result.value.outcome?.op === "claim_task" ? (result.value.outcome.task?.id ?? null) : null;
    });
    expect(tasks.slice(0, 40)).toEqual(Array.from({ length: 40 }, (_, index) => `t${index}`));
    expect(tasks.slice(40)).toEqual(Array.from({ length: 24 }, () => null));
    await expectWhole(run);
  });

  it("G2: a refusal in the group undoes only its own command", async () => {
    const run = await newTestRun();
    const unknownTask: Command = { op: "transition_task", task_id: "none", action: "complete" };
    const halfBad = creation(row("good"), row("bad", { task_type: " " }));
    const settled = await atOnce(run, [note(), note(), unknownTask, halfBad, note(), unknownTask, note()]);
    expect(resultsOf(settled)).toEqual([1, 2, "TASK_NOT_FOUND", "FIELD_INVALID", 3, "TASK_NOT_FOUND", 4]);
    expect((await overviewOf(run)).task_counts.total).toBe(0);
    await expectWhole(run);
  });

  it("G2: a fault in the group undoes only its own command, and the seq it would have had is the next one's", async () => {
    const run = await newTestRun();
    failOnFault();
    const settled = await atOnce(run, [note(), note(), note("fault"), note(), note("fault")]);
    expect(resultsOf(settled)).toEqual([1, 2, "Error: the disk said no", 3, 4]);
    await expectWhole(run);
  });

  it("D21: a fault in the middle of a batch leaves nothing of the batch, in the tables or in memory", async () => {
    const run = await newTestRun();
    await accepted(
      run,
      creation(row("first", { priority: 1 }), row("waits", { depends_on_task_ids: ["x"] })),
    );
    const before = await everything(run);
    failOnFault();
    const batch = creation(
      row("x", { priority: 9, status: "done" }),
      row("y", { priority: 8 }),
      row("fault", { depends_on_task_ids: ["y"] }),
    );
    const settled = await atOnce(run, [batch]);
    expect(resultsOf(settled)).toEqual(["Error: the disk said no"]);
    expect(await everything(run)).toEqual(before);
    await expectWhole(run);
    expect((await claimed(run)).id).toBe("first");
    await accepted(run, batch);
    expect((await wholeRun(run)).tasks.map((task) => task.id)).toEqual(["first", "waits", "x", "y", "fault"]);
    expect([(await claimed(run)).id, (await claimed(run)).id]).toEqual(["y", "waits"]);
  });

  it("G2: a fault of a claim gives back the requeue of stale leases too", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("fault")));
    await claimed(run, { lease_ms: 5_000 });
    vi.setSystemTime(Date.now() + 5_000);
    const before = await everything(run);
    failOnFault();
    const settled = await atOnce(run, [{ op: "claim_task", agent_id: "other" }]);
    expect(resultsOf(settled)).toEqual(["Error: the disk said no"]);
    expect(await everything(run)).toEqual(before);
    expect((await claimed(run, { agent_id: "other" })).id).toBe("fault");
    await expectWhole(run);
  });

  it("G1: a fault of the whole group refuses all of it and stores none of it; the engine goes on", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a")));
    const before = await everything(run);
    vi.spyOn(RunState.prototype, "isSaveDue").mockImplementationOnce(() => {
      throw new Error("the disk said no");
    });
    const settled = await atOnce(run, [{ op: "claim_task", agent_id: "one" }]);
    expect(resultsOf(settled)).toEqual(["Error: the disk said no"]);
    expect(await everything(run)).toEqual(before);
    expect(resultsOf(await atOnce(run, [note(), note()]))).toEqual([2, 3]);
    expect((await claimed(run)).id).toBe("a");
    await expectWhole(run);
  });

  it("G3: when the flush fails nobody is told of success, and the object is told to start afresh", async () => {
    const run = await newTestRun();
    await accepted(run, note());
    const results = await runInDurableObject(run.stub, async (object: RunObject, state) => {
      const abort = vi.spyOn(state, "abort").mockReturnValue(undefined);
      vi.spyOn(state.storage, "sync").mockRejectedValueOnce(new Error("the flush failed"));
      const settled = await Promise.allSettled([submit(object, { command: note() })]);
      expect(abort).toHaveBeenCalledExactlyOnceWith("Error: the flush failed");
      return resultsOf(settled);
    });
    expect(results).toEqual(["Error: the flush failed"]);
    await evict(run);
    await accepted(run, note());
    await expectWhole(run);
  });
});
