import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { artifactStore } from "../../src/artifacts/store.ts";
import { askArchiving, writeRetention } from "../../src/directory/departures.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import { resumeMoves } from "../../src/maintenance/resume-moves.ts";
import { retain } from "../../src/maintenance/retain.ts";
import { archiveRun, restoreRun, STALE_MOVE_MS } from "../../src/moving/archive.ts";
import { deleteRun } from "../../src/moving/remove.ts";
import { archivePrefix, prefixesOf } from "../../src/moving/run-keys.ts";
import { arrive, exported, fill, streamOf } from "../run/support/moving.ts";
import {
  accepted,
  draftOf,
  everything,
  evict,
  inObject,
  listed,
  newTestRun,
  note,
  objectOf,
  replayOf,
  rowsOf,
  TENANT,
  type TestRun,
  wholeRun,
} from "../run/support/test-run.ts";

const archive = (run: TestRun) => archiveRun(env, TENANT, run.id);
const restore = (run: TestRun) => restoreRun(env, LOCAL_TENANT, TENANT, run.id);

/** A run with something of everything in it, and no lease out. */
async function ended(): Promise<TestRun> {
  const run = await newTestRun();
  await fill(run);
  const { tasks, ...whole } = ((await everything(run)) as { run: Parameters<typeof withoutLeases>[0] }).run;
  await accepted(run, { op: "replace_run", run: withoutLeases({ ...whole, tasks }) });
  return run;
}

function withoutLeases<R extends { tasks: object[] }>(run: R) {
  const tasks = run.tasks.map((task) => ({
    ...task,
    status: "done",
    lease_token: undefined,
    lease_owner: undefined,
    lease_expires_at_ms: undefined,
  }));
  return JSON.parse(JSON.stringify({ ...run, status: "completed", tasks }));
}

async function archivesOf(run: TestRun): Promise<string[]> {
  const page = await env.ARTIFACTS?.list({ prefix: archivePrefix(TENANT, run.id) });
  return page?.objects.map(({ key }) => key) ?? [];
}

async function holdersOf(run: TestRun): Promise<string[]> {
  const { results } = await env.DIRECTORY.prepare(
    "SELECT DISTINCT holder FROM blob_holders WHERE holder IN (?, ?)",
  )
    .bind(`run:${run.id}`, `archive:${run.id}`)
    .all<{ holder: string }>();
  return results.map(({ holder }) => holder.split(":")[0] ?? "");
}

const archivedAt = async (run: TestRun) =>
  ((await listed(run)) as unknown as { archived_at_ms: number | null } | null)?.archived_at_ms;

describe("an archived run", () => {
  it("is out of its object, and comes back as it was, to the byte", async () => {
    const run = await ended();
    await artifactStore(env, TENANT)?.keep(`run:${run.id}`, `content of ${run.id}`);
    const before = { all: await everything(run), text: await exported(run) };
    expect(await archive(run)).toMatchObject({ ok: true, value: { revision: expect.any(Number) } });
    expect(await run.client.readOverview()).toMatchObject({ ok: false, refusal: { code: "RUN_ARCHIVED" } });
    expect(await rowsOf(run, "SELECT * FROM commits")).toEqual([]);
    expect(await archivesOf(run)).toHaveLength(1);
    expect(await holdersOf(run)).toEqual(["archive"]);
    expect(await archivedAt(run)).toEqual(expect.any(Number));

    await evict(run);
    expect(await restore(run)).toMatchObject({ ok: true, value: { checks: { blobs: 1 } } });
    expect(await everything(run)).toEqual(before.all);
    expect(await exported(run)).toBe(before.text);
    expect((await replayOf(run)).drift.mismatch).toBe(false);
    expect(await archivesOf(run)).toEqual([]);
    expect(await holdersOf(run)).toEqual(["run"]);
    expect(await archivedAt(run)).toBeNull();
    await accepted(run, note());
    await evict(run);
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });

  it("whose old commits lie in R2 is archived and restored, and deleted, with all of them", async () => {
    const run = await ended();
    const before = { all: await everything(run), text: await exported(run) };
    const bounds = { keep: 2, commits: 3, length: 1_000_000 };
    while ((await run.stub.seal(bounds)) !== null);
    const prefixes = prefixesOf(TENANT, run.id);
    const [segments = ""] = prefixes;
    expect((await env.ARTIFACTS?.list({ prefix: segments }))?.objects.length).toBeGreaterThan(1);
    expect(await exported(run)).toBe(before.text);
    expect((await archive(run)).ok).toBe(true);
    expect((await env.ARTIFACTS?.list({ prefix: segments }))?.objects).toEqual([]);
    expect((await restore(run)).ok).toBe(true);
    expect(await everything(run)).toEqual(before.all);
    expect(await exported(run)).toBe(before.text);
    while ((await run.stub.seal(bounds)) !== null);
    expect((await deleteRun(env, TENANT, run.id, null)).ok).toBe(true);
    for (const prefix of prefixes) expect((await env.ARTIFACTS?.list({ prefix }))?.objects).toEqual([]);
  });

  it("keeps its id, is archived once, and can be deleted where it lies", async () => {
    const run = await ended();
    await archive(run);
    expect((await archive(run)).ok).toBe(true);
    const draft = draftOf(run.id);
    expect(await run.client.create({ tenant: LOCAL_TENANT, draft, command: null })).toMatchObject({
      refusal: { code: "CONTEXT_RUN_EXISTS" },
    });
    const text = await exported(await newTestRun());
    expect(await arrive(run, text)).toMatchObject({ refusal: { code: "CONTEXT_RUN_EXISTS" } });
    expect((await deleteRun(env, TENANT, run.id, null)).ok).toBe(true);
    expect(await archivesOf(run)).toEqual([]);
    expect(await restore(run)).toMatchObject({ refusal: { code: "RUN_NOT_FOUND" } });
    expect(await listed(run)).toBeNull();
  });

  it("stays where it is while a task is leased, or another move is under way", async () => {
    const run = await newTestRun();
    await fill(run);
    expect(await archive(run)).toMatchObject({ ok: false, refusal: { code: "RUN_BUSY" } });
    const other = await ended();
    await askArchiving(env.DIRECTORY, { tenant: TENANT, run_id: other.id, asked_at_ms: Date.now() });
    expect(await archive(other)).toMatchObject({ ok: false, refusal: { code: "RUN_BUSY" } });
    expect(await archivesOf(run)).toEqual([]);
    await accepted(run, note());
  });

  it("stays where it is while a checkpoint is being made, which is never lost", async () => {
    const run = await ended();
    const exported = await run.client.startExport();
    if (!exported.ok) throw new Error(exported.refusal.code);
    const archive = { key: "none", sha256: "", bytes: 0 };
    const [made, left] = await inObject(run, async (object) => {
      const made = object.createCheckpoint({ reason: "late", name: "late" }, null);
      const left = object.leaveForArchive({ archive, ...exported.value });
      return [await made, await left];
    });
    expect(made.ok).toBe(true);
    expect(left).toMatchObject({ ok: false, refusal: { code: "RUN_BUSY" } });
    expect(await run.client.readCheckpointHead("late")).toMatchObject({ ok: true, value: { name: "late" } });
  });

  it("may be large: what its log was read with does not keep it from leaving, nor from being deleted", async () => {
    const runs = [await newTestRun(), await newTestRun()] as const;
    for (const run of runs) {
      for (let index = 0; index < 40; index += 1) {
        await accepted(run, note("x".repeat(60_000)));
      }
      await evict(run);
      await exported(run);
    }
    expect((await archive(runs[0])).ok).toBe(true);
    expect((await restore(runs[0])).ok).toBe(true);
    expect((await deleteRun(env, TENANT, runs[1].id, null)).ok).toBe(true);
  });

  it("is listed as it was when it left", async () => {
    const run = await ended();
    await accepted(run, note());
    await accepted(run, note());
    const { revision, last_event_seq } = await wholeRun(run);
    expect((await archive(run)).ok).toBe(true);
    expect(await listed(run)).toMatchObject({ revision, last_event_seq, archived_at_ms: expect.any(Number) });
  });

  it("is not restored from an archive that is damaged, and stays archived", async () => {
    const run = await ended();
    await archive(run);
    const [key = ""] = await archivesOf(run);
    const text = (await (await env.ARTIFACTS?.get(key))?.text()) ?? "";
    await env.ARTIFACTS?.put(key, text.replace('"seq":2', '"seq":3'));
    expect(await restore(run)).toMatchObject({ ok: false, refusal: { code: "IMPORT_INVALID" } });
    expect(await run.client.readOverview()).toMatchObject({ refusal: { code: "RUN_ARCHIVED" } });
    await env.ARTIFACTS?.put(key, text);
    expect((await restore(run)).ok).toBe(true);
  });
});

describe("a move that was cut off", () => {
  const cut = async (run: TestRun) => {
    await askArchiving(env.DIRECTORY, { tenant: TENANT, run_id: run.id, asked_at_ms: 0 });
    return resumeMoves(env, Date.now() + STALE_MOVE_MS);
  };

  it("before the run left is taken back", async () => {
    const run = await ended();
    await env.ARTIFACTS?.put(`${archivePrefix(TENANT, run.id)}half.ndjson`, "x");
    await artifactStore(env, TENANT)?.keep(`run:${run.id}`, "c");
    await artifactStore(env, TENANT)?.keep(`archive:${run.id}`, "c");
    await cut(run);
    expect(await archivesOf(run)).toEqual([]);
    expect(await holdersOf(run)).toEqual(["run"]);
    expect((await archive(run)).ok).toBe(true);
  });

  it("after the run left is finished", async () => {
    const run = await ended();
    await artifactStore(env, TENANT)?.keep(`run:${run.id}`, "c");
    await archive(run);
    await env.DIRECTORY.prepare("UPDATE runs SET archived_at_ms = NULL WHERE run_id = ?").bind(run.id).run();
    await artifactStore(env, TENANT)?.keep(`run:${run.id}`, "c");
    await cut(run);
    expect(await archivedAt(run)).toEqual(expect.any(Number));
    expect(await holdersOf(run)).toEqual(["archive"]);
    expect((await restore(run)).ok).toBe(true);
  });

  it("in the middle of a restore leaves the run archived, and the next restore brings it", async () => {
    const run = await ended();
    const before = await everything(run);
    await archive(run);
    const [key = ""] = await archivesOf(run);
    const text = (await (await env.ARTIFACTS?.get(key))?.text()) ?? "";
    const half = text.slice(0, text.length / 2);
    expect((await arrive(run, half, { restores: true, fails: true })).ok).toBe(false);
    await evict(run);
    await cut(run);
    expect(await archivesOf(run)).toEqual([key]);
    expect((await restore(run)).ok).toBe(true);
    expect(await everything(run)).toEqual(before);
  });
});

describe("a move that another has taken over", () => {
  /** A bucket that waits, after an archive was read back. */
  function bucketThatWaits(wait: () => Promise<void>): R2Bucket {
    const bucket = env.ARTIFACTS as R2Bucket;
    return new Proxy(bucket, {
      get(target, name) {
        if (name !== "get") return Reflect.get(target, name).bind(target);
        return async (key: string) => {
          const body = await (await target.get(key))?.bytes();
          await wait();
          return body === undefined ? null : { body: streamOf(body) };
        };
      },
    });
  }

  it("takes nothing away from that other", async () => {
    const run = await ended();
    await artifactStore(env, TENANT)?.keep(`run:${run.id}`, `content of ${run.id}`);
    const before = await everything(run);
    const slowIsThere = Promise.withResolvers<void>();
    const slowMayFail = Promise.withResolvers<void>();
    const slow = archiveRun(
      {
        ...env,
        ARTIFACTS: bucketThatWaits(async () => {
          slowIsThere.resolve();
          await slowMayFail.promise;
          throw new Error("too slow");
        }),
      },
      TENANT,
      run.id,
    ).catch(String);
    await slowIsThere.promise;
    await resumeMoves(env, Date.now() + STALE_MOVE_MS + 1);
    const other = await archiveRun(
      {
        ...env,
        ARTIFACTS: bucketThatWaits(async () => {
          slowMayFail.resolve();
          expect(await slow).toContain("too slow");
        }),
      },
      TENANT,
      run.id,
    );
    expect(other.ok).toBe(true);
    expect(await holdersOf(run)).toEqual(["archive"]);
    expect((await restore(run)).ok).toBe(true);
    expect(await everything(run)).toEqual(before);
  });

  it("does not let the run leave", async () => {
    const run = await ended();
    const late = await archiveRun(
      {
        ...env,
        ARTIFACTS: bucketThatWaits(async () => {
          await resumeMoves(env, Date.now() + STALE_MOVE_MS + 1);
        }),
      },
      TENANT,
      run.id,
    );
    expect(late).toMatchObject({ ok: false, refusal: { code: "RUN_BUSY" } });
    await accepted(run, note());
  });
});

describe("retention", () => {
  it("archives ended runs that have not changed for so long, and deletes them after so long in the archive", async () => {
    const DAY_MS = 86_400_000;
    const old = await ended();
    const running = await newTestRun();
    await accepted(running, note());
    await writeRetention(
      env.DIRECTORY,
      TENANT,
      { archive_after_ms: DAY_MS, delete_after_ms: null },
      Date.now(),
    );
    try {
      await retain(env, Date.now());
      expect(await archivedAt(old)).toBeNull();
      for (let tick = 0; tick < 20 && (await archivedAt(old)) === null; tick += 1) {
        await retain(env, Date.now() + 2 * DAY_MS);
      }
      expect(await archivedAt(old)).toEqual(expect.any(Number));
      expect((await running.client.readOverview()).ok).toBe(true);
      await writeRetention(
        env.DIRECTORY,
        TENANT,
        { archive_after_ms: null, delete_after_ms: DAY_MS },
        Date.now(),
      );
      await retain(env, Date.now());
      expect(await archivedAt(old)).toEqual(expect.any(Number));
      for (let tick = 0; tick < 20 && (await listed(old)) !== null; tick += 1) {
        await retain(env, Date.now() + 2 * DAY_MS);
      }
      expect(await listed(old)).toBeNull();
      expect(await old.client.readOverview()).toMatchObject({ refusal: { code: "RUN_NOT_FOUND" } });
    } finally {
      await writeRetention(
        env.DIRECTORY,
        TENANT,
        { archive_after_ms: null, delete_after_ms: null },
        Date.now(),
      );
    }
  });

  it("passes over a run that cannot be moved, and goes on with the others", async () => {
    const gone = objectOf();
    await env.DIRECTORY.prepare(
      `INSERT INTO runs (tenant, run_id, run_type, run_type_key, workspace, workspace_key, status, objective, revision,
         last_event_seq, created_at_ms, updated_at_ms, task_counts)
       VALUES ('t/r', ?, '', '', '{}', '', 'completed', '', 1, 0, 0, 0, '{}')`,
    )
      .bind(gone.id)
      .run();
    await writeRetention(env.DIRECTORY, "t/r", { archive_after_ms: 0, delete_after_ms: 0 }, Date.now());
    const done = await retain(env, Date.now());
    expect(done).toMatchObject({ failed: 1 });
    await writeRetention(env.DIRECTORY, "t/r", { archive_after_ms: null, delete_after_ms: null }, Date.now());
  });
});
