import type { Sql } from "./sql.ts";

/** What brings an object's storage from one schema version to the next: the statements of each step, first step first. */
export type Migrations = readonly (readonly string[])[];

/** The schema version of this object's storage; 0 when nothing was ever stored. Writes nothing. */
export function storedVersion(sql: Sql): number {
  const table = sql.first("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'schema_version'");
  if (table === null) return 0;
  return sql.first<{ version: number }>("SELECT version FROM schema_version")?.version ?? 0;
}

/**
 * Brings the storage to the last of these versions, in one transaction.
 * @throws when the storage is newer than the code: an old release must not write what it does not understand.
 */
export function migrate(sql: Sql, migrations: Migrations): void {
  const from = storedVersion(sql);
  const to = migrations.length;
  if (from === to) return;
  if (from > to) throw new Error(`the storage has schema ${from}, this release knows ${to}`);
  sql.transaction(() => {
    if (from === 0) {
      sql.run(
        "CREATE TABLE schema_version (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), version INTEGER) STRICT",
      );
    }
    for (const statement of migrations.slice(from).flat()) sql.run(statement);
    sql.run(
      "INSERT INTO schema_version VALUES (1, ?) ON CONFLICT (only_row) DO UPDATE SET version = excluded.version",
      to,
    );
  });
}
