import { afterEach, beforeEach, describe, expect, it, type MockInstance, vi } from "vitest";
import type { Command, CommandOf, TaskFilter, TaskRow } from "../../src/domain/command.ts";
import { submit } from "../../src/run/run-client.ts";
import type { RunObject } from "../../src/run/run-object.ts";
import { RunState } from "../../src/run/run-state.ts";
import { CommitTable } from "../../src/run/storage/commits.ts";
import {
  accepted,
  claimed,
  creation,
  evict,
  inObject,
  newTestRun,
  outcomeOf,
  replayOf,
  row,
  type TestRun,
  useTestClock,
} from "./support/test-run.ts";

/** Few; more than are read at once when a lane runs dry (8); more than are kept in memory (64). */
const SIZES = [3, 20, 100];
/** Rows that a claim may read (design §10). */
const CLAIM_READ_BUDGET = 20;

/** When the cache learned the lane: this decides how much of it is in memory. */
const CACHES = ["told of each task", "read from the table", "read after a wake"] as const;
type Cache = (typeof CACHES)[number];

function ids(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `t${index}`);
}

/** The command that puts tasks in the place of idle ones of the same ids. */
function replacement(...tasks: TaskRow[]): CommandOf<"create_tasks"> {
  return { op: "create_tasks", tasks, replace_existing: true };
}

/** A run with these tasks, the lanes cache in use. */
async function runWith(tasks: TaskRow[], cache: Cache): Promise<TestRun> {
  const run = await newTestRun();
  const useCache = () => accepted(run, { op: "claim_task", agent_id: "nobody", task_type: "none" });
  if (cache === "told of each task") await useCache();
  await accepted(run, creation(...tasks));
  if (cache === "read after a wake") await evict(run);
  await useCache();
  return run;
}

/** Submits a command inside the object; it must be accepted. */
async function submitted<C extends Command>(object: RunObject, command: C) {
  const answer = await submit(object, { command });
  return { outcome: outcomeOf<C["op"]>(command.op, answer), read: answer.rows.read };
}

/** Claims once: the task's id, null when there was none, and how many rows that read. */
async function claimOnce(object: RunObject): Promise<{ id: string | null; read: number }> {
  const { outcome, read } = await submitted(object, { op: "claim_task", agent_id: "agent" });
  return { id: outcome.task?.id ?? null, read };
}

/** Claims until nothing is left, many claims at a time. */
async function drained(run: TestRun, filter: TaskFilter = {}): Promise<string[]> {
  const command: Command = { op: "claim_task", agent_id: "agent", ...filter };
  const taken: string[] = [];
  // What is handed out again and again would have no end.
  while (taken.length < 500) {
    const answers = await inObject(run, (object) =>
      Promise.all(Array.from({ length: 30 }, () => submit(object, { command }))),
    );
    const found = answers.flatMap((answer) => outcomeOf("claim_task", answer).task?.id ?? []);
    taken.push(...found);
    if (found.length < answers.length) break;
  }
  return taken;
}

/** A lane as the contract orders it (contract 04 §4): a list, sorted anew for every claim. */
class PlainLane {
  #ready: { id: string; priority: number; createdMs: number }[] = [];

  add(rows: TaskRow[], createdMs: number): void {
    for (const { id = "", priority = 0 } of rows) this.#ready.push({ id, priority, createdMs });
  }

  take(): string | null {
    // A stable sort: what is equal in priority and time stays in the order it came.
    this.#ready.sort((a, b) => b.priority - a.priority || a.createdMs - b.createdMs);
    return this.#ready.shift()?.id ?? null;
  }
}

/** A cache that broke its rule is noticed, reported and read again: the claims alone would not tell. */
function expectNoReports(): void {
  let reports: MockInstance<typeof console.error>;
  beforeEach(() => {
    reports = vi.spyOn(console, "error").mockReturnValue(undefined);
  });
  afterEach(() => {
    expect(reports).not.toHaveBeenCalled();
    vi.restoreAllMocks();
  });
}

describe("N1: a replaced ready task is handed out once", () => {
  const clock = useTestClock();
  expectNoReports();
  const cases = CACHES.flatMap((cache) =>
    SIZES.flatMap((size) => [
      { cache, size, priority: undefined, title: "of the same priority" },
      { cache, size, priority: 5, title: "of a higher priority" },
    ]),
  );

  it.each(cases)(
    "N1: replaced by one $title, in a lane of $size, $cache",
    async ({ cache, size, priority }) => {
      const all = ids(size);
      const run = await runWith(
        all.map((id) => row(id)),
        cache,
      );
      // Always the best one is replaced: some of them are then the last one known of the lane. With its old priority it
      // goes behind the others, which are older by then, and every second task is taken in its stead.
      const evens = all.filter((_id, index) => index % 2 === 0);
      const odds = all.filter((_id, index) => index % 2 === 1);
      const replaced = priority === undefined ? evens : all;
      const expected = priority === undefined ? [...odds, ...evens] : all;
      const taken = await inObject(run, async (object) => {
        const claims: (string | null)[] = [];
        for (const id of replaced) {
          clock.advance(1);
          await submitted(object, replacement(row(id, { priority })));
          claims.push((await claimOnce(object)).id);
        }
        return claims;
      });
      expect([...taken, ...(await drained(run))]).toEqual(expected);
      expect((await replayOf(run)).drift.mismatch).toBe(false);
    },
  );

  it("N1: also when it moves to another lane and back", async () => {
    const run = await runWith([row("a"), row("b")], "read from the table");
    await accepted(run, replacement(row("a", { task_type: "other" })));
    await accepted(run, replacement(row("a", { priority: 1 })));
    expect(await drained(run)).toEqual(["a", "b"]);
  });

  it.each(CACHES)("N1: also when one batch replaces the whole lane from behind, %s", async (cache) => {
    const all = ids(100);
    const run = await runWith(
      all.map((id) => row(id)),
      cache,
    );
    clock.advance(1);
    await accepted(run, replacement(...all.toReversed().map((id) => row(id))));
    expect(await drained(run)).toEqual(all);
  });
});

describe("N1: a lane is drained best first, whatever is added to it", () => {
  const clock = useTestClock();
  expectNoReports();
  const additions = [
    { place: "in front", priorities: [9] },
    { place: "in the middle", priorities: [1] },
    { place: "behind", priorities: [-9] },
    { place: "in front, in the middle and behind", priorities: [-9, 9, 1, 0] },
  ];
  const cases = CACHES.flatMap((cache) => additions.map((addition) => ({ cache, ...addition })));

  it.each(cases)(
    "N1: tasks added $place, $cache; each claim keeps its budget",
    async ({ cache, priorities }) => {
      const lane = new PlainLane();
      const first = ids(100).map((id, index) => row(id, { priority: index % 3 }));
      lane.add(first, clock.nowMs());
      const run = await runWith(first, cache);
      const taken: (string | null)[] = [];
      const expected: (string | null)[] = [];
      let mostRead = 0;
      await inObject(run, async (object) => {
        for (let turn = 0; taken.at(-1) !== null && turn < 500; turn += 1) {
          if (turn % 5 === 0 && turn < 100) {
            clock.advance(1);
            // Two of each, so that position decides too.
            const added = priorities.flatMap((priority) =>
              ["x", "y"].map((name) => row(`${name}${turn}:${priority}`, { priority })),
            );
            lane.add(added, clock.nowMs());
            await submitted(object, creation(...added));
          }
          const { id, read } = await claimOnce(object);
          taken.push(id);
          expected.push(lane.take());
          mostRead = Math.max(mostRead, read);
        }
      });
      expect(taken).toEqual(expected);
      expect(mostRead).toBeLessThanOrEqual(CLAIM_READ_BUDGET);
    },
  );

  it("N1: the older task comes first among equals, and the earlier in the list among those of one moment", async () => {
    const run = await runWith([row("old")], "told of each task");
    clock.advance(1);
    await accepted(run, creation(row("z"), row("a"), row("best", { priority: 1 })));
    clock.advance(1);
    await accepted(run, creation(row("young"), row("worst", { priority: -1 })));
    expect(await drained(run)).toEqual(["best", "old", "z", "a", "young", "worst"]);
  });

  it("N1: a task given back takes its old place", async () => {
    const run = await runWith(
      ids(20).map((id) => row(id)),
      "read from the table",
    );
    for (let turn = 0; turn < 3; turn += 1) {
      const { id, token } = await claimed(run);
      expect(id).toBe("t0");
      await accepted(run, { op: "transition_task", task_id: id, action: "release", lease_token: token });
    }
    expect(await drained(run)).toEqual(ids(20));
  });
});

describe("N1: a filter finds its lane", () => {
  const TASKS = [
    row("build", { task_type: "build", priority: 1 }),
    row("build-1", { task_type: "build", workflow_id: "w1" }),
    row("build-2", { task_type: "build", workflow_id: "w2", priority: 3 }),
    row("review", { task_type: "review" }),
    row("review-1", { task_type: "review", workflow_id: "w1", priority: 2 }),
    row("review-1b", { task_type: "review", workflow_id: "w1" }),
  ];
  const cases: { filter: TaskFilter; expected: string[] }[] = [
    { filter: {}, expected: ["build-2", "review-1", "build", "build-1", "review", "review-1b"] },
    { filter: { task_type: "build" }, expected: ["build-2", "build", "build-1"] },
    { filter: { task_type: "review" }, expected: ["review-1", "review", "review-1b"] },
    { filter: { workflow_id: "w1" }, expected: ["review-1", "build-1", "review-1b"] },
    { filter: { workflow_id: "w2" }, expected: ["build-2"] },
    { filter: { task_type: "review", workflow_id: "w1" }, expected: ["review-1", "review-1b"] },
    { filter: { task_type: "review", workflow_id: "w2" }, expected: [] },
    { filter: { task_type: "none" }, expected: [] },
    // In the table '' stands for no workflow; no filter may find it.
    { filter: { workflow_id: "" }, expected: [] },
  ];

  it.each(
    cases.flatMap((each) => CACHES.map((cache) => ({ ...each, cache, title: JSON.stringify(each.filter) }))),
  )("N1: $title, $cache", async ({ filter, expected, cache }) => {
    expect(await drained(await runWith(TASKS, cache), filter)).toEqual(expected);
  });
});

describe("N1: an undone transaction leaves the next claims as they were", () => {
  const clock = useTestClock();
  afterEach(() => {
    vi.restoreAllMocks();
  });

  const commands: { title: string; command: Command }[] = [
    { title: "a claim", command: { op: "claim_task", agent_id: "agent" } },
    { title: "a better task", command: creation(row("new", { priority: 9 }), row("newer", { priority: 9 })) },
    { title: "a replacement", command: replacement(row("t0", { priority: -9 }), row("t1", { priority: 9 })) },
    { title: "a task of another lane", command: replacement(row("t0", { task_type: "other" }), row("t1")) },
    {
      title: "more than is kept in memory",
      command: creation(...ids(100).map((id) => row(`new-${id}`, { priority: 9 }))),
    },
  ];
  const faults = [
    {
      moment: "in the middle",
      fail: () => {
        const append = CommitTable.prototype.append;
        let calls = 0;
        vi.spyOn(CommitTable.prototype, "append").mockImplementation(function (this: CommitTable, ...args) {
          calls += 1;
          if (calls === 2) throw new Error("the disk said no");
          return append.apply(this, args);
        });
      },
    },
    {
      moment: "at the end",
      fail: () => {
        vi.spyOn(RunState.prototype, "isSaveDue").mockImplementationOnce(() => {
          throw new Error("the disk said no");
        });
      },
    },
  ];
  const cases = commands.flatMap((command) =>
    faults.flatMap((fault) =>
      // A claim is one commit and has no middle.
      command.command.op === "claim_task" && fault.moment === "in the middle"
        ? []
        : [3, 100].map((size) => ({ ...command, ...fault, size })),
    ),
  );

  it.each(cases)("N1: $title, undone $moment, in a lane of $size", async ({ command, fail, size }) => {
    const run = await runWith(
      ids(size).map((id) => row(id)),
      "told of each task",
    );
    clock.advance(1);
    fail();
    await inObject(run, (object) => expect(submit(object, { command })).rejects.toThrow("the disk said no"));
    vi.restoreAllMocks();
    expect(await drained(run)).toEqual(ids(size));
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });
});
