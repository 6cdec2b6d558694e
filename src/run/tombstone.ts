import type { RunHead } from "../domain/head.ts";
import type { Refusal } from "../domain/refusals.ts";
import { runNotFound } from "../domain/refusals.ts";
import type { RunHeader } from "../protocol/run.ts";
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
  | { kind: "deleted"; at_ms: number }
  | ({ kind: "archived"; at_ms: number; revision: number; archive: ArchiveRef } & Secrets);

/** What stays in the object, as it stayed there before: an archive has none of it. */
interface Secrets {
  /** From which the run's lease tokens are derived, hex: a restored run can repeat them. Absent in those of older releases. */
  lease_key?: string;
}

/** What is in an object: a run, what is left of one, or nothing. */
export type Presence =
  | { kind: "run"; created_at_ms: number; revision: number }
  | Exclude<Tombstone, { kind: "archived" }>
  | Omit<Extract<Tombstone, { kind: "archived" }>, keyof Secrets>
  | { kind: "nothing" };

interface DocRow extends Record<string, SqlStorageValue> {
  doc: string;
}

export function readTombstone(sql: Sql): Tombstone | null {
  const row = sql.first<DocRow>("SELECT doc FROM tombstone");
  return row === null ? null : (JSON.parse(row.doc) as Tombstone);
}

/** What others may know of a tombstone. */
export function presenceOf(tombstone: Tombstone | null): Presence {
  if (tombstone?.kind !== "archived") return tombstone ?? { kind: "nothing" };
  const { lease_key: _key, ...told } = tombstone;
  return told;
}

/**
 * Empties an object's storage but for a tombstone, in one transaction: there is no moment with neither run nor tombstone.
 * Tables are emptied and not dropped: SQLite drops none while a cursor is open, and a page of the log that was cut short
 * leaves one until it is collected.
 */
export function wipe(sql: Sql, tombstone: Tombstone | null): void {
  sql.transaction(() => {
    const tables = sql.all<{ name: string }>(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'",
    );
    migrate(sql, MIGRATIONS);
    for (const { name } of tables) if (name !== "schema_version") sql.run(`DELETE FROM "${name}"`);
    if (tombstone !== null) sql.run("INSERT INTO tombstone VALUES (1, ?)", JSON.stringify(tombstone));
  });
}

/** Marks an object whose run is about to be wiped: from then on it holds none, whatever else is still stored. */
export function bury(sql: Sql, tombstone: Tombstone): void {
  sql.run(
    "INSERT INTO tombstone VALUES (1, ?) ON CONFLICT (only_row) DO UPDATE SET doc = excluded.doc",
    JSON.stringify(tombstone),
  );
}

/** Wipes what a crash has left beside a tombstone. */
export function finishWiping(sql: Sql, tombstone: Tombstone): void {
  if (sql.first("SELECT only_row FROM run") !== null) wipe(sql, tombstone);
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

/** Which run is meant to be deleted. */
export interface ErasureRequest {
  /** When it was created, epoch ms; null for whatever is here. */
  created_at_ms: number | null;
  /** Null for any. */
  expected_revision: number | null;
}

/** Why the run that is here is not the one to be deleted, or not yet; null when it is. */
export function refusalToErase(
  state: { row: { initial: RunHeader }; head(): RunHead },
  { created_at_ms, expected_revision }: ErasureRequest,
): Refusal | null {
  if (created_at_ms !== null && state.row.initial.created_at_ms !== created_at_ms) return runNotFound;
  const { revision } = state.head().run;
  if (expected_revision === null || expected_revision === revision) return null;
  const error = `run is at revision ${revision}, not ${expected_revision}`;
  return { code: "RUN_REVISION_MISMATCH", error, revision };
}
