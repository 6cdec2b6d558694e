import { runDurableObjectAlarm } from "cloudflare:test";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { newHead } from "../../src/domain/head.ts";
import { MemoryRun } from "../../src/domain/memory.ts";
import { claimsOf } from "../../src/domain/outcome.ts";
import { segmentPrefix } from "../../src/identity/tenant.ts";
import type { LogRow } from "../../src/run/chain.ts";
import { submit } from "../../src/run/run-client.ts";
import { RunState } from "../../src/run/run-state.ts";
import { Sealer } from "../../src/run/sealer.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { commandOf, histories } from "./support/commands.ts";
import { bucket, bytesOf, keysOf, longRun, SMALL, sealAll, sealedSeq } from "./support/sealing.ts";
import {
  accepted,
  checkpointed,
  claimed,
  creation,
  eventually,
  evict,
  http,
  inObject,
  inStorage,
  newTestRun,
  note,
  overviewOf,
  PROPERTY_TIMEOUT_MS,
  replayOf,
  row,
  rowsOf,
  TENANT,
  type TestRun,
  useTestClock,
  wholeRun,
} from "./support/test-run.ts";

/** What every reader of the log says. */
async function readings(run: TestRun, seqs: readonly number[], counts: readonly number[]): Promise<unknown> {
  const context = `/context/runs/${run.id}`;
  const native = `/v1/runs/${run.id}`;
  const lists: unknown[] = [];
  for (const list of ["events", "blackboard/patches"]) {
    for (const seq of seqs) {
      lists.push(await http("GET", `${context}/${list}?since_seq=${seq}`));
      for (const count of counts) {
        lists.push(await http("GET", `${context}/${list}?since_seq=${seq}&tail=${count}`));
        lists.push(await http("GET", `${native}/${list}?since_seq=${seq}&limit=${count}`));
        lists.push(await http("GET", `${native}/${list}?since_seq=${seq}&tail=${count}`));
      }
    }
  }
  const streams: unknown[] = [];
  for (const afterSeq of seqs) {
    streams.push(await stretchesOf(run, afterSeq), await recordsOf(run, afterSeq, null));
    for (const count of counts) streams.push(await recordsOf(run, afterSeq, count));
  }
  const { rows } = await commitsAfter(run, 0);
  return { lists, streams, rows, replay: await replayOf(run, "?from_checkpoint=false") };
}

/** The log as followers read it, piece by piece. */
async function stretchesOf(run: TestRun, afterSeq: number): Promise<string> {
  const query = { afterSeq, uptoSeq: null, withPatches: true };
  const texts: string[] = [];
  for (let cursor = afterSeq; ; ) {
    const answer = await run.client.readStretch({ ...query, afterSeq: cursor });
    if (!answer.ok) throw new Error(answer.refusal.error);
    const [head = "", ...lines] = answer.value.split("\n");
    const upto = Number(head.split("\t")[2]);
    texts.push(...lines);
    if (upto === cursor) return texts.filter((line) => line !== "").join("\n");
    cursor = upto;
  }
}

/** Records as the backlog of a stream reads them. */
async function recordsOf(run: TestRun, afterSeq: number, tail: number | null): Promise<unknown[]> {
  const records: unknown[] = [];
  for (const column of ["event", "patch"] as const) {
    const query = { column, uptoSeq: Number.MAX_SAFE_INTEGER, maxLength: 2_000 };
    for (let cursor: number | null = afterSeq; cursor !== null; ) {
      const isFirst: boolean = cursor === afterSeq;
      const answer = await run.client.readRecords({
        ...query,
        afterSeq: cursor,
        tail: isFirst ? tail : null,
      });
      if (!answer.ok) throw new Error(answer.refusal.error);
      records.push(...answer.value.records);
      cursor = answer.value.nextAfterSeq;
    }
  }
  return records;
}

/** All commits after a seq as they are stored, read page by page; `between` runs between two pages. */
async function commitsAfter(
  run: TestRun,
  afterSeq: number,
  between: (pages: number) => Promise<unknown> = async () => undefined,
): Promise<{ rows: LogRow[]; pages: number }> {
  const rows: LogRow[] = [];
  for (let pages = 0; ; pages += 1) {
    const query = { afterSeq: rows.at(-1)?.seq ?? afterSeq, uptoSeq: Number.MAX_SAFE_INTEGER, maxLength: 1 };
    const answer = await run.client.readCommits(query);
    if (!answer.ok) throw new Error(answer.refusal.error);
    if (answer.value.rows.length === 0) return { rows, pages };
    rows.push(...answer.value.rows);
    await between(pages);
  }
}

/** Gives a run that has no commits so many; by itself, the alarm seals some of 55,000. */
async function lengthen(run: TestRun, commits = 55_000): Promise<void> {
  await accepted(run, note(null, "running"));
  await inObject(run, (object) => object.sweep());
  await inStorage(run, (sql) => {
    sql.exec(
      `WITH RECURSIVE more (seq) AS (SELECT 2 UNION ALL SELECT seq + 1 FROM more WHERE seq < ?)
       INSERT INTO commits (seq, event) SELECT more.seq, json_set(event, '$.seq', more.seq, '$.revision', more.seq + 1)
       FROM more, commits WHERE commits.seq = 1`,
      commits,
    );
    sql.exec(
      `UPDATE run SET head_seq = ?1, log_hash = NULL,
       head = json_set(head, '$.run.last_event_seq', ?1, '$.run.revision', ?1 + 1)`,
      commits,
    );
  });
  await evict(run);
}

describe("a log whose old commits are sealed", () => {
  const clock = useTestClock();

  it(
    "design: random histories read the same through every reader, before, during and after sealing, and after a wake",
    async () => {
      await fc.assert(
        fc.asyncProperty(
          histories({ maxSteps: 25, backwards: true }),
          fc.array(fc.nat(30), { minLength: 1, maxLength: 2 }),
          fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 2 }),
          fc.record({ keep: fc.nat(4), commits: fc.integer({ min: 1, max: 7 }), length: fc.constant(1e6) }),
          async (steps, seqs, counts, bounds) => {
            const run = await newTestRun();
            const { tasks: _tasks, ...header } = await wholeRun(run);
            const memory = new MemoryRun(newHead(header));
            const tokens = new Map<string, string>();
            let seq = 0;
            for (const step of steps) {
              if (step.do === "clock") clock.advance(step.ms);
              if (step.do === "wake") await sealAll(run, { ...bounds, keep: bounds.keep + 5 });
              if (step.do !== "submit") continue;
              const command = structuredClone(commandOf(step.plan, memory, tokens, Date.now()));
              const answer = await submit(run.client, {
                command,
                commandId: step.commandId,
                fingerprint: "f",
              });
              for (const { task, lease } of answer.ok ? claimsOf(answer.outcome) : []) {
                tokens.set(task.id, lease?.token ?? "");
              }
              const { rows } = await commitsAfter(run, seq);
              for (const { event, patch } of rows) {
                memory.apply({ event: JSON.parse(event), patch: patch === null ? null : JSON.parse(patch) });
              }
              seq += rows.length;
            }
            await inObject(run, (object) => object.sweep());
            const before = await readings(run, [0, ...seqs], counts);
            await inObject(run, (object) => object.seal(bounds));
            expect(await readings(run, [0, ...seqs], counts)).toEqual(before);
            await sealAll(run, bounds);
            expect(await readings(run, [0, ...seqs], counts)).toEqual(before);
            await evict(run);
            expect(await readings(run, [0, ...seqs], counts)).toEqual(before);
            expect(before).toMatchObject({ replay: { drift: { compared: true, mismatch: false } } });
          },
        ),
        { numRuns: 25, seed: 11 },
      );
    },
    4 * PROPERTY_TIMEOUT_MS,
  );

  it("design: the table keeps the newest commits, and each segment follows the one before", async () => {
    const run = await longRun(20);
    expect(await sealAll(run)).toBe(18);
    const left = await rowsOf<{ seq: number }>(run, "SELECT seq FROM commits ORDER BY seq");
    expect(left.map(({ seq }) => seq)).toEqual([19, 20]);
    const keys = await keysOf(run);
    expect(keys).toHaveLength(6);
    expect(await rowsOf(run, "SELECT * FROM sealing")).toEqual([]);
    await accepted(run, note(null, "running"));
    expect(await overviewOf(run)).toMatchObject({ last_event_seq: 21 });
  });

  it("design: the alarm seals 5,000 commits once there are so many past the 50,000 that stay", async () => {
    const run = await newTestRun();
    await lengthen(run);
    expect(await overviewOf(run)).toMatchObject({ last_event_seq: 55_000 });
    clock.advance(1_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await sealedSeq(run)).toBe(5_000);
    await accepted(run, note(null, "running"));
    clock.advance(1_000);
    await runDurableObjectAlarm(run.stub);
    expect(await sealedSeq(run)).toBe(5_000);
    const { events } = await http<{ events: { seq: number }[] }>(
      "GET",
      `/v1/runs/${run.id}/events?since_seq=4990&limit=20`,
    );
    expect(events.map(({ seq }) => seq)).toEqual(Array.from({ length: 20 }, (_, index) => 4_991 + index));
  });

  it("design: of an object whose storage fills up, a thousand commits at a time move until a thousand stay", async () => {
    const run = await newTestRun();
    await lengthen(run, 3_500);
    await inStorage(run, async (_sql, storage) => {
      const sealerAt = (databaseSize: number) => {
        const crowded = {
          sql: { databaseSize },
          sync: () => storage.sync(),
        } as unknown as DurableObjectStorage;
        const state = RunState.existing(new Sql(storage));
        return new Sealer(crowded, state, bucket(), segmentPrefix(TENANT, run.id));
      };
      expect(sealerAt(4e9).dueAtMs(0)).toBeNull();
      const sealer = sealerAt(5e9);
      for (let dueAtMs = sealer.dueAtMs(0); dueAtMs !== null; dueAtMs = sealer.dueAtMs(0)) {
        await sealer.sealDue(dueAtMs);
      }
    });
    expect(await sealedSeq(run)).toBe(2_000);
  });

  it("design: a run of which everything is sealed wakes, goes on and is chained", async () => {
    const run = await longRun(9);
    const { log_hash } = await overviewOf(run);
    expect(await sealAll(run, { ...SMALL, keep: 0 })).toBe(9);
    await evict(run);
    expect(await overviewOf(run)).toMatchObject({ last_event_seq: 9, log_hash });
    await accepted(run, note(null, "running"));
    const { rows } = await commitsAfter(run, 8);
    expect(rows.map(({ seq, prev_hash }) => [seq, seq === 10 ? prev_hash : null])).toEqual([
      [9, null],
      [10, log_hash],
    ]);
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });

  it("design: what the saved head does not know is not sealed", async () => {
    const run = await longRun(9);
    await inStorage(run, (sql) => sql.exec("UPDATE run SET head_seq = head_seq"));
    const saved = await rowsOf<{ head_seq: number }>(run, "SELECT head_seq FROM run");
    for (;;) {
      if ((await inObject(run, (object) => object.seal({ ...SMALL, keep: 0, commits: 1 }))) === null) break;
    }
    expect(await sealedSeq(run)).toBe(saved[0]?.head_seq);
  });

  it("design: a reader that goes on page by page while commits are sealed sees each once", async () => {
    const run = await longRun(20);
    await inObject(run, (object) => object.sweep());
    const { rows } = await commitsAfter(run, 0, (page) =>
      page % 2 === 0 ? inObject(run, (object) => object.seal(SMALL)) : Promise.resolve(),
    );
    expect(rows.map(({ seq }) => seq)).toEqual(Array.from({ length: 20 }, (_, index) => index + 1));
    expect(await sealedSeq(run)).toBe(18);
  });

  it("04§5 the repeat of a command whose commits are sealed is answered as at first", async () => {
    const run = await newTestRun();
    const command = creation(
      ...Array.from({ length: 5 }, (_, index) => row(`t${index}`, { command_id: `row-${index}` })),
    );
    const first = await submit(run.client, { command, commandId: "batch", fingerprint: "f" });
    const claim = { op: "claim_task", agent_id: "a", lease_ms: 300_000 } as const;
    const lease = await submit(run.client, { command: claim, commandId: "claim", fingerprint: "f" });
    for (let index = 0; index < 4; index += 1) await accepted(run, note(index, "running"));
    // The batch lies partly in a segment and partly in the table.
    expect(await sealAll(run, { ...SMALL, keep: 7 })).toBe(3);
    const again = await submit(run.client, { command, commandId: "batch", fingerprint: "f" });
    expect(again).toMatchObject({ ok: true, repeat: { same: true } });
    expect({ ...again, repeat: null, rows: null }).toEqual({ ...first, rows: null });
    expect(await sealAll(run)).toBe(6);
    const same = await submit(run.client, {
      command: claim,
      commandId: "claim",
      fingerprint: "f",
      echo: "run",
    });
    expect({ ...same, repeat: null, rows: null, echo: undefined }).toEqual({ ...lease, rows: null });
    expect(same).toMatchObject({ repeat: { same: true }, echo: expect.stringContaining(run.id) });
    // Another request, another kind of command, a checkpoint and a row of a batch: the id is known to all of them.
    expect(await submit(run.client, { command: claim, commandId: "claim", fingerprint: "g" })).toMatchObject({
      repeat: { same: false },
    });
    expect(await submit(run.client, { command, commandId: "claim", fingerprint: "f" })).toMatchObject({
      outcome: null,
      repeat: { same: false },
    });
    await http("POST", `/v1/runs/${run.id}/checkpoints`, {
      body: { reason: "r", command_id: "claim" },
      status: 422,
    });
    const known = creation(row("new", { command_id: "row-1" }), row("newer", { command_id: "row-9" }));
    expect(await accepted(run, known)).toMatchObject({ deduped: ["row-1"], tasks: [{ id: "newer" }] });
    const { rows } = await commitsAfter(run, 0);
    expect(rows).toHaveLength(11);
  });

  it("design: a short page of patches reads its part of a segment once, however far apart they lie", async () => {
    const run = await newTestRun();
    const fact = {
      op: "patch_blackboard",
      patch_op: "add_fact",
      payload: { id: "n", ts_ms: 1, text: "t" },
    } as const;
    for (let index = 0; index < 60; index += 1)
      await accepted(run, index % 20 === 19 ? fact : note(null, "running"));
    await sealAll(run, { ...SMALL, keep: 0, commits: 60 });
    const get = vi.spyOn(Object.getPrototypeOf(bucket()) as R2Bucket, "get");
    try {
      const path = `/v1/runs/${run.id}/blackboard/patches`;
      type Page = { patches: { seq: number }[]; next: string | null };
      const first = await http<Page>("GET", `${path}?limit=1`);
      expect(get.mock.calls.length).toBeLessThanOrEqual(1);
      const second = await http<Page>("GET", first.next ?? "");
      const third = await http<Page>("GET", second.next ?? "");
      expect([first, second, third].flatMap(({ patches }) => patches.map(({ seq }) => seq))).toEqual([
        20, 40, 60,
      ]);
      expect(third.next).toBeNull();
      expect(get.mock.calls.length).toBeLessThanOrEqual(3);
    } finally {
      get.mockRestore();
    }
  });

  it("design: a replay from a checkpoint in sealed history ends where the run is", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a"), row("b")));
    await claimed(run);
    await checkpointed(run);
    for (let index = 0; index < 9; index += 1) await accepted(run, note(index, "running"));
    await sealAll(run);
    expect(await replayOf(run)).toMatchObject({
      checkpoint_seq: 3,
      events_applied: 9,
      drift: { compared: true, mismatch: false },
    });
    expect(await replayOf(run, "?from_checkpoint=false&upto_seq=5")).toMatchObject({
      events_applied: 5,
      drift: { compared: false },
    });
  });
});

/** The moments at which a sealing can break off, in order. */
const MOMENTS = ["before the write", "in the write", "before the check", "in the transaction"] as const;

/** A bucket that fails at one of these moments, as if the object had stopped there. */
function brokenBucket(moment: (typeof MOMENTS)[number], bucket: R2Bucket): R2Bucket {
  const stop = () => Promise.reject(new Error("stopped"));
  return {
    delete: (keys: string) => bucket.delete(keys),
    put: async (key: string, bytes: Uint8Array, options: R2PutOptions) => {
      if (moment === "before the write") return stop();
      await bucket.put(key, bytes, options);
      return moment === "in the write" ? stop() : null;
    },
    head: (key: string) => (moment === "before the check" ? stop() : bucket.head(key)),
  } as unknown as R2Bucket;
}

/** When the object's alarm is set for; null when it is not. */
function alarmOf(run: TestRun): Promise<number | null> {
  return inStorage(run, (_sql, storage) => storage.getAlarm());
}

describe("sealing that breaks off", () => {
  const clock = useTestClock();

  it.each(MOMENTS)("design: %s: nothing is lost, nothing is double, no object stays", async (moment) => {
    const run = await longRun(20);
    await sealAll(run, { ...SMALL, keep: 14 });
    const before = await readings(run, [0, 4], [5]);
    await inStorage(run, async (_sql, storage) => {
      const state = RunState.open(new Sql(storage));
      if (state === null) throw new Error("there is no run");
      if (moment === "in the transaction") {
        storage.sql.exec(
          "CREATE TRIGGER stop BEFORE DELETE ON sealing BEGIN SELECT RAISE(FAIL, 'stopped'); END",
        );
      }
      const broken = brokenBucket(moment, bucket());
      const sealer = new Sealer(storage, state, broken, segmentPrefix(TENANT, run.id));
      await expect(sealer.seal(SMALL)).rejects.toThrow("stopped");
      storage.sql.exec("DROP TRIGGER IF EXISTS stop");
    });
    await evict(run);
    expect(await sealedSeq(run)).toBe(6);
    expect(await readings(run, [0, 4], [5])).toEqual(before);
    expect(await sealAll(run)).toBe(18);
    expect(await readings(run, [0, 4], [5])).toEqual(before);
    const segments = await rowsOf<{ doc: string }>(run, "SELECT doc FROM segments");
    const keys = segments.map(({ doc }) => (JSON.parse(doc) as { key: string }).key);
    expect((await keysOf(run)).sort()).toEqual(keys.sort());
  });

  it("design: a run that is wiped while the leftover of another attempt is deleted is not sealed", async () => {
    const run = await longRun(8);
    await inObject(run, (object) => object.sweep());
    await inStorage(run, async (sql, storage) => {
      sql.exec("INSERT INTO sealing VALUES (1, 'left')");
      const wiping = {
        delete: async () => sql.exec("DELETE FROM sealing"),
        put: () => Promise.reject(new Error("nothing is to be written")),
      } as unknown as R2Bucket;
      const sealer = new Sealer(storage, RunState.existing(new Sql(storage)), wiping, "x");
      expect(await sealer.seal(SMALL)).toBeNull();
    });
    expect(await rowsOf(run, "SELECT * FROM sealing")).toEqual([]);
  });

  it("design: a run is not gone before the segment that is on its way to R2 has arrived", async () => {
    const run = await longRun(8);
    await inObject(run, (object) => object.sweep());
    const put = Promise.withResolvers<never>();
    const isCalled = Promise.withResolvers<void>();
    const spy = vi.spyOn(Object.getPrototypeOf(bucket()) as R2Bucket, "put").mockImplementation(() => {
      isCalled.resolve();
      return put.promise;
    });
    try {
      await inObject(run, async (object) => {
        const sealing = object.seal(SMALL).catch(() => "not sealed");
        await isCalled.promise;
        const erasing = object.erase({ created_at_ms: null, expected_revision: null });
        expect(await Promise.race([erasing, scheduler.wait(100).then(() => "waiting")])).toBe("waiting");
        put.reject(new Error("the bucket is away"));
        expect(await Promise.all([sealing, erasing])).toEqual(["not sealed", { ok: true, value: null }]);
      });
    } finally {
      spy.mockRestore();
    }
  });

  it("design: a bucket that holds something else than was written does not get the commits", async () => {
    const run = await longRun(8);
    await inObject(run, (object) => object.sweep());
    await inStorage(run, async (_sql, storage) => {
      const state = RunState.open(new Sql(storage));
      if (state === null) throw new Error("there is no run");
      const faulty = {
        delete: (keys: string) => bucket().delete(keys),
        put: (key: string, bytes: Uint8Array) => bucket().put(key, bytes.slice(1)),
        head: (key: string) => bucket().head(key),
      } as unknown as R2Bucket;
      const sealer = new Sealer(storage, state, faulty, segmentPrefix(TENANT, run.id));
      await expect(sealer.seal(SMALL)).rejects.toThrow("does not hold");
    });
    expect(await rowsOf(run, "SELECT * FROM segments")).toEqual([]);
    expect(await rowsOf(run, "SELECT seq FROM commits")).toHaveLength(8);
  });

  it("design: a bucket that does not answer keeps the alarm neither from leases nor from firing again", async () => {
    const run = await newTestRun();
    await lengthen(run);
    await accepted(run, creation(row("a")));
    const { expiresAtMs } = await claimed(run, { lease_ms: 5_000 });
    const silent = vi.spyOn(console, "error").mockReturnValue(undefined);
    const answer = Promise.withResolvers<R2Object>();
    const put = vi.spyOn(Object.getPrototypeOf(bucket()) as R2Bucket, "put").mockReturnValue(answer.promise);
    try {
      clock.advance(1_000);
      expect(await runDurableObjectAlarm(run.stub)).toBe(true);
      expect(await alarmOf(run)).toBe(expiresAtMs);
      clock.advance(4_000);
      expect(await runDurableObjectAlarm(run.stub)).toBe(true);
      expect((await overviewOf(run)).task_counts).toMatchObject({ runnable: 1, in_progress: 0 });
      clock.advance(1_000);
      expect(await runDurableObjectAlarm(run.stub)).toBe(true);
      // Should the object die now, nothing else would have it sealed.
      expect(await alarmOf(run)).toBe(clock.nowMs() + 30_000);
      expect(put).toHaveBeenCalledTimes(1);
      clock.advance(30_000);
      expect(await runDurableObjectAlarm(run.stub)).toBe(true);
      expect(await alarmOf(run)).toBe(clock.nowMs() + 30_000);
      expect(put).toHaveBeenCalledTimes(1);
      answer.reject(new Error("the bucket is away"));
      await eventually(
        () => Promise.resolve(silent.mock.calls.length),
        (calls) => calls > 0,
        5_000,
      );
      clock.advance(30_000);
      expect(await runDurableObjectAlarm(run.stub)).toBe(true);
      expect(await alarmOf(run)).toBe(clock.nowMs() + 30_000);
    } finally {
      put.mockRestore();
      silent.mockRestore();
    }
    clock.advance(30_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await sealedSeq(run)).toBe(5_000);
    expect(await alarmOf(run)).toBeNull();
  });

  it("design: without a bucket nothing is sealed", async () => {
    const run = await longRun(8);
    const sealed = await inStorage(run, (_sql, storage) => {
      const state = RunState.open(new Sql(storage));
      if (state === null) throw new Error("there is no run");
      return new Sealer(storage, state, null, "x").seal({ ...SMALL, keep: 0, commits: 1 });
    });
    expect(sealed).toBeNull();
  });

  it("design: commits that are missing are not sealed over", async () => {
    const run = await longRun(9);
    await inObject(run, (object) => object.sweep());
    await inStorage(run, (sql) => sql.exec("DELETE FROM commits WHERE seq = 2"));
    await inObject(run, async (object) => {
      await expect(object.seal(SMALL)).rejects.toThrow("commit 2 is missing");
    });
  });

  it.each([
    ["between others", "seq = 10"],
    ["at the end", "seq >= 10"],
  ])("design: no reader passes over commits that are missing from the table, %s", async (_where, which) => {
    const run = await longRun(12);
    await sealAll(run);
    await inStorage(run, (sql) => sql.exec(`DELETE FROM commits WHERE ${which}`));
    for (const path of [
      `/context/runs/${run.id}/events?since_seq=8`,
      `/v1/runs/${run.id}/events?since_seq=8&limit=2`,
    ]) {
      expect(await http("GET", path, { status: 500 })).toMatchObject({ code: "LOG_DAMAGED", from_seq: 10 });
    }
    const query = { afterSeq: 9, uptoSeq: null, withPatches: true };
    expect(await run.client.readStretch(query)).toMatchObject({
      refusal: { code: "LOG_DAMAGED", from_seq: 10 },
    });
  });

  it.each([
    ["is missing", (key: string) => bucket().delete(key)],
    ["is cut off", async (key: string) => bucket().put(key, (await bytesOf(key)).slice(0, 40))],
    ["is empty", (key: string) => bucket().put(key, "")],
    ["has another byte", async (key: string) => bucket().put(key, (await bytesOf(key)).with(50, 65))],
  ])(
    "design: readers of a segment that %s get LOG_DAMAGED, others what they ask for",
    async (_how, damage) => {
      const run = await longRun(12);
      await sealAll(run);
      const [key = ""] = (await keysOf(run)).filter((name) => name.includes("/4-6-"));
      await damage(key);
      for (const path of [
        "events?since_seq=3",
        "events?since_seq=4&limit=1",
        "blackboard/patches?since_seq=3&limit=1",
      ]) {
        expect(await http("GET", `/v1/runs/${run.id}/${path}`, { status: 500 })).toMatchObject({
          code: "LOG_DAMAGED",
          from_seq: 4,
          upto_seq: 6,
        });
      }
      expect(
        await http("GET", `/context/runs/${run.id}/replay?from_checkpoint=false`, { status: 500 }),
      ).toMatchObject({
        code: "LOG_DAMAGED",
      });
      const { events } = await http<{ events: unknown[] }>("GET", `/v1/runs/${run.id}/events?since_seq=6`);
      expect(events).toHaveLength(6);
      const repeat = await submit(run.client, {
        command: note({ text: "fact 4 \u2028 \u{1F600}" }, "running"),
        commandId: "command-4",
        fingerprint: "f",
      });
      expect(repeat).toMatchObject({ ok: false, refusal: { code: "LOG_DAMAGED" } });
    },
  );
});
