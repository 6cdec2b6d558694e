import { Miniflare } from "miniflare";
import { afterAll, beforeAll, expect, test } from "vitest";
import { applyMigrations } from "../../scripts/migrations.ts";

let miniflare: Miniflare;

beforeAll(() => {
  miniflare = new Miniflare({
    cf: false,
    workers: [
      {
        config: {
          name: "databases",
          compatibilityDate: "2026-10-23",
          manifest: {
            mainModule: "index.js",
            modulesRoot: "/",
            modules: { "index.js": { type: "esm", contents: "export default {}" } },
          },
          env: { GOOD: { type: "d1", id: "good" }, BAD: { type: "d1", id: "bad" } },
        },
      },
    ],
  });
});

afterAll(() => miniflare.dispose());

test("applies each step once, whatever its comments, quotes and triggers look like", async () => {
  const database = await miniflare.getD1Database("GOOD");
  const first = {
    name: "0001_first.sql",
    sql: `-- it's the first
      CREATE TABLE notes (text TEXT DEFAULT 'a -- b; /* c */'); /* two
      lines */
      CREATE TABLE log (text TEXT);
      CREATE TRIGGER copy AFTER INSERT ON notes BEGIN INSERT INTO log VALUES (new.text); SELECT 1; END;
      -- end`,
  };
  const second = { name: "0002_empty.sql", sql: "-- nothing to do\n" };
  expect(await applyMigrations(database, [first])).toEqual(["0001_first.sql"]);
  expect(await applyMigrations(database, [first, second])).toEqual(["0002_empty.sql"]);
  expect(await applyMigrations(database, [first, second])).toEqual([]);
  await database.prepare("INSERT INTO notes DEFAULT VALUES").run();
  expect((await database.prepare("SELECT text FROM log").all()).results).toEqual([
    { text: "a -- b; /* c */" },
  ]);
  const marks = await database.prepare("SELECT id, name, applied_at FROM d1_migrations ORDER BY id").all();
  expect(marks.results).toMatchObject([
    { id: 1, name: "0001_first.sql", applied_at: expect.any(String) },
    { id: 2, name: "0002_empty.sql" },
  ]);
});

test("a step that fails leaves nothing behind and is named", async () => {
  const database = await miniflare.getD1Database("BAD");
  const step = { name: "0001_bad.sql", sql: "CREATE TABLE half (x); CREATE TABLE half (x);" };
  await expect(applyMigrations(database, [step])).rejects.toThrow(/^migration 0001_bad\.sql failed: /);
  const { results } = await database.prepare("SELECT name FROM sqlite_master WHERE name = 'half'").all();
  expect(results).toEqual([]);
  expect((await database.prepare("SELECT name FROM d1_migrations").all()).results).toEqual([]);
});
