import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { describe, expect, it } from "vitest";
import { submit } from "../../src/run/run-client.ts";
import { migrate, storedVersion } from "../../src/run/storage/migrate.ts";
import { MIGRATIONS } from "../../src/run/storage/schema.ts";
import { Sql } from "../../src/run/storage/sql.ts";
import { SCHEMA_1, SCHEMA_1_RUN_ID } from "./fixtures/schema-1.sql.ts";
import {
  accepted,
  checkpointed,
  claimed,
  creation,
  everything,
  inStorage,
  listed,
  newTestRun,
  note,
  objectOf,
  overviewOf,
  replayOf,
  row,
  type TestRun,
  useTestClock,
  wholeBlackboard,
  wholeRun,
} from "./support/test-run.ts";

/** Every table, index and row that is stored. */
function dump(sql: SqlStorage): unknown {
  const schema = sql
    .exec<{ type: string; name: string; sql: string | null }>(
      "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '\\_cf\\_%' ESCAPE '\\' ORDER BY name",
    )
    .toArray();
  const tables = schema.filter(({ type }) => type === "table");
  return { schema, rows: tables.map(({ name }) => sql.exec(`SELECT * FROM ${name}`).toArray()) };
}

/** An object with the storage of version 1 under a run id of its own; it has not yet woken on it. */
async function storedRun(): Promise<TestRun> {
  const run = objectOf();
  await inStorage(run, (sql) => {
    for (const statement of SCHEMA_1) sql.exec(statement.replaceAll(SCHEMA_1_RUN_ID, run.id));
  });
  return run;
}

/** The same after its next wake. */
async function migratedRun(): Promise<TestRun> {
  const run = await storedRun();
  await evictDurableObject(run.stub);
  return run;
}

describe("design: an object of an older schema migrates itself when it next wakes", () => {
  const clock = useTestClock();

  it("design: the fixture is of version 1, and this code's version is a later one", async () => {
    const run = await storedRun();
    expect(await inStorage(run, (_sql, storage) => storedVersion(new Sql(storage)))).toBe(1);
    expect(MIGRATIONS.length).toBeGreaterThan(1);
  });

  it("design: every read works, the version is current and the tables are those of a new run", async () => {
    const run = await migratedRun();
    expect(await overviewOf(run)).toMatchObject({
      run_id: run.id,
      status: "paused",
      objective: "keep what was stored",
      source_client: "cli",
      mcp_servers: ["files"],
      workspace: { canonical_path: "/srv/ws", lease_epoch: 1 },
      revision: 21,
      last_event_seq: 20,
      last_error: "it broke",
      blackboard_revision: 15,
      task_counts: { pending: 2, runnable: 0, in_progress: 2, blocked: 1, done: 1, failed: 0, total: 6 },
    });
    expect((await wholeRun(run)).tasks.map(({ id, status }) => [id, status])).toEqual([
      ["design", "done"],
      ["build", "pending"],
      ["test", "pending"],
      ["docs", "in_progress"],
      ["held", "in_progress"],
      ["stuck", "blocked"],
    ]);
    expect(await wholeBlackboard(run)).toMatchObject({
      facts: [{ id: "n1", text: "a fact" }],
      decisions: [{ id: "n2", step_id: "s1" }],
      open_questions: [],
      artifacts: [{ id: "p1", path: "/out/a" }],
      summaries: { rolling: "so far" },
      revision: 15,
    });
    const fresh = await newTestRun();
    const tablesOf = (of: TestRun) => inStorage(of, (sql) => (dump(sql) as { schema: unknown }).schema);
    expect(await tablesOf(run)).toEqual(await tablesOf(fresh));
    expect(await inStorage(run, (_sql, storage) => storedVersion(new Sql(storage)))).toBe(MIGRATIONS.length);
  });

  it("I14: its replay has no drift, and its checkpoints work", async () => {
    const run = await migratedRun();
    const replay = await replayOf(run);
    expect(replay).toMatchObject({ events_applied: 20, drift: { compared: true, mismatch: false } });
    const checkpoint = await checkpointed(run);
    expect(checkpoint.seq).toBe(20);
    await accepted(run, note(null, "running"));
    expect(await replayOf(run)).toMatchObject({
      checkpoint_seq: 20,
      events_applied: 1,
      drift: { mismatch: false },
    });
  });

  it("design: work goes on: claims in the old order, leases end, repeats are answered from the old receipts", async () => {
    const run = await migratedRun();
    clock.advance(5_000);
    const repeat = await submit(run.client, {
      command: { op: "claim_task", agent_id: "bob", lease_ms: 60_000 },
      commandId: "claim-design",
      fingerprint: "f",
    });
    expect(repeat).toMatchObject({ ok: true, repeat: { same: true }, outcome: { task: { id: "design" } } });
    expect((await claimed(run)).id).toBe("build");
    await accepted(run, creation(row("later", { status: "done" })));
    // The lease of "docs" ended 13 seconds after the run began, that of "held" lasts.
    clock.advance(10_000);
    await overviewOf(run);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect((await wholeRun(run)).tasks.map(({ id, status }) => [id, status])).toEqual([
      ["design", "done"],
      ["build", "in_progress"],
      ["test", "pending"],
      ["docs", "runnable"],
      ["held", "in_progress"],
      ["stuck", "blocked"],
      ["later", "done"],
    ]);
    expect((await claimed(run)).id).toBe("docs");
    await accepted(run, note(null, "running"));
    const before = await everything(run);
    await evictDurableObject(run.stub);
    expect(await everything(run)).toEqual(before);
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });

  it("design: what it owed the directory is paid after the migration", async () => {
    const run = await migratedRun();
    await overviewOf(run);
    clock.advance(1_000);
    expect(await runDurableObjectAlarm(run.stub)).toBe(true);
    expect(await listed(run)).toMatchObject({
      last_event_seq: 20,
      status: "paused",
      objective: "keep what was stored",
    });
  });

  it("design: migrating again changes nothing", async () => {
    const run = await migratedRun();
    await overviewOf(run);
    const [once, twice] = await inStorage(run, (sql, storage) => {
      const before = dump(sql);
      migrate(new Sql(storage), MIGRATIONS);
      return [before, dump(sql)];
    });
    expect(twice).toEqual(once);
    await evictDurableObject(run.stub);
    await overviewOf(run);
    expect(await inStorage(run, (sql) => dump(sql))).toEqual(once);
  });

  it("design: a migration that fails midway leaves the old version as it was", async () => {
    const run = await storedRun();
    const [before, after] = await inStorage(run, (sql, storage) => {
      // In the way of the last statements of the migration.
      sql.exec("CREATE TABLE checkpoint_parts (x)");
      const stored = dump(sql);
      expect(() => migrate(new Sql(storage), MIGRATIONS)).toThrow(/checkpoint_parts/);
      return [stored, dump(sql)];
    });
    expect(after).toEqual(before);
  });

  it("design: a schema newer than the code is refused by name, and nothing is written", async () => {
    const run = await storedRun();
    const [before, after] = await inStorage(run, (sql, storage) => {
      sql.exec("UPDATE schema_version SET version = 99");
      const stored = dump(sql);
      expect(() => migrate(new Sql(storage), MIGRATIONS)).toThrow(
        `the storage has schema 99, this release knows ${MIGRATIONS.length}`,
      );
      return [stored, dump(sql)];
    });
    expect(after).toEqual(before);
  });
});
