import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Miniflare } from "miniflare";
import { reasonOf, StartError } from "./start-error.ts";

type Database = Awaited<ReturnType<Miniflare["getD1Database"]>>;

/** One schema step: a file of the migrations directory. */
export interface Migration {
  /** The file name, which orders the steps and marks them as applied. */
  name: string;
  sql: string;
}

/** The *.sql files of a directory, in the order of their names. */
export async function readMigrations(directory: string): Promise<Migration[]> {
  const names = (await readdir(directory)).filter((name) => name.endsWith(".sql")).sort();
  return await Promise.all(
    names.map(async (name) => ({ name, sql: await readFile(join(directory, name), "utf8") })),
  );
}

/**
 * Applies the steps that the database has not seen, each as one transaction together with its mark. The marks live in
 * the table that `wrangler d1 migrations apply` uses, so both tools can serve the same database.
 *
 * @returns the names of the steps applied now.
 * @throws StartError naming the step that failed; the steps before it stay applied.
 */
export async function applyMigrations(database: Database, migrations: Migration[]): Promise<string[]> {
  await database
    .prepare(
      "CREATE TABLE IF NOT EXISTS d1_migrations (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, " +
        "applied_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP NOT NULL)",
    )
    .run();
  const { results } = await database.prepare("SELECT name FROM d1_migrations").all<{ name: string }>();
  const seen = new Set(results.map((row) => row.name));
  const applied: string[] = [];
  for (const { name, sql } of migrations) {
    if (seen.has(name)) continue;
    const statements = withoutComments(sql);
    const mark = database.prepare("INSERT INTO d1_migrations (name) VALUES (?)").bind(name);
    try {
      await database.batch(statements === "" ? [mark] : [database.prepare(statements), mark]);
    } catch (error) {
      throw new StartError(`migration ${name} failed: ${reasonOf(error)}`);
    }
    applied.push(name);
  }
  return applied;
}

/** A comment behind the last statement would count as a statement without content, which D1 refuses. */
function withoutComments(sql: string): string {
  const quotedOrComment =
    /('(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])|--[^\n]*|\/\*[\s\S]*?\*\//g;
  return sql.replace(quotedOrComment, (_, quoted: string | undefined) => quoted ?? " ").trim();
}
