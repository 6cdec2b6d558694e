import { afterEach, describe, expect, it, vi } from "vitest";
import type { Batch, Command } from "../../src/domain/command.ts";
import type { Outcome } from "../../src/domain/outcome.ts";
import { MAX_BATCH_LENGTH, MAX_TASKS_PER_BATCH } from "../../src/protocol/limits.ts";
import type { Answer, Submission } from "../../src/run/engine.ts";
import { submit } from "../../src/run/run-client.ts";
import { CommitTable } from "../../src/run/storage/commits.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { arrive, exported } from "./support/moving.ts";
import { SMALL, sealAll } from "./support/sealing.ts";
import {
  accepted,
  claimed,
  creation,
  digestsOf,
  eventsOf,
  everything,
  evict,
  inObject,
  newTestRun,
  note,
  objectOf,
  overviewOf,
  replayOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

function batch(commands: Command[], rest: Partial<Batch> = {}): Batch {
  return { op: "batch", commands, dry_run: false, ...rest };
}

const CLAIM: Command = { op: "claim_task", agent_id: "agent" };
const FACT: Command = {
  op: "patch_blackboard",
  patch_op: "add_fact",
  payload: { id: "f", ts_ms: 1, text: "t" },
};

function complete(task_id: string, lease_token?: string): Command {
  return { op: "transition_task", task_id, action: "complete", lease_token };
}

/** One of many kinds of commands, for a run that is empty but for the task `held` in progress. */
const MANY: Command[] = [
  creation(row("a"), row("b", { depends_on_task_ids: ["a"] }), row("c", { priority: 5 })),
  CLAIM,
  complete("held"),
  note({ n: 1 }),
  FACT,
  { op: "sync_todos", todos: [], replace: true, source_session_id: null, source_run_id: null },
  { op: "select_next_step", dry_run: true },
  { op: "select_next_step", dry_run: false },
  { op: "claim_task", agent_id: "agent", task_type: "none" },
];

async function startedRun(): Promise<TestRun> {
  const run = await newTestRun();
  await accepted(run, creation(row("held", { status: "in_progress" })));
  return run;
}

/** What is the same whenever and under whatever ids it is done. */
function timeless(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (name, member: unknown) =>
      ["event_id", "patch_id", "run_id", "lease_token", "token"].includes(name) ? name : member,
    ),
  );
}

function done(answer: Answer): Extract<Outcome, { op: "batch" }> {
  expect(answer).toMatchObject({ ok: true, outcome: { op: "batch" } });
  return (answer as { outcome: Extract<Outcome, { op: "batch" }> }).outcome;
}

async function refused(run: TestRun, submission: Submission): Promise<unknown> {
  const before = await everything(run);
  const answer = await submit(run.client, submission);
  expect(answer.ok, JSON.stringify(answer)).toBe(false);
  expect(await everything(run)).toEqual(before);
  await evict(run);
  expect(await everything(run)).toEqual(before);
  return answer.ok ? null : answer.refusal;
}

/** How many commits each transaction made, of those that made some. */
async function commitsPerFlush(work: () => Promise<unknown>): Promise<number[]> {
  const transactions: number[] = [];
  const transaction = Sql.prototype.transaction;
  const append = CommitTable.prototype.append;
  let depth = 0;
  vi.spyOn(Sql.prototype, "transaction").mockImplementation(function <T>(this: Sql, body: () => T): T {
    if (depth === 0) transactions.push(0);
    depth += 1;
    try {
      return transaction.call(this, body) as T;
    } finally {
      depth -= 1;
    }
  });
  vi.spyOn(CommitTable.prototype, "append").mockImplementation(function (this: CommitTable, ...args) {
    transactions.push((transactions.pop() ?? 0) + 1);
    return append.apply(this, args);
  });
  await work();
  return transactions.filter((count) => count > 0);
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a batch does what its commands do", () => {
  const clock = useTestClock();

  it("claims: each command sees what the one before left; the outcomes are those of the commands one by one", async () => {
    const [one, many] = [await startedRun(), await startedRun()];
    clock.advance(1);
    const singly: Outcome[] = [];
    for (const command of MANY) singly.push(await accepted(one, command));
    const together = done(await submit(many.client, { command: batch(MANY) }));
    expect(timeless(together.outcomes)).toEqual(timeless(singly));
    expect(together.revision).toBe((await overviewOf(many)).revision);
    expect(timeless((await wholeRun(many)).tasks)).toEqual(timeless((await wholeRun(one)).tasks));
    expect(timeless(await eventsOf(many))).toEqual(timeless(await eventsOf(one)));
  });

  it("claims: its log replays to the state that it left, also after a wake", async () => {
    const run = await startedRun();
    await accepted(run, batch(MANY), "key");
    expect((await replayOf(run)).drift.mismatch).toBe(false);
    await evict(run);
    const { replay_state_sha256, persisted_state_sha256 } = await digestsOf(run);
    expect(replay_state_sha256).toBe(persisted_state_sha256);
  });

  it("claims: expired leases come back before its claims, once", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a"), row("b")));
    await claimed(run, { lease_ms: 5_000 });
    clock.advance(5_000);
    const { outcomes } = done(await submit(run.client, { command: batch([CLAIM, CLAIM, CLAIM]) }));
    const ids = outcomes.map((outcome) => (outcome.op === "claim_task" ? outcome.task?.id : "no claim"));
    expect(ids).toEqual(["a", "b", undefined]);
    const types = (await eventsOf(run, 3)).map(({ type }) => type.split(".").at(-1));
    expect(types).toEqual(["stale_requeued", "claimed", "claimed"]);
  });

  it("claims: a row's command id is done once, across the commands of a batch and after it", async () => {
    const run = await newTestRun();
    const keyed = (id: string) => creation(row(id, { command_id: "row-key" }));
    const { outcomes } = done(await submit(run.client, { command: batch([keyed("a"), keyed("b")]) }));
    expect(outcomes).toMatchObject([{ tasks: [{ id: "a" }] }, { tasks: [], deduped: ["row-key"] }]);
    expect(await accepted(run, keyed("c"))).toMatchObject({ tasks: [], deduped: ["row-key"] });
  });

  it("budget: it writes what its commands write, and one row for its key", async () => {
    const run = await newTestRun();
    const notes = Array.from({ length: 100 }, () => note());
    const priced = async (submission: Submission) => (await submit(run.client, submission)).rows.written;
    expect(await priced({ command: batch(notes) })).toBe(100);
    expect(await priced({ command: batch(notes), commandId: "key", fingerprint: "f" })).toBe(101);
  });

  it("G1: batches that arrive together are taken a few at a time, alone when they are long", async () => {
    const run = await newTestRun();
    const of = (count: number) => batch(Array.from({ length: count }, () => note()));
    const commits = await commitsPerFlush(() =>
      inObject(run, (object) =>
        Promise.all([200, 100, 100, 100, 1].map((count) => submit(object, { command: of(count) }))),
      ),
    );
    expect(commits).toEqual([200, 200, 101]);
  });
});

describe("what a batch may hold", () => {
  useTestClock();

  const large = (id: string) => row(id, { payload: { text: "x".repeat(200_000) } });

  it("claims: answers that no commit tells count, too: heartbeats that are held tell of their whole task", async () => {
    const run = await newTestRun();
    await accepted(run, creation(large("a")));
    const { token: lease_token } = await claimed(run);
    const beat: Command = {
      op: "transition_task",
      task_id: "a",
      action: "heartbeat",
      lease_token,
      strict: true,
    };
    const beats = (count: number) => batch(Array.from({ length: count }, () => beat));
    const tooMany = Math.ceil(MAX_BATCH_LENGTH / 200_000) + 1;
    expect(await refused(run, { command: beats(tooMany) })).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: "batch_length",
      command: expect.any(Number),
    });
    expect(done(await submit(run.client, { command: beats(10) })).outcomes).toHaveLength(10);
  });

  it("G1: batches that claim much do not hold more than claims until they are flushed", async () => {
    const run = await newTestRun();
    const [tasks, each] = [90, 9];
    for (let index = 0; index < tasks; index += each) {
      await accepted(run, creation(...Array.from({ length: each }, (_, at) => large(`${index + at}`))));
    }
    const commits = await commitsPerFlush(() =>
      inObject(run, async (object) => {
        const claims = Array.from({ length: tasks / each }, () => batch([{ ...CLAIM, max: each }]));
        const answers = await Promise.all(claims.map((command) => submit(object, { command })));
        for (const answer of answers) done(answer);
      }),
    );
    expect(commits.length).toBeGreaterThan(1);
    expect(commits.reduce((sum, count) => sum + count)).toBe(tasks);
  });
});

describe("a batch is done whole or not at all", () => {
  const clock = useTestClock();

  it.each(MANY.map((_, index) => index))(
    "claims: refused after %i commands, it has done nothing, and names the command",
    async (count) => {
      const run = await startedRun();
      const command = batch([...MANY.slice(0, count), complete("none"), ...MANY.slice(count)]);
      expect(await refused(run, { command, commandId: "key" })).toMatchObject({
        code: "TASK_NOT_FOUND",
        command: count,
      });
      // The key is free, and the caches are as they were.
      const { outcomes } = done(await submit(run.client, { command: batch(MANY), commandId: "key" }));
      expect(outcomes[1]).toMatchObject({ task: { id: "c" } });
      expect((await replayOf(run)).drift.mismatch).toBe(false);
    },
  );

  it("claims: what a refused batch requeued stays leased", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a")));
    await claimed(run, { lease_ms: 5_000 });
    clock.advance(5_000);
    await refused(run, { command: batch([CLAIM, complete("none")]) });
    expect((await wholeRun(run)).tasks[0]?.status).toBe("in_progress");
  });

  it("claims: a commit that is too large is the refusal of its command", async () => {
    const run = await newTestRun();
    const large = note("x".repeat(2_000_000));
    expect(await refused(run, { command: batch([note(), large]) })).toMatchObject({
      code: "LIMIT_EXCEEDED",
      command: 1,
    });
  });

  it("claims: so are commits that are too long together", async () => {
    const run = await newTestRun();
    const each = 200_000;
    const count = Math.ceil(MAX_BATCH_LENGTH / each) + 1;
    const command = batch(Array.from({ length: count }, () => note("x".repeat(each))));
    expect(await refused(run, { command })).toMatchObject({
      code: "LIMIT_EXCEEDED",
      limit_name: "batch_length",
      limit: MAX_BATCH_LENGTH,
    });
  });

  it("claims: a fault of storage undoes all of it, and nothing else", async () => {
    const run = await startedRun();
    const append = CommitTable.prototype.append;
    let calls = 0;
    vi.spyOn(CommitTable.prototype, "append").mockImplementation(function (this: CommitTable, ...args) {
      calls += 1;
      if (calls === 3) throw new Error("the disk said no");
      return append.apply(this, args);
    });
    const before = await everything(run);
    await inObject(run, async (object) => {
      const [failed, other] = await Promise.allSettled([
        submit(object, { command: batch(MANY), commandId: "key" }),
        submit(object, { command: note("other") }),
      ]);
      expect(failed.status).toBe("rejected");
      expect(other.status).toBe("fulfilled");
    });
    vi.restoreAllMocks();
    const after = await wholeRun(run);
    expect(after.tasks).toEqual((before as { run: typeof after }).run.tasks);
    expect((await eventsOf(run)).at(-1)).toMatchObject({ seq: 2, payload: "other" });
    expect((await replayOf(run)).drift.mismatch).toBe(false);
    done(await submit(run.client, { command: batch(MANY), commandId: "key" }));
  });

  it.each([
    ["no command", [], { code: "FIELD_INVALID" }],
    ["501 commands", Array.from({ length: 501 }, () => note()), { code: "LIMIT_EXCEEDED", limit: 500 }],
    [
      "more tasks than one request may create",
      Array.from({ length: 2 }, (_, half) =>
        creation(...Array.from({ length: 251 }, (_, index) => row(`${half}-${index}`))),
      ),
      { code: "LIMIT_EXCEEDED", limit_name: "tasks_per_batch", limit: MAX_TASKS_PER_BATCH },
    ],
    [
      "more claims than tasks may be created",
      [...Array.from({ length: 5 }, () => ({ ...CLAIM, max: 100 })), CLAIM],
      { code: "LIMIT_EXCEEDED", limit_name: "claims_per_batch", limit: MAX_TASKS_PER_BATCH, actual: 501 },
    ],
  ] as [string, Command[], object][])("claims: %s is refused", async (_title, commands, refusal) => {
    expect(await refused(await newTestRun(), { command: batch(commands) })).toMatchObject(refusal);
  });

  it("claims: an expected revision is that before the first command", async () => {
    const run = await startedRun();
    const { revision } = await overviewOf(run);
    const command = (expected_revision: number) => batch([note(), note()], { expected_revision });
    expect(await refused(run, { command: command(revision + 1) })).toMatchObject({
      code: "RUN_REVISION_MISMATCH",
      revision,
    });
    expect(done(await submit(run.client, { command: command(revision) })).revision).toBe(revision + 2);
    expect(await refused(run, { command: command(revision) })).toMatchObject({
      code: "RUN_REVISION_MISMATCH",
    });
  });
});

describe("a dry run", () => {
  useTestClock();

  it("claims: answers as the batch would, without tokens, and changes nothing", async () => {
    const run = await startedRun();
    const before = await everything(run);
    const dry = done(await submit(run.client, { command: batch(MANY, { dry_run: true }), commandId: "key" }));
    expect(await everything(run)).toEqual(before);
    await evict(run);
    expect(await everything(run)).toEqual(before);
    const real = done(await submit(run.client, { command: batch(MANY), commandId: "key" }));
    expect(dry.dry_run).toBe(true);
    expect(timeless(dry.outcomes)).toEqual(timeless(real.outcomes));
    expect(dry.revision).toBe(real.revision);
    expect(dry.outcomes[1]).toMatchObject({ task: { lease_token: "" }, lease: { token: "" } });
  });

  it("claims: is refused as the batch would be", async () => {
    const run = await startedRun();
    const command = batch([note(), complete("none")], { dry_run: true });
    expect(await refused(run, { command })).toMatchObject({ code: "TASK_NOT_FOUND", command: 1 });
  });
});

describe("a batch that is sent again", () => {
  const clock = useTestClock();
  const SUBMISSION: Submission = { command: batch(MANY), commandId: "key", fingerprint: "f" };

  /** The outcome at first, and after something has happened to the run. */
  async function repeated(run: TestRun, meanwhile: () => Promise<unknown>): Promise<[unknown, Answer]> {
    const first = done(await submit(run.client, SUBMISSION));
    clock.advance(1_000);
    await meanwhile();
    const before = await everything(run);
    const again = await submit(run.client, SUBMISSION);
    expect(await everything(run)).toEqual(before);
    return [first, again];
  }

  const cases: [string, (run: TestRun) => Promise<unknown>][] = [
    ["at once", async () => undefined],
    ["after other commands", (run) => accepted(run, note())],
    ["after a wake", evict],
    [
      "after it was sealed",
      async (run) => expect(await sealAll(run, { ...SMALL, keep: 0, commits: 2 })).toBe(10),
    ],
    ["after a part of it was sealed", (run) => sealAll(run, { ...SMALL, keep: 5 })],
  ];
  it.each(cases)(
    "claims: %s, the answer is the first one, with the same token",
    async (_title, meanwhile) => {
      const run = await startedRun();
      const [first, again] = await repeated(run, () => meanwhile(run));
      expect(again).toMatchObject({ ok: true, repeat: { same: true } });
      expect(done(again)).toEqual(first);
    },
  );

  it("claims: so it is where the run was brought from elsewhere, but for the tokens, which are another run's", async () => {
    const run = await startedRun();
    const first = done(await submit(run.client, SUBMISSION));
    const copy = objectOf();
    expect(await arrive(copy, await exported(run))).toMatchObject({ ok: true });
    const outcomes = first.outcomes.map((outcome) =>
      outcome.op === "claim_task" ? { ...outcome, lease: null } : outcome,
    );
    expect(timeless(done(await submit(copy.client, SUBMISSION)))).toEqual(timeless({ ...first, outcomes }));
  });

  it("claims: under another fingerprint, or as another command, the key is taken", async () => {
    const run = await startedRun();
    await submit(run.client, SUBMISSION);
    expect(await submit(run.client, { ...SUBMISSION, fingerprint: "g" })).toMatchObject({
      ok: true,
      repeat: { same: false },
    });
    expect(await submit(run.client, { ...SUBMISSION, command: note() })).toMatchObject({
      ok: true,
      outcome: null,
      repeat: { same: false },
    });
  });
});
