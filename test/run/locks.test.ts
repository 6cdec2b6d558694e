import { runDurableObjectAlarm } from "cloudflare:test";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Command } from "../../src/domain/command.ts";
import { heldLocks, obstacleTo } from "../../src/domain/locks.ts";
import { overlap } from "../../src/domain/resource-glob.ts";
import { MAX_LOCK_NAMES_LENGTH, MAX_LOCKS } from "../../src/protocol/limits.ts";
import type { Lock, LockMode } from "../../src/protocol/lock.ts";
import { submit } from "../../src/run/run-client.ts";
import { RunState } from "../../src/run/run-state.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { arrive, exported } from "./support/moving.ts";
import {
  accepted,
  creation,
  digestsOf,
  eventsOf,
  everything,
  evict,
  http,
  inStorage,
  newTestRun,
  objectOf,
  PROPERTY_TIMEOUT_MS,
  replayOf,
  row,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

interface Given {
  lock_id: string;
  agent_id: string;
  fence: number;
  token: string;
  expires_at_ms: number;
  expires_in_ms: number;
  task_id?: string;
}

interface Told {
  code: string;
  conflicts: Record<string, unknown>[];
}

interface Claimed {
  task: { id: string; fence: number; task_rev: number } | null;
  lease: { token: string; expires_at_ms: number } | null;
  lock?: Given;
  reason: string | null;
  conflicts?: Record<string, unknown>[];
}

function post<T>({ id }: TestRun, path: string, body: unknown, status = 200, headers = {}): Promise<T> {
  return http<T>("POST", `/v1/runs/${id}${path}`, { body, status, headers });
}

function resource(name: string, mode: LockMode = "exclusive") {
  return { name, mode };
}

async function lock(run: TestRun, name: string, mode?: LockMode, fields = {}): Promise<Given> {
  const body = { agent_id: "ann", resources: [resource(name, mode)], ...fields };
  return (await post<{ lock: Given }>(run, "/locks", body, 201)).lock;
}

function refusedLock(run: TestRun, name: string, mode?: LockMode): Promise<Told> {
  return post(run, "/locks", { agent_id: "bob", resources: [resource(name, mode)] }, 409);
}

function claim(run: TestRun, locks: unknown[], fields = {}): Promise<Claimed> {
  return post(run, "/tasks/claim", { agent_id: "ann", locks, ...fields });
}

function move(run: TestRun, action: string, fields: object, task = "t"): Promise<unknown> {
  return post(run, `/tasks/${task}/transition`, { action, ...fields });
}

async function held({ id }: TestRun): Promise<Given[]> {
  return (await http<{ locks: Given[] }>("GET", `/v1/runs/${id}/locks`)).locks;
}

async function expectSound(run: TestRun): Promise<void> {
  const before = await held(run);
  expect((await replayOf(run)).drift.mismatch).toBe(false);
  await evict(run);
  expect(await held(run)).toEqual(before);
  const { replay_state_sha256, persisted_state_sha256 } = await digestsOf(run);
  expect(replay_state_sha256).toBe(persisted_state_sha256);
}

describe("a lock", () => {
  const clock = useTestClock();

  it("claims: is given with a fence, a token and an expiry, and shown to all without the token", async () => {
    const run = await newTestRun();
    const given = await lock(run, "db");
    expect(given).toEqual({
      lock_id: expect.stringMatching(/^lock-/),
      agent_id: "ann",
      fence: 1,
      resources: [resource("db")],
      token: expect.stringMatching(/^lease-/),
      expires_at_ms: clock.nowMs() + 30_000,
      expires_in_ms: 30_000,
    });
    const { token: _token, expires_in_ms: _in, ...shown } = given;
    expect(await held(run)).toEqual([shown]);
    expect(await http("GET", `/v1/runs/${run.id}/locks/${given.lock_id}`)).toEqual({ lock: shown });
    expect(JSON.stringify(await everything(run))).not.toContain(given.token);
    await expectSound(run);
  });

  it.each([
    ["exclusive", "exclusive", true],
    ["exclusive", "shared", true],
    ["shared", "exclusive", true],
    ["shared", "shared", false],
  ] as const)("claims: %s and %s on what overlaps: refused %s", async (first, second, isRefused) => {
    const run = await newTestRun();
    const given = await lock(run, "src/**", first);
    if (!isRefused) {
      expect((await lock(run, "src/a.ts", second)).fence).toBe(2);
      return;
    }
    const { code, conflicts } = await refusedLock(run, "src/a.ts", second);
    expect(code).toBe("LOCK_HELD");
    const { lock_id, agent_id, fence, expires_at_ms } = given;
    const resourceOf = { resource: "src/**", mode: first, wanted: "src/a.ts" };
    expect(conflicts).toEqual([{ lock_id, agent_id, fence, expires_at_ms, ...resourceOf }]);
    expect(await held(run)).toHaveLength(1);
  });

  it("claims: takes all of its resources or none", async () => {
    const run = await newTestRun();
    await lock(run, "b");
    const resources = [resource("a"), resource("b"), resource("c")];
    await post(run, "/locks", { agent_id: "bob", resources }, 409);
    await lock(run, "a");
    await lock(run, "c");
  });

  it("claims: ends when it is released; the next one of the resource has a greater fence", async () => {
    const run = await newTestRun();
    const first = await lock(run, "db");
    await refusedLock(run, "db");
    await post(run, `/locks/${first.lock_id}/release`, { lease_token: first.token });
    const second = await lock(run, "db");
    expect(second.fence).toBeGreaterThan(first.fence);
    const body = { lease_token: first.token };
    expect(await post(run, `/locks/${first.lock_id}/release`, body, 409)).toMatchObject({
      code: "LOCK_LOST",
      lock_id: first.lock_id,
      fence: null,
    });
    await expectSound(run);
  });

  it("claims: lasts as long as it is renewed, and is lost at the millisecond of its expiry", async () => {
    const run = await newTestRun();
    const { lock_id, token: lease_token, fence } = await lock(run, "db", "exclusive", { lease_ms: 10_000 });
    clock.advance(9_999);
    const renewed = await post<{ lock: Given }>(run, `/locks/${lock_id}/heartbeat`, {
      lease_token,
      lease_ms: 5_000,
    });
    expect(renewed.lock).toMatchObject({ fence, token: lease_token, expires_in_ms: 5_000 });
    clock.advance(4_999);
    await refusedLock(run, "db");
    clock.advance(1);
    expect(await held(run)).toEqual([]);
    const told = await post(run, `/locks/${lock_id}/heartbeat`, { lease_token }, 409);
    expect(told).toMatchObject({ code: "LOCK_LOST", agent_id: "ann", fence, expires_at_ms: clock.nowMs() });
    expect((await lock(run, "db")).fence).toBeGreaterThan(fence);
    await post(run, `/locks/${lock_id}/heartbeat`, { lease_token }, 409);
    await expectSound(run);
  });

  it("claims: is kept by nobody else's token", async () => {
    const run = await newTestRun();
    const { lock_id } = await lock(run, "db");
    const other = await lock(run, "other");
    for (const path of ["heartbeat", "release"]) {
      const body = { lease_token: other.token };
      expect(await post(run, `/locks/${lock_id}/${path}`, body, 409)).toMatchObject({ code: "LOCK_LOST" });
    }
    expect(await held(run)).toHaveLength(2);
  });

  it("claims: is swept by the alarm when it has run out, and the log tells of it", async () => {
    const run = await newTestRun();
    const { lock_id } = await lock(run, "db");
    const other = await lock(run, "other", "exclusive", { lease_ms: 60_000 });
    clock.advance(30_000);
    await runDurableObjectAlarm(run.stub);
    expect((await eventsOf(run)).at(-1)).toMatchObject({
      type: "context.lock.released",
      payload: { lock_ids: [lock_id], reason: "expired" },
    });
    expect((await held(run)).map((each) => each.lock_id)).toEqual([other.lock_id]);
    await expectSound(run);
  });

  it("claims: a repeat gets the same token, and is no second lock", async () => {
    const run = await newTestRun();
    const body = { agent_id: "ann", resources: [resource("db")] };
    const send = () => post<{ lock: Given }>(run, "/locks", body, 201, { "idempotency-key": "k" });
    const first = await send();
    clock.advance(1_000);
    await evict(run);
    expect(await send()).toEqual(first);
    const { lock_id, token: lease_token } = first.lock;
    const renew = () =>
      post(run, `/locks/${lock_id}/heartbeat`, { lease_token }, 200, { "idempotency-key": "r" });
    const renewed = await renew();
    clock.advance(1_000);
    expect(await renew()).toEqual(renewed);
    const release = () =>
      post(run, `/locks/${lock_id}/release`, { lease_token }, 200, { "idempotency-key": "x" });
    expect(await release()).toEqual(await release());
    expect((await eventsOf(run)).map(({ type }) => type)).toEqual([
      "context.lock.acquired",
      "context.lock.renewed",
      "context.lock.released",
    ]);
  });

  it("claims: does not change the run's status, also when the run is over", async () => {
    const run = await newTestRun();
    await post(run, "/events", { type: "note", status: "completed" }, 201);
    clock.advance(1);
    const before = await wholeRun(run);
    await lock(run, "db");
    const { revision, last_event_seq, updated_at_ms } = await wholeRun(run);
    expect(await wholeRun(run)).toEqual({ ...before, revision, last_event_seq, updated_at_ms });
  });

  it("claims: comes along with an export, and not into a fork", async () => {
    const run = await newTestRun();
    const { lock_id, token: lease_token } = await lock(run, "db");
    const copy = objectOf();
    expect(await arrive(copy, await exported(run))).toMatchObject({ ok: true });
    expect(await held(copy)).toEqual(await held(run));
    await post(copy, `/locks/${lock_id}/release`, { lease_token });
    const fork = await post<{ run: { run_id: string } }>(run, "/fork", {}, 201);
    expect(await held({ ...run, id: fork.run.run_id })).toEqual([]);
  });

  it.each([
    ["no resources", { agent_id: "a", resources: [] }, 400],
    ["a blank agent", { agent_id: " ", resources: [resource("r")] }, 400],
    ["a name that is none", { agent_id: "a", resources: [resource("a/../b")] }, 422],
    ["an unknown mode", { agent_id: "a", resources: [{ name: "r", mode: "mine" }] }, 422],
    ["too many", { agent_id: "a", resources: Array.from({ length: 21 }, (_, i) => resource(`r${i}`)) }, 413],
  ])("claims: %s is refused", async (_title, body, status) => {
    const run = await newTestRun();
    await post(run, "/locks", body, status);
    expect(await eventsOf(run)).toEqual([]);
  });

  it("claims: names are compared as they are read, however their letters are composed", async () => {
    const run = await newTestRun();
    await lock(run, "caf\u00e9");
    await refusedLock(run, "cafe\u0301");
  });

  it("budget: taking, renewing and releasing one write a row each", async () => {
    const run = await newTestRun();
    const rows = async (command: Command) => {
      const answer = await submit(run.client, { command });
      expect(answer.ok).toBe(true);
      return { written: answer.rows.written, outcome: answer.ok ? answer.outcome : null };
    };
    const { written, outcome } = await rows({
      op: "acquire_lock",
      agent_id: "a",
      resources: [resource("r")],
    });
    if (outcome?.op !== "acquire_lock") throw new Error("no lock");
    const proof = { lock_id: outcome.lock.lock_id, lease_token: outcome.token ?? "" };
    const renewed = await rows({ op: "heartbeat_lock", ...proof });
    const released = await rows({ op: "release_lock", ...proof });
    expect([written, renewed.written, released.written]).toEqual([1, 1, 1]);
  });
});

describe("a write under a lock", () => {
  const clock = useTestClock();
  const NOTE = { type: "note", status: "running" };

  const writes: [string, string, object, number][] = [
    ["an event", "/events", NOTE, 201],
    ["a patch", "/blackboard/patches", { op: "set_rolling_summary", payload: "x" }, 201],
    ["tasks", "/tasks", { tasks: [{ task_type: "t" }] }, 201],
    ["todos", "/todos/sync", { todos: [] }, 200],
    ["an artifact", "/artifacts", { artifact_type: "t", content: 1, path: "p" }, 201],
  ];
  it.each(writes)(
    "claims: %s tells of the lock while that is out, and is refused afterwards",
    async (_title, path, body, status) => {
      const run = await newTestRun();
      const { lock_id, token: lease_token, fence } = await lock(run, "db");
      await post(run, path, { ...body, lock_id, lease_token }, status);
      const events = await eventsOf(run);
      expect(events.at(-1)).toMatchObject({ under: { lock_id, agent_id: "ann", fence } });
      clock.advance(30_000);
      const late = await post(run, path, { ...body, lock_id, lease_token }, 409);
      expect(late).toMatchObject({ code: "LOCK_LOST", lock_id, fence });
      expect(await eventsOf(run)).toEqual(events);
    },
  );

  it("claims: names one lease, with its token", async () => {
    const run = await newTestRun();
    const { lock_id, token: lease_token } = await lock(run, "db");
    await post(run, "/events", { ...NOTE, lock_id, lease_token, task_id: "t" }, 400);
    await post(run, "/events", { ...NOTE, lock_id }, 400);
    expect(await post(run, "/events", { ...NOTE, lock_id: "none", lease_token }, 409)).toMatchObject({
      code: "LOCK_LOST",
      agent_id: null,
    });
  });
});

describe("a claim with locks", () => {
  const clock = useTestClock();

  async function ready(): Promise<TestRun> {
    const run = await newTestRun();
    await accepted(run, creation(row("t"), row("u", { priority: -1 })));
    return run;
  }

  it("claims: takes task and resources in one commit, under one lease", async () => {
    const run = await ready();
    const { task, lease, lock: taken } = await claim(run, [resource("src/**")]);
    expect(taken).toEqual({
      lock_id: expect.stringMatching(/^lock-/),
      agent_id: "ann",
      fence: task?.fence,
      resources: [resource("src/**")],
      task_id: "t",
      expires_at_ms: lease?.expires_at_ms,
    });
    expect(await eventsOf(run, 2)).toHaveLength(1);
    const { conflicts } = await refusedLock(run, "src/a");
    expect(conflicts).toMatchObject([{ task_id: "t", agent_id: "ann", fence: task?.fence }]);
    await expectSound(run);
  });

  it("claims: takes nothing where its resources are locked, and says by whom", async () => {
    const run = await ready();
    const { lock_id } = await lock(run, "db");
    const before = await everything(run);
    const answer = await claim(run, [resource("db", "shared")]);
    expect(answer).toMatchObject({ task: null, lease: null, reason: "locks_held", conflicts: [{ lock_id }] });
    expect(await everything(run)).toEqual(before);
    expect((await claim(run, [])).task?.id).toBe("t");
  });

  it("claims: the heartbeats of the task renew the lock, and its own routes do not", async () => {
    const run = await ready();
    const { lease, lock: taken } = await claim(run, [resource("db")]);
    clock.advance(20_000);
    await move(run, "heartbeat", { lease_token: lease?.token });
    clock.advance(20_000);
    expect(await held(run)).toMatchObject([
      { lock_id: taken?.lock_id, expires_at_ms: clock.nowMs() + 10_000 },
    ]);
    await refusedLock(run, "db");
    await post(run, `/locks/${taken?.lock_id}/heartbeat`, { lease_token: lease?.token }, 400);
    await expectSound(run);
  });

  const ends: [string, (run: TestRun, lease_token: string | undefined) => Promise<unknown>][] = [
    ["complete", (run, lease_token) => move(run, "complete", { lease_token })],
    ["fail", (run, lease_token) => move(run, "fail", { lease_token })],
    ["release", (run, lease_token) => move(run, "release", { lease_token })],
    ["the lease's expiry", async () => clock.advance(30_000)],
    [
      "a requeue",
      async (run) => {
        clock.advance(30_000);
        await runDurableObjectAlarm(run.stub);
      },
    ],
    [
      "the lock's own release",
      async (run, lease_token) => {
        const [only] = await held(run);
        await post(run, `/locks/${only?.lock_id}/release`, { lease_token });
      },
    ],
    [
      "a PUT that puts the task back on the board, and leaves it the members of its lease",
      async (run) => {
        const { tasks, ...whole } = await wholeRun(run);
        const body = { ...whole, tasks: tasks.map((task) => ({ ...task, status: "runnable" })) };
        await http("PUT", `/context/runs/${run.id}`, { body });
      },
    ],
    [
      "a PUT that says that the task is done",
      async (run) => {
        const { tasks, ...whole } = await wholeRun(run);
        const body = { ...whole, tasks: tasks.map((task) => ({ ...task, status: "done" })) };
        await http("PUT", `/v1/runs/${run.id}`, { body });
      },
    ],
    [
      "a PUT without the task",
      async (run) => {
        const body = { ...(await wholeRun(run)), tasks: [] };
        await http("PUT", `/context/runs/${run.id}`, { body });
      },
    ],
  ];
  it.each(ends)("claims: the lock ends by %s", async (_title, end) => {
    const run = await ready();
    const { lease } = await claim(run, [resource("db")]);
    await refusedLock(run, "db");
    await end(run, lease?.token);
    expect(await held(run)).toEqual([]);
    await lock(run, "db");
    await expectSound(run);
  });

  it("claims: a PUT that leaves the task as it is leaves the lock", async () => {
    const run = await ready();
    await claim(run, [resource("db")]);
    const before = await held(run);
    await http("PUT", `/context/runs/${run.id}`, { body: await wholeRun(run) });
    expect(await held(run)).toEqual(before);
    await expectSound(run);
  });

  it("K1: a lease that comes back to life by the contract's rules does not bring its lock back", async () => {
    const run = await ready();
    const { lease } = await claim(run, [resource("db")]);
    clock.advance(30_001);
    const other = await lock(run, "db");
    const body = { action: "heartbeat", lease_token: lease?.token };
    await http("POST", `/context/runs/${run.id}/tasks/t/transition`, { body });
    expect((await held(run)).map(({ lock_id }) => lock_id)).toEqual([other.lock_id]);
    await expectSound(run);
  });

  it("claims: a write may name such a lock by the token of the task's lease", async () => {
    const run = await ready();
    const { lease, lock: taken } = await claim(run, [resource("db")]);
    const body = { type: "n", status: "running", lock_id: taken?.lock_id, lease_token: lease?.token };
    await post(run, "/events", body, 201);
    await move(run, "complete", { lease_token: lease?.token });
    await post(run, "/events", body, 409);
  });

  it("claims: a repeat is answered as at first, with the lock", async () => {
    const run = await ready();
    const body = { agent_id: "ann", locks: [resource("db")] };
    const send = () => post(run, "/tasks/claim", body, 200, { "idempotency-key": "k" });
    const first = await send();
    await evict(run);
    expect(await send()).toEqual(first);
  });

  it("claims: is for one task", async () => {
    await post(await ready(), "/tasks/claim", { agent_id: "a", max: 2, locks: [resource("r")] }, 400);
  });

  it("budget: it writes what a claim writes", async () => {
    const run = await ready();
    const { rows } = await submit(run.client, {
      command: { op: "claim_task", agent_id: "a", locks: [resource("r")] },
    });
    expect(rows.written).toBeLessThanOrEqual(5);
  });
});

describe("locks in a batch", () => {
  useTestClock();

  it("claims: are taken, renewed and released with the rest, or not at all", async () => {
    const run = await newTestRun();
    const acquire = (name: string) => ({ op: "acquire_lock", agent_id: "ann", resources: [resource(name)] });
    const note = { op: "append_event", type: "n", status: "running" };
    const told = await post(run, "/commands", { commands: [acquire("a"), note, acquire("a")] }, 409);
    expect(told).toMatchObject({ code: "LOCK_HELD", command: 2 });
    expect(await held(run)).toEqual([]);
    const { results } = await post<{ results: { lock: Given }[] }>(run, "/commands", {
      commands: [acquire("a"), acquire("b")],
    });
    const [a, b] = results.map(({ lock: each }) => ({ lock_id: each.lock_id, lease_token: each.token }));
    await post(run, "/commands", {
      commands: [
        { op: "heartbeat_lock", ...a },
        { op: "release_lock", ...b },
        { ...note, ...a },
      ],
    });
    expect((await held(run)).map(({ lock_id }) => lock_id)).toEqual([a?.lock_id]);
  });
});

describe("the bounds of locks", () => {
  it("claims: what the commands of a batch compare is bounded for all of them together", async () => {
    const run = await newTestRun();
    const awkward = (end: string) => `${"*a".repeat(199)}${end}`;
    await lock(run, awkward("x"));
    const commands = Array.from({ length: 50 }, (_, index) => ({
      op: "acquire_lock",
      agent_id: "bob",
      resources: [resource(awkward(`${index % 10}`), "shared")],
    }));
    await post(run, "/commands", { commands: commands.slice(0, 5) });
    const told = await post(run, "/commands", { commands }, 413);
    expect(told).toMatchObject({ code: "LIMIT_EXCEEDED", limit_name: "lock_comparisons" });
  });

  const NOW = 1_000;
  const lockOf = (index: number, names: string[]): Lock => ({
    lock_id: `l${index}`,
    agent_id: "a",
    fence: index,
    resources: names.map((name) => resource(name)),
    expires_at_ms: NOW + 1,
  });

  it.each([
    ["too many", Array.from({ length: MAX_LOCKS }, (_, index) => lockOf(index, [`r${index}`])), "locks"],
    [
      "names that are too long together",
      Array.from({ length: Math.ceil(MAX_LOCK_NAMES_LENGTH / 400) }, (_, index) =>
        lockOf(index, [`${index}`.padEnd(400, "x")]),
      ),
      "lock_names_length",
    ],
    [
      "too much to compare",
      Array.from({ length: 300 }, (_, index) => lockOf(index, [`${"*a".repeat(190)}${index}`])),
      "lock_comparisons",
    ],
  ])("claims: %s are refused", (_title, locks, limit_name) => {
    const wanted = [resource(limit_name === "lock_comparisons" ? `${"*b".repeat(190)}c` : "z")];
    expect(obstacleTo(wanted, locks, NOW).refusal).toMatchObject({ code: "LIMIT_EXCEEDED", limit_name });
    expect(obstacleTo(wanted, locks, NOW + 1)).toEqual({ conflicts: [], refusal: null });
  });
});

describe("whatever happens", () => {
  const clock = useTestClock();
  const NAMES = ["a", "b", "a/x", "a/*", "**/x", "b/**", "?"];
  const step = fc.oneof(
    fc.record({ do: fc.constant("lock" as const), name: fc.constantFrom(...NAMES), shared: fc.boolean() }),
    fc.record({ do: fc.constant("claim" as const), name: fc.constantFrom(...NAMES), shared: fc.boolean() }),
    fc.record({ do: fc.constantFrom("heartbeat" as const, "release" as const), which: fc.nat(10) }),
    fc.record({
      do: fc.constant("move" as const),
      which: fc.nat(3),
      action: fc.constantFrom("heartbeat", "complete", "release", "fail", "status"),
      strict: fc.boolean(),
    }),
    fc.record({ do: fc.constant("clock" as const), ms: fc.constantFrom(1, 2_500, 5_000, 6_000) }),
    fc.record({ do: fc.constantFrom("wake" as const, "requeue" as const) }),
  );

  it(
    "claims: no two locks that are out have what overlaps, unless both share it; and the log tells the same",
    async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60 }), async (steps) => {
          const run = await newTestRun();
          await accepted(
            run,
            creation(...["t0", "t1", "t2", "t3"].map((id) => row(id, { max_attempts: 9 }))),
          );
          const proofs: { lock_id: string; lease_token: string }[] = [];
          const tokens = new Map<string, string>();
          for (const each of steps) {
            if (each.do === "clock") clock.advance(each.ms);
            else if (each.do === "wake") await evict(run);
            else {
              const command = commandOf(each, proofs, tokens);
              if (command === null) continue;
              const answer = await submit(run.client, { command });
              if (!answer.ok) continue;
              const { outcome } = answer;
              if (outcome?.op === "acquire_lock") {
                proofs.push({ lock_id: outcome.lock.lock_id, lease_token: outcome.token ?? "" });
              }
              if (outcome?.op === "claim_task" && outcome.task !== null) {
                tokens.set(outcome.task.id, outcome.lease?.token ?? "");
              }
            }
            const locks = await inStorage(run, (_sql, storage) => {
              const state = RunState.existing(new Sql(storage));
              return heldLocks(state.head().locks, Date.now());
            });
            expectApart(locks);
          }
          await expectSound(run);
        }),
        { numRuns: 25 },
      );
    },
    4 * PROPERTY_TIMEOUT_MS,
  );

  type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

  function commandOf(
    each: Exclude<Step, { do: "clock" }>,
    proofs: { lock_id: string; lease_token: string }[],
    tokens: Map<string, string>,
  ): Command | null {
    switch (each.do) {
      case "lock":
      case "claim": {
        const resources = [resource(each.name, each.shared ? "shared" : "exclusive")];
        if (each.do === "lock") return { op: "acquire_lock", agent_id: "a", resources, lease_ms: 5_000 };
        return { op: "claim_task", agent_id: "a", locks: resources, lease_ms: 5_000, strict: true };
      }
      case "heartbeat":
      case "release": {
        const proof = proofs[each.which % Math.max(1, proofs.length)];
        return proof === undefined ? null : { op: `${each.do}_lock`, ...proof };
      }
      case "move": {
        const task_id = `t${each.which}`;
        const rest = { status: "blocked" as const, lease_token: tokens.get(task_id), lease_ms: 5_000 };
        const command = { op: "transition_task" as const, task_id, action: each.action, ...rest };
        return each.strict ? { ...command, strict: true } : command;
      }
      case "requeue":
        return { op: "requeue_stale" };
      case "wake":
        return null;
    }
  }

  function expectApart(locks: readonly Lock[]): void {
    for (const [index, one] of locks.entries()) {
      for (const other of locks.slice(index + 1)) {
        for (const a of one.resources) {
          for (const b of other.resources) {
            const isShared = a.mode === "shared" && b.mode === "shared";
            expect(isShared || !overlap(a.name, b.name, { left: 1_000_000 }), `${a.name} ${b.name}`).toBe(
              true,
            );
          }
        }
      }
    }
  }
});
