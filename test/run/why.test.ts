import { describe, expect, it } from "vitest";
import type { Command } from "../../src/domain/command.ts";
import type { Wait } from "../../src/domain/why.ts";
import type { Task } from "../../src/protocol/task.ts";
import { RunState } from "../../src/run/run-state.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { readByReadiness, type Why } from "../../src/run/why.ts";
import {
  accepted,
  claimed,
  creation,
  http,
  inStorage,
  newTestRun,
  note,
  row,
  type TestRun,
  useTestClock,
} from "./support/test-run.ts";

async function why({ id }: TestRun, task = "t"): Promise<Wait[]> {
  const { task_id, claimable, waits_for } = await http<Why>("GET", `/v1/runs/${id}/tasks/${task}/why`);
  expect([task_id, claimable]).toEqual([task, waits_for.length === 0]);
  return waits_for;
}

type Listed = Task & { waits_for: Wait[] };

async function list({ id }: TestRun, query: string): Promise<Listed[]> {
  const tasks: Listed[] = [];
  for (let path: string | null = `/v1/runs/${id}/tasks?${query}`; path !== null; ) {
    const page: { tasks: Listed[]; next: string | null } = await http("GET", path);
    tasks.push(...page.tasks);
    path = page.next;
  }
  return tasks;
}

async function runWith(...commands: Command[]): Promise<TestRun> {
  const run = await newTestRun();
  for (const command of commands) await accepted(run, command);
  return run;
}

const ACTION = { op: "transition_task", task_id: "t" } as const;

describe("why a task is not given out", () => {
  const clock = useTestClock();

  it("claims: nothing, when a claim can take it", async () => {
    expect(await why(await runWith(creation(row("t"))))).toEqual([]);
  });

  it("claims: its holder, with fence and expiry, also when the lease has run out", async () => {
    const run = await runWith(creation(row("t")));
    const { expiresAtMs } = await claimed(run, { agent_id: "ann" });
    const holder = { kind: "holder", agent_id: "ann", fence: 2, expires_at_ms: expiresAtMs };
    expect(await why(run)).toEqual([holder]);
    clock.advance(300_000);
    expect(await why(run)).toEqual([holder]);
  });

  it("claims: dependencies that are missing or not done, each once", async () => {
    const run = await runWith(
      creation(
        row("t", { depends_on_task_ids: ["open", "none", "done", "open", "broken"] }),
        row("open"),
        row("done", { status: "done" }),
        row("broken", { status: "failed" }),
      ),
    );
    const waits = await why(run);
    expect(waits).toHaveLength(3);
    expect(waits).toEqual(
      expect.arrayContaining([
        { kind: "dependency", task_id: "open", status: "pending" },
        { kind: "dependency", task_id: "none", status: null },
        { kind: "dependency", task_id: "broken", status: "failed" },
      ]),
    );
  });

  it("claims: of very many dependencies, the first fifty", async () => {
    const depends_on_task_ids = Array.from({ length: 80 }, (_, index) => `d${index}`);
    expect(await why(await runWith(creation(row("t", { depends_on_task_ids }))))).toHaveLength(50);
  });

  it("claims: the time of its next attempt", async () => {
    const run = await runWith(
      creation(
        row("t", {
          max_attempts: 3,
          retry: { base_ms: 5_000, factor: 2, max_ms: 9_000, jitter: 0, non_retryable: [] },
        }),
      ),
    );
    const { token: lease_token } = await claimed(run);
    await accepted(run, { ...ACTION, action: "fail", lease_token });
    expect(await why(run)).toEqual([{ kind: "retry_at", at_ms: clock.nowMs() + 5_000 }]);
    clock.advance(5_000);
    expect(await why(run)).toEqual([]);
  });

  it("claims: the limit of its concurrency key, and who takes its places", async () => {
    const run = await runWith(
      creation(row("first", { concurrency_key: "k", priority: 1 }), row("t", { concurrency_key: "k" })),
    );
    expect(await why(run)).toEqual([]);
    const { expiresAtMs } = await claimed(run, { agent_id: "ann" });
    const holder = { task_id: "first", agent_id: "ann", fence: 3, expires_at_ms: expiresAtMs };
    expect(await why(run)).toEqual([{ kind: "concurrency_limit", key: "k", limit: 1, holders: [holder] }]);
    await accepted(run, { op: "put_settings", settings: { concurrency_limits: { k: 2 } } });
    expect(await why(run)).toEqual([]);
  });

  it.each([
    ["paused", "run_paused"],
    ["cancelled", "run_cancelled"],
    ["completed", "run_ended"],
    ["failed", "run_ended"],
  ] as const)("claims: that the run is %s", async (status, kind) => {
    const run = await runWith(creation(row("t")), note(null, status));
    expect(await why(run)).toEqual([{ kind, run_status: status }]);
    expect(await list(run, "ready=true")).toEqual([]);
  });

  it("claims: that somebody set it aside, and who holds it meanwhile", async () => {
    const run = await runWith(creation(row("t", { status: "blocked" })));
    expect(await why(run)).toEqual([{ kind: "blocked" }]);
    const held = await runWith(creation(row("t")));
    const { token: lease_token } = await claimed(held);
    await accepted(held, { ...ACTION, action: "status", status: "blocked", lease_token });
    expect(await why(held)).toMatchObject([{ kind: "blocked" }, { kind: "holder", agent_id: "agent" }]);
  });

  it("claims: that it is over, and how it failed", async () => {
    expect(await why(await runWith(creation(row("t", { status: "done" }))))).toEqual([
      { kind: "over", status: "done" },
    ]);
    const run = await runWith(
      creation(
        row("t", {
          max_attempts: 1,
          retry: { base_ms: 1, factor: 1, max_ms: 1, jitter: 0, non_retryable: [] },
        }),
      ),
    );
    const { token: lease_token } = await claimed(run);
    await accepted(run, { ...ACTION, action: "fail", lease_token });
    const failure = { cause: "attempts_exhausted", at_ms: clock.nowMs() };
    expect(await why(run)).toEqual([{ kind: "over", status: "failed", dead_letter: true, failure }]);
  });

  it("claims: a task that is not there is not found", async () => {
    const run = await newTestRun();
    await http("GET", `/v1/runs/${run.id}/tasks/none/why`, { status: 404 });
  });
});

describe("the list of tasks that are ready, or not", () => {
  useTestClock();

  it("claims: has each task that is not over once, page by page, in list order, with what it waits for", async () => {
    const run = await runWith(
      creation(
        ...Array.from({ length: 30 }, (_, index) =>
          row(`t${index}`, {
            ...(index % 3 === 1 && { depends_on_task_ids: ["t0"] }),
            ...(index % 3 === 2 && { status: "done" }),
          }),
        ),
      ),
    );
    const [ready, waiting] = [await list(run, "ready=true&limit=4"), await list(run, "ready=false&limit=4")];
    expect(ready.map(({ id, waits_for }) => [id, waits_for])).toEqual(
      Array.from({ length: 10 }, (_, index) => [`t${3 * index}`, []]),
    );
    const wait = { kind: "dependency", task_id: "t0", status: "pending" };
    expect(waiting.map(({ id, waits_for }) => [id, waits_for])).toEqual(
      Array.from({ length: 10 }, (_, index) => [`t${3 * index + 1}`, [wait]]),
    );
  });

  it("budget: holders of a key are read once for a page, however many wait for its places", async () => {
    const settings = { concurrency_limits: { k: 50 } };
    const rows = Array.from({ length: 250 }, (_, index) => row(`t${index}`, { concurrency_key: "k" }));
    const run = await runWith({ op: "put_settings", settings }, creation(...rows));
    await accepted(run, { op: "claim_task", agent_id: "ann", max: 50 });
    const read = await inStorage(run, (_sql, storage) => {
      const sql = new Sql(storage);
      const state = RunState.existing(sql);
      const before = sql.counts().read;
      readByReadiness(state, { ready: false, afterPos: 0, limit: 500 }, Date.now());
      return sql.counts().read - before;
    });
    expect(read).toBeLessThan(1_000);
  });

  it("claims: takes no other filter beside it", async () => {
    const run = await newTestRun();
    await http("GET", `/v1/runs/${run.id}/tasks?ready=true&status=done`, { status: 400 });
    await http("GET", `/v1/runs/${run.id}/tasks?ready=false&dead_letter=true`, { status: 400 });
    await http("GET", `/v1/runs/${run.id}/tasks?ready=perhaps`, { status: 400 });
  });
});
