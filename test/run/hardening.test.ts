import { describe, expect, it } from "vitest";
import type { Command, TaskRow } from "../../src/domain/command.ts";
import { MAX_SEARCHED_PER_BATCH } from "../../src/protocol/limits.ts";
import type { Run, RunSummary } from "../../src/protocol/run.ts";
import type { Task } from "../../src/protocol/task.ts";
import type { Answer } from "../../src/run/engine.ts";
import { submit } from "../../src/run/run-client.ts";
import type { RunObject } from "../../src/run/run-object.ts";
import type { Text } from "../../src/run/text.ts";
import { aRow, aTask, batch, memoryRun, refused } from "../support/builders.ts";
import {
  accepted,
  creation,
  eventually,
  everything,
  http,
  inObject,
  listed,
  newTestRun,
  note,
  overviewOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

const KIB = 1024;

/** That many tasks, each with a payload of that many characters. */
function longRows(count: number, length: number): TaskRow[] {
  const payload = { text: "x".repeat(length) };
  return Array.from({ length: count }, (_, index) => row(`t${index}`, { payload }));
}

/** Submits a command inside the object; it must be accepted. */
async function submitted(object: RunObject, command: Command): Promise<void> {
  const answer = await submit(object, { command });
  if (!answer.ok) throw new Error(JSON.stringify(answer.refusal));
}

/** A read's value, which must be there. */
function present<T>(result: { ok: true; value: T } | { ok: false }): T {
  if (!result.ok) throw new Error("the run is not there");
  return result.value;
}

/** The JSON that a text holds. */
function parsed<T>(text: Text): Promise<T> {
  return new Response(text).json();
}

/** Creates tasks in an object; a batch is at most 500. */
async function fill(object: RunObject, rows: TaskRow[]): Promise<void> {
  for (let start = 0; start < rows.length; start += 500) {
    await submitted(object, creation(...rows.slice(start, start + 500)));
  }
}

describe("design: X1 a text is of one state, whatever is committed before it is read", () => {
  /** How many tasks, and how long each: texts that the object keeps in memory, and texts too large to be kept. */
  const sizes: [string, number, number][] = [
    ["of 4 MB", 2_000, 2 * KIB],
    ["of 10 MB", 60, 170 * KIB],
  ];

  /** Changes the last task, replaces the one before, adds a task and a note. */
  async function changeAll(object: RunObject, count: number): Promise<void> {
    const last = `t${count - 1}`;
    await submitted(object, { op: "transition_task", task_id: last, action: "status", status: "blocked" });
    const replacement = row(`t${count - 2}`, { payload: { text: "replaced" } });
    await submitted(object, { op: "create_tasks", tasks: [replacement], replace_existing: true });
    await submitted(object, creation(row("added", { payload: { text: "y".repeat(KIB) } })));
    const payload = { id: "n2", ts_ms: 2, text: "later" };
    await submitted(object, { op: "patch_blackboard", patch_op: "add_fact", payload });
  }

  /** Puts a run of only one task in the place of all that was there. */
  async function replaceAll(object: RunObject, run: Run): Promise<void> {
    await submitted(object, { op: "replace_run", run: { ...run, tasks: run.tasks.slice(0, 1) } });
  }

  it.each(sizes)("design: X1 a run and a board %s", async (_name, count, length) => {
    const run = await newTestRun();
    await inObject(run, async (object) => {
      await fill(object, longRows(count, length));
      const payload = { id: "n1", ts_ms: 1, text: "earlier" };
      await submitted(object, { op: "patch_blackboard", patch_op: "add_fact", payload });
      const before = await parsed<Run>(present(await object.readRun()).text);
      const board = await parsed<{ tasks: Task[] }>(present(await object.readBlackboard(true)));
      expect(before).toMatchObject({ last_event_seq: count + 1, tasks: { length: count } });
      expect(board).toMatchObject({ revision: count + 1, facts: [{ id: "n1" }] });
      expect(board.tasks).toEqual(before.tasks);

      const unread = present(await object.readRun()).text;
      const unreadBoard = present(await object.readBlackboard(true));
      // What is too long for one message comes in pieces, and none was taken yet.
      expect([typeof unread, typeof unreadBoard]).toEqual(["object", "object"]);
      await changeAll(object, count);
      const changed = present(await object.readRun()).text;
      await replaceAll(object, before);

      // A plain comparison: telling the difference of texts this long would take longer than the test may.
      expect(JSON.stringify(await parsed(unread)) === JSON.stringify(before)).toBe(true);
      expect(JSON.stringify(await parsed(unreadBoard)) === JSON.stringify(board)).toBe(true);
      const between = await parsed<Run>(changed);
      expect([between.last_event_seq, between.tasks.length]).toEqual([count + 5, count + 1]);
      expect(between.tasks.slice(-3)).toMatchObject([
        { id: `t${count - 2}`, payload: { text: "replaced" } },
        { id: `t${count - 1}`, status: "blocked" },
        { id: "added" },
      ]);
      const now = await parsed<Run>(present(await object.readRun()).text);
      expect([now.last_event_seq, now.tasks.length]).toEqual([count + 6, 1]);
    });
  });
});

describe("design: what is too large to be echoed is not read for it", () => {
  it("07 D35 a fact on a board over 8 MiB reads as few rows as on a small one", async () => {
    const run = await newTestRun();
    await inObject(run, (object) => fill(object, longRows(60, 170 * KIB)));
    const add = async (n: number) => {
      const payload = { id: `n${n}`, ts_ms: n, text: "x" };
      const answer = await submit(run.client, {
        command: { op: "patch_blackboard", patch_op: "add_fact", payload },
        echo: "blackboard",
      });
      expect(answer).toMatchObject({ ok: true, echo: null });
      return answer.rows.read;
    };
    // The first one finds out.
    await add(1);
    for (const n of [2, 3, 4]) expect(await add(n)).toBeLessThanOrEqual(10);
  });
});

describe("the search for dependency cycles", () => {
  const CHAIN = 60;
  /** Tasks of which each waits for the one before; the first, for these. */
  const chain = (name: string, start: string[] = []) =>
    Array.from({ length: CHAIN }, (_, index) =>
      row(`${name}${index}`, { depends_on_task_ids: index === 0 ? start : [`${name}${index - 1}`] }),
    );
  const END = CHAIN - 1;
  const [endOfA, endOfB] = [`a${END}`, `b${END}`];

  /** `x` waits for the ends of two chains and has a third one waiting for it: on either side of it lies much. */
  const board = [
    ...chain("a"),
    ...chain("b"),
    row("x", { depends_on_task_ids: [endOfA, endOfB] }),
    ...chain("c", ["x"]),
  ];

  const replacing = (...tasks: TaskRow[]): Command => ({ op: "create_tasks", tasks, replace_existing: true });
  const x = (...depends_on_task_ids: string[]) => row("x", { depends_on_task_ids });

  async function runOfChains(): Promise<TestRun> {
    const run = await newTestRun();
    await accepted(run, creation(...board));
    return run;
  }

  const kept: [string, string[]][] = [
    ["the same dependencies", [endOfA, endOfB]],
    ["the same in another order", [endOfB, endOfA]],
    ["the same, doubled and untrimmed", [endOfA, ` ${endOfB} `, endOfA]],
    ["one fewer", [endOfB]],
    ["none", []],
  ];
  it.each(kept)(
    "07 D49 creating an idle task again with %s searches nothing",
    async (_name, dependencies) => {
      const run = await runOfChains();
      const answer = await submit(run.client, { command: replacing(x(...dependencies)) });
      expect(answer).toMatchObject({ ok: true, outcome: { tasks: [{ id: "x", task_rev: 1 }] } });
      expect(answer.rows.read).toBeLessThanOrEqual(10 + 2);
      expect(answer.rows.written).toBeLessThanOrEqual(6);
    },
  );

  it("07 D49 a new dependency is searched for, and a cycle found", async () => {
    const run = await runOfChains();
    const cyclic = await submit(run.client, { command: replacing(x(endOfA, `c${END}`)) });
    expect(cyclic).toMatchObject({ ok: false, refusal: { code: "TASK_DEPENDENCY_CYCLE", row: 0 } });
    const answer = await submit(run.client, { command: replacing(x("new")) });
    expect(answer.ok).toBe(true);
  });

  /** Gives `x` one chain after the other, so that each row has to be searched for, at about the chain's length. */
  const turns = (count: number) =>
    Array.from({ length: count }, (_, index) => x(index % 2 === 0 ? endOfA : endOfB, `new-${index % 2}`));
  const tooMany = Math.ceil(MAX_SEARCHED_PER_BATCH / CHAIN) + 10;
  const limit = {
    code: "LIMIT_EXCEEDED",
    limit_name: "tasks_searched_for_cycles",
    limit: MAX_SEARCHED_PER_BATCH,
    actual: MAX_SEARCHED_PER_BATCH + 1,
  };

  it("07 D49 a batch that would search too much is refused whole, with the row at which it was", async () => {
    const run = await runOfChains();
    const before = await everything(run);
    const answer: Answer = await submit(run.client, { command: replacing(...turns(tooMany)) });
    expect(answer).toMatchObject({ ok: false, refusal: limit });
    const at = (answer.ok ? undefined : answer.refusal.row) ?? -1;
    expect(at).toBeGreaterThan(tooMany / 5);
    expect(await everything(run)).toEqual(before);
    // One row fewer than that is not too much.
    await accepted(run, replacing(...turns(at)));
    expect((await overviewOf(run)).task_counts.total).toBe(board.length);
  });

  it("07 D49 in memory the same batch is refused the same", () => {
    const tasks = board.map(({ id = "", depends_on_task_ids }) => aTask({ id, depends_on_task_ids }));
    const view = memoryRun({}, tasks);
    expect(refused(batch(...turns(tooMany)), view)).toMatchObject(limit);
    expect(refused(batch(aRow({ id: "x", depends_on_task_ids: ["x"] })), view)).toMatchObject({
      code: "TASK_DEPENDENCY_CYCLE",
    });
  });
});

describe("design: refusals leave caches alone", () => {
  const LANES = 100;
  /** Twice this is more than a commit holds: it is in the event and in the patch. */
  const artifact_ids = Array.from({ length: 10_000 }, (_, index) => `${index}`.padEnd(120, "-"));
  const tooLarge = creation(row("big", { artifact_ids }));

  it("design: a claim after a command over commit_bytes reads as many rows as one before", async () => {
    const run = await newTestRun();
    const rows = Array.from({ length: LANES }, (_, index) => row(`t${index}`, { task_type: `k${index}` }));
    await accepted(run, creation(...rows));
    const claim = async () => {
      const command: Command = { op: "claim_task", agent_id: "agent" };
      const answer = await submit(run.client, { command, echo: "blackboard" });
      expect(answer).toMatchObject({ ok: true, outcome: { task: { status: "in_progress" } } });
      return answer.rows.read;
    };
    expect(await claim()).toBeGreaterThan(LANES);
    const usual = await claim();
    expect(usual).toBeLessThanOrEqual(20);
    const refusal = { code: "LIMIT_EXCEEDED", limit_name: "commit_bytes" };
    expect(await submit(run.client, { command: tooLarge })).toMatchObject({ ok: false, refusal });
    expect(await claim()).toBe(usual);
  });

  it("design: one in the middle of a group is refused alone", async () => {
    const run = await newTestRun();
    const answers = await inObject(run, (object) =>
      Promise.all([note(1), tooLarge, note(2)].map((command) => submit(object, { command }))),
    );
    expect(answers.map((answer) => answer.ok)).toEqual([true, false, true]);
    expect(await wholeRun(run)).toMatchObject({ last_event_seq: 2, tasks: [] });
  });
});

describe("the list of runs", () => {
  useTestClock();

  it("design: ?workspace= finds a run as soon as it adopted its path, before any alarm", async () => {
    const run = await newTestRun();
    const path = `/srv/${run.id}`;
    const found = async () => {
      const { runs } = await http<{ runs: RunSummary[] }>("GET", `/v1/runs?workspace=${path}`);
      return runs.map((summary) => summary.run_id);
    };
    expect(await found()).toEqual([]);
    await accepted(run, { op: "validate_workspace", phase: "p", current_path: `${path}/` });
    // No alarm fires by itself here: what is listed was flushed by the commit.
    await eventually(found, (ids) => ids.includes(run.id), 2_000);
  });

  it("design: it shows created_at_ms as a PUT set it", async () => {
    const run = await newTestRun();
    const stored = await wholeRun(run);
    const created_at_ms = stored.created_at_ms - 5_000;
    await accepted(run, { op: "replace_run", run: { ...stored, status: "running", created_at_ms } });
    const summary = await eventually(
      () => listed(run),
      (seen) => seen?.status === "running",
      2_000,
    );
    expect(summary?.created_at_ms).toBe(created_at_ms);
  });
});
