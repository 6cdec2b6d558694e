import type { Refusal } from "../domain/refusals.ts";
import { runNotFound } from "../domain/refusals.ts";
import { migrate } from "./storage/migrate.ts";
import { MIGRATIONS } from "./storage/schema.ts";
import type { Sql } from "./storage/sql.ts";

/** Where an archived run's export lies in R2. */
export interface ArchiveRef {
  key: string;
  /** Of all its bytes, lower-case hex. */
  sha256: string;
  bytes: number;
}

/** What is left in an object whose run is gone from there. */
export type Tombstone =
  /** For good: the id is never used again. */
  { kind: "deleted"; at_ms: number } | { kind: "archived"; at_ms: number; archive: ArchiveRef };

interface DocRow extends Record<string, SqlStorageValue> {
  doc: string;
}

export function readTombstone(sql: Sql): Tombstone | null {
  const row = sql.first<DocRow>("SELECT doc FROM tombstone");
  return row === null ? null : (JSON.parse(row.doc) as Tombstone);
}

/** Empties an object's storage but for a tombstone, in one transaction: there is no moment with neither run nor tombstone. */
export function wipe(sql: Sql, tombstone: Tombstone | null): void {
  sql.transaction(() => {
    const tables = sql.all<{ name: string }>(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    );
    for (const { name } of tables) sql.run(`DROP TABLE "${name}"`);
    migrate(sql, MIGRATIONS);
    if (tombstone !== null) sql.run("INSERT INTO tombstone VALUES (1, ?)", JSON.stringify(tombstone));
  });
}

/** Why there is no run to read or write here. */
export function absence(tombstone: Tombstone | null): Refusal {
  if (tombstone?.kind !== "archived") return runNotFound;
  return { code: "RUN_ARCHIVED", error: "run is archived", archived_at_ms: tombstone.at_ms };
}

/** Why no run of this id can be created here, or null. */
export function occupation(tombstone: Tombstone | null, runId: string): Refusal | null {
  if (tombstone === null) return null;
  return tombstone.kind === "deleted"
    ? { code: "RUN_DELETED", error: "the run was deleted" }
    : { code: "CONTEXT_RUN_EXISTS", error: "run already exists, and is archived", run_id: runId };
}
