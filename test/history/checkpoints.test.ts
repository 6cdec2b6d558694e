import { runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it, vi } from "vitest";
import type { Checkpoint, CheckpointHead } from "../../src/protocol/checkpoint.ts";
import { MAX_WAITING_CHECKPOINTS } from "../../src/protocol/limits.ts";
import { CheckpointKeeper } from "../../src/run/checkpoint-keeper.ts";
import { stateDigest } from "../../src/run/state-digest.ts";
import {
  accepted,
  checkpointed,
  creation,
  digestsOf,
  eventually,
  everything,
  evict,
  http,
  inStorage,
  newTestRun,
  note,
  overviewOf,
  replayOf,
  row,
  rowsOf,
  type TestRun,
  useTestClock,
  wholeBlackboard,
  wholeRun,
} from "../run/support/test-run.ts";
import { BUCKET, checkpointIn, headsOf, objectsOf, oldCheckpoint, v1, withKeeper } from "./support.ts";

const SHA256 = /^[0-9a-f]{64}$/;

/** A run with some of everything, at seq 4. */
async function smallRun(): Promise<TestRun> {
  const run = await newTestRun();
  await accepted(run, creation(row("a", { payload: { text: 'x"\n{"task":' } }), row("b")));
  const payload = { id: "n", ts_ms: 1, text: "t" };
  await accepted(run, { op: "patch_blackboard", patch_op: "add_decision", payload });
  await accepted(run, { op: "patch_blackboard", patch_op: "set_rolling_summary", payload: "so far" });
  return run;
}

/** What `/context` shows as the latest checkpoint. */
async function latest({ id }: TestRun): Promise<Checkpoint | null> {
  const path = `/context/runs/${id}/checkpoints/latest`;
  return (await http<{ checkpoint: Checkpoint | null }>("GET", path)).checkpoint;
}

/** The contract's members and no others, with this very state. */
async function expectContent(run: TestRun, checkpoint: Checkpoint | null): Promise<void> {
  const { run_state, blackboard, ...head } = checkpoint ?? ({} as Checkpoint);
  expect(Object.keys(head).sort()).toEqual(["checkpoint_id", "reason", "run_id", "seq", "ts_ms"]);
  expect(run_state).toEqual(await wholeRun(run));
  expect(blackboard).toEqual(await wholeBlackboard(run));
}

/** A bucket of which some methods are others. */
function bucketWith(methods: Partial<Record<"put" | "delete", (key: string) => Promise<unknown>>>): R2Bucket {
  return new Proxy(BUCKET, {
    get(target, name: keyof R2Bucket) {
      const own = (methods as Record<string, unknown>)[name];
      if (own !== undefined) return own;
      const value = target[name];
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

describe("the content of checkpoints", () => {
  const clock = useTestClock();

  it("06§1 answers on /context have the contract's members only, wherever the content lies", async () => {
    const run = await smallRun();
    await expectContent(run, await checkpointed(run));
    for (const place of ["rows", "r2", "old"] as const) {
      await accepted(run, note());
      await checkpointIn(run, place);
      await expectContent(run, await latest(run));
      await evict(run);
      await expectContent(run, await latest(run));
      expect((await replayOf(run)).drift.mismatch).toBe(false);
    }
  });

  it("of an empty run is the run as it was created", async () => {
    const run = await newTestRun();
    await checkpointIn(run, "r2");
    await expectContent(run, await latest(run));
  });

  it("is the very text that its digest tells, with the log's hash beside it", async () => {
    const run = await smallRun();
    await checkpointIn(run, "r2");
    const [head] = await headsOf(run);
    const [key = ""] = await objectsOf(run);
    const text = await (await BUCKET.get(key))?.text();
    expect(stateDigest((text ?? "").split("\n").slice(0, -1))).toBe(head?.state_sha256);
    expect(await rowsOf(run, "SELECT * FROM checkpoint_parts")).toEqual([]);
    expect((await v1<{ state_sha256: string }>(run, "GET", "/state?at_seq=4")).body.state_sha256).toBe(
      head?.state_sha256,
    );
    expect(head?.log_hash).toMatch(SHA256);
    expect(key).toMatch(new RegExp(`^checkpoints/local/local/${run.id}/4-[0-9a-f-]{36}$`));
  });

  it("goes to R2 when it is long, and stays here when it is not", async () => {
    const run = await newTestRun();
    await checkpointed(run);
    expect(await objectsOf(run)).toEqual([]);
    // Pairs of surrogates, so that a part may end in the middle of one.
    const text = "x\u{1F680}ü".repeat(25_000);
    for (let batch = 0; batch < 4; batch += 1) {
      const rows = Array.from({ length: 6 }, (_, index) => row(`t${batch}-${index}`, { payload: { text } }));
      await accepted(run, creation(...rows));
    }
    expect(JSON.stringify(await wholeRun(run)).length).toBeGreaterThan(2_000_000);
    await expectContent(run, await checkpointed(run));
    expect(await objectsOf(run)).toHaveLength(1);
    expect(await rowsOf(run, "SELECT seq FROM checkpoint_parts")).toEqual([{ seq: 0 }]);
    await evict(run);
    await expectContent(run, await latest(run));
    await accepted(run, note(null, "queued"));
    expect(await replayOf(run)).toMatchObject({
      checkpoint_seq: 24,
      events_applied: 1,
      drift: { mismatch: false, compared: true },
    });
  });

  it("lies in parts, each below the platform's bound, where there is no bucket", async () => {
    const run = await newTestRun();
    const text = "x\u{1F680}ü".repeat(25_000);
    for (let batch = 0; batch < 16; batch += 1) {
      const rows = Array.from({ length: 3 }, (_, index) => row(`t${batch}-${index}`, { payload: { text } }));
      await accepted(run, creation(...rows));
    }
    await withKeeper(run, { storedBytes: 0 }, null, ({ keeper }) => keeper.create({ reason: "r" }, null));
    expect(await objectsOf(run)).toEqual([]);
    const parts = await rowsOf<{ bytes: number }>(
      run,
      "SELECT length(CAST(text AS BLOB)) AS bytes FROM checkpoint_parts",
    );
    // More than are written in one turn.
    expect(parts.length).toBeGreaterThan(8);
    expect(Math.max(...parts.map((part) => part.bytes))).toBeLessThan(2_000_000);
    await expectContent(run, await latest(run));
    expect((await replayOf(run)).drift).toMatchObject({ mismatch: false, compared: true });
  });

  it("is of one moment: what is committed while it travels is not in it", async () => {
    const run = await smallRun();
    const before = { run_state: await wholeRun(run), blackboard: await wholeBlackboard(run) };
    const made = await withKeeper(run, {}, null, ({ state, sql, storage, object }) => {
      const slow = bucketWith({
        put: async (...args: unknown[]) => {
          await object.submit({ command: note() });
          await object.submit({ command: creation(row("later")) });
          return (BUCKET.put as (...all: unknown[]) => Promise<unknown>).apply(BUCKET, args);
        },
      });
      const bounds = { storedBytes: 0, interval: 9 };
      return new CheckpointKeeper(sql, storage, state, slow, bounds).create({ reason: "r" }, null);
    });
    expect(made).toMatchObject({ ok: true, value: { head: { seq: 4 } } });
    const checkpoint = await latest(run);
    expect(checkpoint).toMatchObject({ seq: 4, ...before });
    expect(await replayOf(run)).toMatchObject({ checkpoint_seq: 4, drift: { mismatch: false } });
  });

  it("waits with so many others at most; the next is refused before anything is done, and may come again", async () => {
    const run = await smallRun();
    const atOnce = MAX_WAITING_CHECKPOINTS + 10;
    const answers = await withKeeper(run, {}, null, ({ keeper }) =>
      Promise.all(Array.from({ length: atOnce }, (_, n) => keeper.create({ reason: `r${n}` }, null))),
    );
    const refused = answers.filter((answer) => !answer.ok);
    expect(refused).toHaveLength(9);
    for (const answer of refused) expect(answer).toMatchObject({ refusal: { code: "OVERLOADED" } });
    const again = await withKeeper(run, {}, null, ({ keeper }) => keeper.create({ reason: "again" }, null));
    expect(again.ok).toBe(true);
  });

  it("that could not be stored leaves nothing that is named", async () => {
    const run = await smallRun();
    const broken = bucketWith({ put: () => Promise.reject(new Error("no bucket today")) });
    const made = withKeeper(run, { storedBytes: 0 }, broken, ({ keeper }) =>
      keeper.create({ reason: "r", name: "n" }, { commandId: "k", fingerprint: "f" }).then(
        () => "made",
        (error: unknown) => String(error),
      ),
    );
    expect(await made).toContain("no bucket today");
    expect(await latest(run)).toBeNull();
    expect(await rowsOf(run, "SELECT * FROM checkpoint_names")).toEqual([]);
    expect(await rowsOf(run, "SELECT * FROM checkpoint_commands")).toEqual([]);
    expect((await v1(run, "POST", "/checkpoints", { reason: "r", name: "n", command_id: "k" })).status).toBe(
      201,
    );
  });

  it("does not stay behind when the run was deleted while it travelled", async () => {
    const run = await smallRun();
    const made = withKeeper(run, {}, null, ({ state, sql, storage }) => {
      const late = bucketWith({
        put: async (...args: unknown[]) => {
          await (BUCKET.put as (...all: unknown[]) => Promise<unknown>).apply(BUCKET, args);
          sql.run("DROP TABLE checkpoints");
        },
      });
      const keeper = new CheckpointKeeper(sql, storage, state, late, { storedBytes: 0, interval: 9 });
      return keeper.create({ reason: "r" }, null).then(
        () => "made",
        (error: unknown) => String(error),
      );
    });
    expect(await made).toContain("no such table");
    expect(await objectsOf(run)).toEqual([]);
  });

  it("is kept by a second checkpoint at its seq, which takes the place of the first", async () => {
    const run = await smallRun();
    await checkpointIn(run, "r2");
    const objects = await objectsOf(run);
    const second = await checkpointed(run, "second");
    await expectContent(run, second);
    expect(await latest(run)).toEqual(second);
    expect(await objectsOf(run)).toEqual(objects);
    expect(await headsOf(run)).toMatchObject([{ reason: "second", seq: 4 }]);
  });

  it("that is replaced is deleted, from R2 as from rows", async () => {
    const run = await smallRun();
    const damage = (from: string, to: string) =>
      inStorage(run, (sql) => sql.exec(`UPDATE tasks SET doc = replace(doc, '"${from}"', '"${to}"')`));
    await checkpointIn(run, "r2");
    const [first] = await objectsOf(run);
    // Only damage makes the state at a seq another one.
    await damage("pending", "blocked");
    await checkpointIn(run, "r2");
    const [second, ...others] = await objectsOf(run);
    expect(others).toEqual([]);
    expect(second).not.toBe(first);
    await damage("blocked", "failed");
    await checkpointIn(run, "rows");
    expect(await objectsOf(run)).toEqual([]);
    expect(await rowsOf(run, "SELECT seq, member FROM checkpoint_parts")).toEqual([
      { seq: 4, member: "state" },
    ]);
    await damage("failed", "pending");
    await checkpointIn(run, "r2");
    expect(await objectsOf(run)).toHaveLength(1);
    expect(await rowsOf(run, "SELECT * FROM checkpoint_parts")).toEqual([]);
    await evict(run);
    await expectContent(run, await latest(run));
  });

  it("of an older release takes the new form when its checkpoint is made anew", async () => {
    const run = await smallRun();
    await oldCheckpoint(run);
    expect(
      (await v1<{ checkpoints: CheckpointHead[] }>(run, "GET", "/checkpoints")).body.checkpoints,
    ).toEqual([
      expect.objectContaining({ reason: "old", automatic: false, state_sha256: null, log_hash: null }),
    ]);
    expect(await digestsOf(run)).toMatchObject({ checkpoint_seq: 4, replay_state_sha256: null });
    await checkpointed(run);
    expect(await rowsOf(run, "SELECT seq, member FROM checkpoint_parts")).toEqual([
      { seq: 4, member: "state" },
    ]);
    const replay = await digestsOf(run);
    expect(replay.replay_state_sha256).toMatch(SHA256);
    expect(replay.replay_state_sha256).toBe(replay.persisted_state_sha256);
  });

  it("whose object cannot be deleted is left behind, and nothing else", async () => {
    const run = await smallRun();
    await checkpointIn(run, "r2");
    await inStorage(run, (sql) => sql.exec(`UPDATE tasks SET doc = replace(doc, '"pending"', '"failed"')`));
    const stuck = bucketWith({ delete: () => Promise.reject(new Error("not now")) });
    const made = await withKeeper(run, { storedBytes: 0 }, stuck, ({ keeper }) =>
      keeper.create({ reason: "r" }, null),
    );
    expect(made.ok).toBe(true);
    expect(await objectsOf(run)).toHaveLength(2);
    await evict(run);
    await expectContent(run, await latest(run));
  });

  it("costs a row for the checkpoint and one for each 500,000 characters; a name and a key each one more", async () => {
    const run = await smallRun();
    const price = (name: string | undefined, commandId: string | undefined) =>
      withKeeper(run, {}, BUCKET, async ({ keeper, sql }) => {
        const before = sql.counts();
        const command = commandId === undefined ? null : { commandId, fingerprint: "f" };
        expect((await keeper.create({ reason: "r", name }, command)).ok).toBe(true);
        const after = sql.counts();
        return { written: after.written - before.written, read: after.read - before.read };
      });
    expect((await price(undefined, undefined)).written).toBe(2);
    await accepted(run, note());
    expect((await price("n", "k")).written).toBe(4);
    // A second one at the same seq writes no content.
    expect((await price(undefined, undefined)).written).toBe(1);
    expect((await price(undefined, undefined)).read).toBeLessThan(15);
    clock.advance(1);
  });
});

describe("automatic checkpoints", () => {
  useTestClock();

  it("are due when so many were committed since the newest, or as many as there are tasks or lines", async () => {
    const run = await newTestRun();
    const due = (interval: number) =>
      withKeeper(run, { interval }, BUCKET, ({ keeper }) => keeper.dueAtMs(1_000));
    expect(await due(1)).toBeNull();
    for (let seq = 1; seq <= 5; seq += 1) await accepted(run, note());
    expect(await due(6)).toBeNull();
    expect(await due(5)).toBe(2_000);
    await accepted(run, creation(...Array.from({ length: 6 }, (_, index) => row(`t${index}`))));
    await checkpointed(run);
    expect(await due(1)).toBeNull();
    // The newest has seven lines: its head and six tasks.
    for (let count = 1; count <= 6; count += 1) {
      await accepted(run, note());
      expect(await due(1)).toBeNull();
    }
    await accepted(run, note());
    expect(await due(1)).toBe(2_000);
  });

  it("are made when they are due, and say so; one that fails is tried again, later and later", async () => {
    const run = await newTestRun();
    for (let seq = 1; seq <= 3; seq += 1) await accepted(run, note());
    const log = vi.spyOn(console, "error").mockImplementation(() => undefined);
    let isBroken = true;
    const bucket = bucketWith({
      put: (...args: unknown[]) =>
        isBroken
          ? Promise.reject(new Error("not now"))
          : (BUCKET.put as (...all: unknown[]) => Promise<unknown>).apply(BUCKET, args),
    });
    await withKeeper(run, { interval: 3, storedBytes: 0 }, bucket, async ({ keeper, state }) => {
      const now = Date.now();
      await keeper.createDue(now);
      expect(keeper.dueAtMs(now)).toBe(now + 1_000);
      const waits: number[] = [];
      for (let attempt = 0; attempt < 11; attempt += 1) {
        await keeper.createDue(Number.MAX_SAFE_INTEGER);
        waits.push((keeper.dueAtMs(now) ?? 0) - now);
      }
      expect(waits.slice(0, 4)).toEqual([1_000, 2_000, 4_000, 8_000]);
      expect(waits.at(-1)).toBe(600_000);
      isBroken = false;
      await keeper.createDue(now);
      expect(state.checkpoints.latest(3)).toBeNull();
      await keeper.createDue(Number.MAX_SAFE_INTEGER);
      expect(keeper.dueAtMs(now)).toBeNull();
    });
    expect(log).toHaveBeenCalledTimes(11);
    log.mockRestore();
    expect(await headsOf(run)).toMatchObject([{ seq: 3, reason: "automatic", automatic: true }]);
    await expectContent(run, await latest(run));
  });

  it("come from the alarm of a run of 10,000 commits, not from a commit", async () => {
    const run = await newTestRun();
    for (let batch = 0; batch < 20; batch += 1) {
      expect(await headsOf(run)).toEqual([]);
      const rows = Array.from({ length: 500 }, (_, index) => row(`t${batch}-${index}`));
      await accepted(run, creation(...rows));
    }
    expect(await headsOf(run)).toEqual([]);
    await evict(run);
    await overviewOf(run);
    vi.setSystemTime(Date.now() + 1_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    // On a busy machine it takes longer than the alarm waits for it.
    const heads = await eventually(
      () => headsOf(run),
      ({ length }) => length > 0,
      20_000,
    );
    expect(heads).toMatchObject([{ seq: 10_000, automatic: true }]);
    expect(await objectsOf(run)).toHaveLength(1);
    await accepted(run, note());
    vi.setSystemTime(Date.now() + 1_000);
    await runDurableObjectAlarm(run.stub);
    expect(await headsOf(run)).toHaveLength(1);
    expect((await v1(run, "GET", "/state?at_seq=10001")).body).toMatchObject({
      checkpoint_seq: 10_000,
      commits_applied: 1,
    });
    expect((await replayOf(run, "?from_checkpoint=false")).drift).toMatchObject({ mismatch: false });
  }, 60_000);
});

describe("checkpoints on /v1", () => {
  useTestClock();

  it("have names, unique in the run, that outlive a replacement", async () => {
    const run = await smallRun();
    const made = await v1<{ checkpoint: CheckpointHead }>(run, "POST", "/checkpoints", {
      reason: "r",
      name: "v1.0",
    });
    expect(made.status).toBe(201);
    const head = made.body.checkpoint;
    expect(head).toEqual({
      checkpoint_id: expect.stringMatching(/^cp-/),
      run_id: run.id,
      seq: 4,
      ts_ms: expect.any(Number),
      reason: "r",
      name: "v1.0",
      automatic: false,
      state_sha256: expect.stringMatching(SHA256),
      log_hash: expect.stringMatching(SHA256),
    });
    for (const selector of ["v1.0", "4", head.checkpoint_id, "latest"]) {
      expect((await v1(run, "GET", `/checkpoints/${selector}`)).body).toEqual({ checkpoint: head });
    }
    const second = await checkpointed(run, "second");
    for (const selector of ["v1.0", "4", second.checkpoint_id]) {
      const { body } = await v1<{ checkpoint: CheckpointHead }>(run, "GET", `/checkpoints/${selector}`);
      expect(body.checkpoint).toMatchObject({ checkpoint_id: second.checkpoint_id, name: "v1.0" });
    }
    expect((await v1(run, "GET", `/checkpoints/${head.checkpoint_id}`)).status).toBe(404);
    await accepted(run, note());
    const taken = await v1(run, "POST", "/checkpoints", { reason: "", name: "v1.0" });
    expect([taken.status, taken.body]).toMatchObject([
      409,
      { code: "CHECKPOINT_NAME_TAKEN", name: "v1.0", seq: 4 },
    ]);
    expect(await headsOf(run)).toHaveLength(1);
    const another = { reason: "", name: "v1.1" };
    expect((await v1(run, "POST", "/checkpoints", another)).status).toBe(201);
    expect((await v1(run, "POST", "/checkpoints", { ...another, name: "v1.1.1" })).status).toBe(201);
    for (const selector of ["v1.1", "v1.1.1"]) {
      const { body } = await v1<{ checkpoint: CheckpointHead }>(run, "GET", `/checkpoints/${selector}`);
      expect(body.checkpoint).toMatchObject({ seq: 5, name: "v1.1.1" });
    }
    // Names are nothing that /context knows.
    expect(Object.keys((await latest(run)) ?? {})).not.toContain("name");
    expect((await v1(await newTestRun(), "POST", "/checkpoints", another)).status).toBe(201);
  });

  it("are listed in pages, newest first", async () => {
    const run = await newTestRun();
    for (let seq = 1; seq <= 5; seq += 1) {
      await accepted(run, note());
      await checkpointIn(run, (["rows", "r2", "old"] as const)[seq % 3] ?? "rows");
    }
    const seqs: number[] = [];
    let query = "?limit=2";
    for (let pages = 1; ; pages += 1) {
      const { body } = await v1<{ checkpoints: CheckpointHead[]; next_cursor: string | null }>(
        run,
        "GET",
        `/checkpoints${query}`,
      );
      seqs.push(...body.checkpoints.map(({ seq }) => seq));
      if (body.next_cursor === null) {
        expect(pages).toBe(3);
        break;
      }
      query = `?limit=2&cursor=${body.next_cursor}`;
    }
    expect(seqs).toEqual([5, 4, 3, 2, 1]);
    expect((await v1(run, "GET", "/checkpoints?cursor=nonsense")).body.code).toBe("CURSOR_INVALID");
  });

  it("come whole when that is asked for", async () => {
    const run = await smallRun();
    await checkpointIn(run, "r2");
    await accepted(run, note());
    const { body, headers } = await v1<{ checkpoint: Checkpoint }>(run, "GET", "/checkpoints/4", undefined, {
      prefer: "return=representation",
    });
    expect(headers.get("preference-applied")).toBe("return=representation");
    expect(body.checkpoint).toMatchObject({ seq: 4, reason: "r2", automatic: false });
    expect(body.checkpoint.run_state).toMatchObject({ last_event_seq: 4, tasks: [{ id: "a" }, { id: "b" }] });
    expect(body.checkpoint.blackboard).toMatchObject({
      decisions: [{ id: "n" }],
      summaries: { rolling: "so far" },
    });
  });

  it.each(["none", "5", "cp-none", "99999999999999999999", "4.0"])(
    "have none called %s",
    async (selector) => {
      const run = await smallRun();
      await checkpointed(run);
      const answer = await v1(run, "GET", `/checkpoints/${selector}`);
      expect([answer.status, answer.body.code]).toEqual([404, "CHECKPOINT_NOT_FOUND"]);
    },
  );

  it.each(["", " ", "a b", "7", "cp-1", "latest", "mutations", "a/b", "..", "x".repeat(201)])(
    "cannot be named %j",
    async (name) => {
      const run = await smallRun();
      const before = await everything(run);
      const answer = await v1(run, "POST", "/checkpoints", { reason: "", name });
      expect([400, 422]).toContain(answer.status);
      expect(answer.body.issues).toMatchObject([{ field: "name" }]);
      expect(await everything(run)).toEqual(before);
      expect(await headsOf(run)).toEqual([]);
    },
  );

  it("are made once under one key", async () => {
    const run = await smallRun();
    const asked = { reason: "r", name: "n", command_id: "k" };
    const [a, b] = await Promise.all([
      v1<{ checkpoint: CheckpointHead }>(run, "POST", "/checkpoints", asked),
      v1<{ checkpoint: CheckpointHead }>(run, "POST", "/checkpoints", asked),
    ]);
    expect([a.status, b.status]).toEqual([201, 201]);
    expect(a.body).toEqual(b.body);
    expect([a, b].filter(({ headers }) => headers.get("idempotency-replayed") === "true")).toHaveLength(1);
    await accepted(run, note());
    expect((await v1(run, "POST", "/checkpoints", asked)).body).toEqual(a.body);
    for (const other of [
      { ...asked, reason: "other" },
      { ...asked, name: "other" },
    ]) {
      expect((await v1(run, "POST", "/checkpoints", other)).body.code).toBe("COMMAND_ID_CONFLICT");
    }
    await accepted(run, note(), "of a commit");
    const clash = { reason: "", command_id: "of a commit" };
    expect((await v1(run, "POST", "/checkpoints", clash)).body.code).toBe("COMMAND_ID_CONFLICT");
    expect(await headsOf(run)).toHaveLength(1);
  });
});
