import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { artifactStore } from "../../src/artifacts/store.ts";
import { askDeletion, findDeletion } from "../../src/directory/departures.ts";
import { putRun } from "../../src/directory/runs.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import { resumeMoves } from "../../src/maintenance/resume-moves.ts";
import { carryOut, deleteRun } from "../../src/moving/remove.ts";
import { prefixesOf } from "../../src/moving/run-keys.ts";
import { arrive, exported, fill } from "../run/support/moving.ts";
import {
  accepted,
  claimed,
  creation,
  draftOf,
  evict,
  inObject,
  inStorage,
  listed,
  newTestRun,
  note,
  objectOf,
  row,
  rowsOf,
  TENANT,
  type TestRun,
  wholeRun,
} from "../run/support/test-run.ts";

const LATER_MS = 2 * 60_000;

/** That nothing of a run is left anywhere, and that its id is never used again. */
async function isGone(run: TestRun): Promise<void> {
  expect(await run.client.readOverview()).toMatchObject({ ok: false, refusal: { code: "RUN_NOT_FOUND" } });
  expect(await listed(run)).toBeNull();
  for (const prefix of prefixesOf(TENANT, run.id)) {
    expect((await env.ARTIFACTS?.list({ prefix }))?.objects).toEqual([]);
  }
  const held = await env.DIRECTORY.prepare("SELECT * FROM blob_holders WHERE holder IN (?, ?)")
    .bind(`run:${run.id}`, `archive:${run.id}`)
    .all();
  expect(held.results).toEqual([]);
  for (const table of ["run", "commits", "tasks", "notes", "head_parts", "checkpoints"]) {
    expect(await rowsOf(run, `SELECT * FROM ${table}`)).toEqual([]);
  }
  expect(await inStorage(run, (_sql, storage) => storage.getAlarm())).toBeNull();
  const draft = draftOf(run.id);
  const created = await run.client.create({ tenant: LOCAL_TENANT, draft, command: null });
  expect(created).toMatchObject({ ok: false, refusal: { code: "RUN_DELETED" } });
  const other = await exported(await newTestRun());
  expect(await arrive(run, other)).toMatchObject({ ok: false, refusal: { code: "RUN_DELETED" } });
  expect((await findDeletion(env.DIRECTORY, TENANT, run.id))?.done_at_ms).toEqual(expect.any(Number));
}

/** A run with everything a deletion must find. */
async function everywhere(): Promise<TestRun> {
  const run = await newTestRun();
  await fill(run);
  await artifactStore(env, TENANT)?.keep(`run:${run.id}`, `content of ${run.id}`);
  for (const prefix of prefixesOf(TENANT, run.id)) await env.ARTIFACTS?.put(`${prefix}x`, "x");
  return run;
}

describe("a deleted run", () => {
  it("is gone everywhere, for good; deleting it again changes nothing", async () => {
    const run = await everywhere();
    expect(await deleteRun(env, TENANT, run.id, null)).toEqual({ ok: true, value: null });
    await isGone(run);
    await evict(run);
    await isGone(run);
    expect(await deleteRun(env, TENANT, run.id, null)).toEqual({ ok: true, value: null });
  });

  it("that never was is not found, and nothing is written of it", async () => {
    const run = objectOf();
    expect(await deleteRun(env, TENANT, run.id, null)).toMatchObject({
      ok: false,
      refusal: { code: "RUN_NOT_FOUND" },
    });
    expect(await findDeletion(env.DIRECTORY, TENANT, run.id)).toBeNull();
    const draft = draftOf(run.id);
    expect((await run.client.create({ tenant: LOCAL_TENANT, draft, command: null })).ok).toBe(true);
  });

  it("is deleted at the expected revision or not at all", async () => {
    const run = await newTestRun();
    await accepted(run, note());
    expect(await deleteRun(env, TENANT, run.id, 1)).toMatchObject({
      ok: false,
      refusal: { code: "RUN_REVISION_MISMATCH", revision: 2 },
    });
    await accepted(run, note());
    expect((await deleteRun(env, TENANT, run.id, 3)).ok).toBe(true);
    await isGone(run);
  });

  it("is left alone when it moves on between the question and the deed", async () => {
    const run = await newTestRun();
    const { created_at_ms } = await wholeRun(run);
    const intent = { tenant: TENANT, run_id: run.id, created_at_ms, expected_revision: 1, asked_at_ms: 0 };
    await askDeletion(env.DIRECTORY, intent);
    await accepted(run, note());
    await resumeMoves(env, Date.now() + LATER_MS);
    expect(await findDeletion(env.DIRECTORY, TENANT, run.id)).toBeNull();
    await accepted(run, note());
  });

  it("a deletion that is refused for its revision leaves another's intent in place", async () => {
    const run = await newTestRun();
    const { created_at_ms } = await wholeRun(run);
    const meant = { tenant: TENANT, run_id: run.id, created_at_ms };
    const unconditional = { ...meant, expected_revision: null, asked_at_ms: 1 };
    await askDeletion(env.DIRECTORY, unconditional);
    await accepted(run, note());
    const stale = { ...meant, expected_revision: 1, asked_at_ms: 2, done_at_ms: null };
    expect(await carryOut(env, stale)).toMatchObject({ ok: false });
    expect(await findDeletion(env.DIRECTORY, TENANT, run.id)).toMatchObject(unconditional);
    await resumeMoves(env, Date.now() + LATER_MS);
    await isGone(run);
  });

  it("goes with its leases, and commands that come too late are told that it is gone", async () => {
    const run = await newTestRun();
    await accepted(run, creation(row("a"), row("b")));
    const { id, token } = await claimed(run);
    const late = { op: "transition_task", task_id: id, action: "heartbeat", lease_token: token } as const;
    const answers = await inObject(run, async (object) => {
      const before = object.submit({ command: late });
      const erased = object.erase({ created_at_ms: null, expected_revision: null });
      const after = object.submit({ command: late });
      return [await erased, JSON.parse(await before), JSON.parse(await after)];
    });
    expect(answers[0]).toEqual({ ok: true, value: null });
    expect(answers[2]).toMatchObject({ ok: false, refusal: { code: "RUN_NOT_FOUND" } });
  });

  it("does not come back into the list by what was on its way there", async () => {
    const run = await newTestRun();
    const { tasks: _tasks, ...header } = await wholeRun(run);
    await deleteRun(env, TENANT, run.id, null);
    const taskCounts = { pending: 0, runnable: 0, in_progress: 0, blocked: 0, done: 0, failed: 0, total: 0 };
    await putRun(env.DIRECTORY, { tenant: TENANT, run: header, taskCounts, leaseDueAtMs: null });
    expect(await listed(run)).toBeNull();
  });
});

/** Ticks until nothing is left to look through again: a tick does so many, and other tests leave theirs. */
async function sweepAll(): Promise<void> {
  const nowMs = Date.now() + 2 * 3_600_000;
  while ((await resumeMoves(env, nowMs)).swept > 0);
}

describe("a deletion that was cut off", () => {
  const steps: [string, (run: TestRun) => Promise<unknown>][] = [
    ["after the intent", async () => undefined],
    [
      "while the object was wiped",
      (run) =>
        inStorage(run, (sql) => {
          sql.exec("INSERT INTO tombstone VALUES (1, ?)", JSON.stringify({ kind: "deleted", at_ms: 1 }));
        }),
    ],
    [
      "with nothing left in the object, not even a tombstone",
      (run) => inStorage(run, (_sql, storage) => storage.deleteAll()),
    ],
    ["after the object", (run) => run.client.erase({ created_at_ms: null, expected_revision: null })],
    [
      "after R2",
      async (run) => {
        await run.client.erase({ created_at_ms: null, expected_revision: null });
        for (const prefix of prefixesOf(TENANT, run.id)) await env.ARTIFACTS?.delete(`${prefix}x`);
      },
    ],
    [
      "before the last step",
      async (run) => {
        await run.client.erase({ created_at_ms: null, expected_revision: null });
        for (const prefix of prefixesOf(TENANT, run.id)) await env.ARTIFACTS?.delete(`${prefix}x`);
        await artifactStore(env, TENANT)?.release(`run:${run.id}`);
      },
    ],
  ];
  it.each(steps)("%s is carried out by cron, twice if it must", async (_step, reach) => {
    const run = await everywhere();
    const { created_at_ms } = await wholeRun(run);
    const intent = { tenant: TENANT, run_id: run.id, created_at_ms, expected_revision: null, asked_at_ms: 0 };
    await askDeletion(env.DIRECTORY, intent);
    await reach(run);
    await inStorage(run, () => undefined);
    const { evictDurableObject } = await import("cloudflare:test");
    await evictDurableObject(run.stub);
    await resumeMoves(env, Date.now() + LATER_MS);
    await isGone(run);
    await resumeMoves(env, Date.now() + LATER_MS);
    await isGone(run);
  });

  it("is carried out by the next request as well", async () => {
    const run = await everywhere();
    await askDeletion(env.DIRECTORY, {
      tenant: TENANT,
      run_id: run.id,
      created_at_ms: null,
      expected_revision: null,
      asked_at_ms: Date.now(),
    });
    await inStorage(run, (_sql, storage) => storage.deleteAll());
    expect((await deleteRun(env, TENANT, run.id, null)).ok).toBe(true);
    await isGone(run);
  });

  it("leaves alone a run that was created under the id since", async () => {
    const run = await newTestRun();
    const intent = {
      tenant: TENANT,
      run_id: run.id,
      created_at_ms: 1,
      expected_revision: null,
      asked_at_ms: 0,
    };
    await askDeletion(env.DIRECTORY, intent);
    await resumeMoves(env, Date.now() + LATER_MS);
    expect((await run.client.readOverview()).ok).toBe(true);
    expect(await findDeletion(env.DIRECTORY, TENANT, run.id)).toBeNull();
  });

  it("finds later what was on its way to R2", async () => {
    const run = await newTestRun();
    await deleteRun(env, TENANT, run.id, null);
    const [prefix] = prefixesOf(TENANT, run.id);
    await env.ARTIFACTS?.put(`${prefix}late`, "x");
    await sweepAll();
    expect((await env.ARTIFACTS?.list({ prefix: prefix ?? "" }))?.objects).toEqual([]);
  });

  it("finds later what an archiving that broke off held for the archive", async () => {
    const run = await newTestRun();
    await deleteRun(env, TENANT, run.id, null);
    await artifactStore(env, TENANT)?.keep(`archive:${run.id}`, `content of ${run.id}`);
    await artifactStore(env, TENANT)?.confirm(`archive:${run.id}`, null);
    await sweepAll();
    await isGone(run);
  });
});
