import { createScheduledController, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { readCursor, writeCursor } from "../../src/directory/maintenance.ts";
import { putRun } from "../../src/directory/runs.ts";
import { newRun } from "../../src/domain/run.ts";
import type { Env } from "../../src/env.ts";
import { LOCAL_TENANT, runObjectName } from "../../src/identity/tenant.ts";
import worker from "../../src/index.ts";
import { sweepLeases } from "../../src/maintenance/sweep-leases.ts";
import type { RunObject } from "../../src/run/run-object.ts";
import { NO_TASKS } from "../../src/run/storage/tasks.ts";
import {
  accepted,
  claimed,
  creation,
  draftOf,
  everything,
  listed,
  newTestRun,
  overviewOf,
  row,
  TENANT,
  type TestRun,
  useTestClock,
} from "../run/support/test-run.ts";

const DUTY = "sweep_leases";

/** Adds a directory row of a run that is due at that moment. */
async function addDue(tenant: string, runId: string, leaseDueAtMs: number): Promise<void> {
  const run = newRun(draftOf(runId), LOCAL_TENANT, 1);
  await putRun(env.DIRECTORY, { tenant, run, taskCounts: NO_TASKS, leaseDueAtMs });
}

/** Adds `count` rows `r0000`, `r0001`, … due one after the other from the moment 1 on. */
async function addDueRows(tenant: string, count: number): Promise<void> {
  await addDue(tenant, "r0000", 1);
  await env.DIRECTORY.prepare(
    `INSERT INTO runs (tenant, run_id, run_type, run_type_key, source_client, source_key, workspace, workspace_key, status,
       objective, revision, last_event_seq, created_at_ms, updated_at_ms, task_counts, lease_due_at_ms)
     SELECT tenant, printf('r%04d', value), run_type, run_type_key, source_client, source_key, workspace, workspace_key,
       status, objective, revision, last_event_seq, created_at_ms, updated_at_ms, task_counts, value + 1
     FROM runs, (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < ?2 - 1)
       SELECT value FROM n)
     WHERE tenant = ?1 AND run_id = 'r0000'`,
  )
    .bind(tenant, count)
    .run();
}

/** Takes a tenant's rows out again: the directory is shared by all tests. */
async function removeRows(tenant: string): Promise<void> {
  await env.DIRECTORY.prepare("DELETE FROM runs WHERE tenant = ?").bind(tenant).run();
}

/** An environment whose run objects only note that they were swept; what `sweep` does is the test's to say. */
function withObjects(sweep: (name: string) => Promise<number | null>): Env {
  const runs = { getByName: (name: string) => ({ sweep: () => sweep(name) }) };
  return { ...env, RUNS: runs as unknown as Env["RUNS"] };
}

describe("design: the cron net requeues stale leases", () => {
  const clock = useTestClock();
  let tenant = "";

  beforeEach(async () => {
    tenant = `test/${crypto.randomUUID()}`;
    await writeCursor(env.DIRECTORY, DUTY, null, 0);
  });
  afterEach(async () => {
    await removeRows(tenant);
    await writeCursor(env.DIRECTORY, DUTY, null, 0);
    vi.restoreAllMocks();
  });

  it("design: every due run is swept once per tick, in order of due time", async () => {
    await addDueRows(tenant, 1_200);
    const swept: string[] = [];
    const sweep = await sweepLeases(
      withObjects(async (name) => {
        swept.push(name);
        return 1;
      }),
      1_200,
    );
    expect(sweep).toEqual({ runs: 1_200, requeued: 1_200, failed: 0 });
    expect(swept).toEqual(
      Array.from({ length: 1_200 }, (_, index) =>
        runObjectName(tenant, `r${String(index).padStart(4, "0")}`),
      ),
    );
    expect(await readCursor(env.DIRECTORY, DUTY)).toBeNull();
  });

  it("design: a tick is bounded, and the next goes on where it stopped", async () => {
    await addDueRows(tenant, 2_300);
    const swept = new Map<string, number>();
    const objects = withObjects(async (name) => {
      swept.set(name, (swept.get(name) ?? 0) + 1);
      return 0;
    });
    expect(await sweepLeases(objects, 5_000)).toMatchObject({ runs: 2_000 });
    expect(await sweepLeases(objects, 5_000)).toMatchObject({ runs: 300 });
    expect(swept.size).toBe(2_300);
    expect([...swept.values()].every((times) => times === 1)).toBe(true);
    // It begins anew: what is still due is asked again.
    expect(await sweepLeases(objects, 10)).toMatchObject({ runs: 10 });
  });

  it("design: runs that cannot be reached do not hold up the others, in this tick or the next", async () => {
    await addDueRows(tenant, 2_100);
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const reached = new Set<string>();
    const objects = withObjects(async (name) => {
      if (Number(name.slice(-4)) < 2_050) throw new Error("the object is away");
      reached.add(name);
      return 1;
    });
    expect(await sweepLeases(objects, 5_000)).toMatchObject({ runs: 2_000, failed: 2_000 });
    expect(await sweepLeases(objects, 5_000)).toMatchObject({ runs: 100, failed: 50 });
    expect(reached.size).toBe(50);
  });

  it("design: rows whose objects have no run, and objects that answer nothing, are passed over", async () => {
    const ids = Array.from({ length: 30 }, () => crypto.randomUUID());
    for (const id of ids) await addDue(tenant, id, 1);
    expect(await sweepLeases(env, 1)).toEqual({ runs: 30, requeued: 0, failed: 0 });
    // They leave the list: nothing will ever come of asking them again.
    expect(await sweepLeases(env, 1)).toEqual({ runs: 0, requeued: 0, failed: 0 });
    const stub = env.RUNS.getByName(runObjectName(tenant, ids[0] ?? ""));
    const stored = await runInDurableObject(stub, (_object: RunObject, state) =>
      state.storage.sql
        .exec("SELECT name FROM sqlite_master WHERE name NOT LIKE '\\_cf\\_%' ESCAPE '\\'")
        .toArray(),
    );
    expect(stored).toEqual([]);
  });

  /** A run whose lease ran out while its alarm never fired, listed as due at the moment 1. */
  async function forgottenRun(): Promise<TestRun> {
    const run = await newTestRun();
    await accepted(run, creation(row("a"), row("b")));
    await claimed(run, { lease_ms: 5_000 });
    await env.DIRECTORY.prepare("UPDATE runs SET lease_due_at_ms = 1 WHERE tenant = ? AND run_id = ?")
      .bind(TENANT, run.id)
      .run();
    return run;
  }

  it("design: the cron requeues a forgotten lease and the directory is told; twice changes nothing", async () => {
    const run = await forgottenRun();
    clock.advance(5_000);
    const tick = async () => {
      vi.spyOn(console, "log").mockReturnValue(undefined);
      const controller = createScheduledController({ scheduledTime: new Date(1), cron: "* * * * *" });
      await worker.scheduled(controller, env);
    };
    await tick();
    expect((await overviewOf(run)).task_counts).toMatchObject({ runnable: 1, in_progress: 0, pending: 1 });
    const { last_event_seq } = await overviewOf(run);
    expect(await listed(run)).toMatchObject({ last_event_seq, lease_due_at_ms: null });
    const before = await everything(run);
    await tick();
    expect(await everything(run)).toEqual(before);
    expect(await run.client.sweep()).toBe(0);
    expect(await run.client.sweep()).toBe(0);
    expect(await everything(run)).toEqual(before);
  });

  it("design: a run that is listed as due too early is left alone, and listed anew with its own due time", async () => {
    const run = await forgottenRun();
    const before = await everything(run);
    await sweepLeases(env, 1);
    expect(await everything(run)).toEqual(before);
    expect(await listed(run)).toMatchObject({ lease_due_at_ms: clock.nowMs() + 5_000 });
  });
});
