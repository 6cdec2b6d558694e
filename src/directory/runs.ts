import { normalisePath } from "../domain/workspace.ts";
import { cut } from "../protocol/cut.ts";
import { MAX_LISTED_OBJECTIVE_LENGTH } from "../protocol/limits.ts";
import type { RunHeader, RunSummary, TaskCounts, Workspace } from "../protocol/run.ts";
import type { RunStatus } from "../protocol/status.ts";
import { subscriptionsAbout } from "./subscriptions.ts";

/** What a run's object tells the directory. */
export interface DirectoryEntry {
  tenant: string;
  run: RunHeader;
  taskCounts: TaskCounts;
  /** Epoch ms, no later than the earliest lease expiry; null when no lease is out. */
  leaseDueAtMs: number | null;
}

export interface RunFilter {
  workspace?: string | undefined;
  run_type?: string | undefined;
  status?: RunStatus | undefined;
  source?: string | undefined;
  /** Only archived runs, or only others; both when absent. */
  archived?: boolean | undefined;
}

/** A place in the list of runs, latest update first; the page begins after it. */
export interface RunCursor {
  updated_at_ms: number;
  run_id: string;
}

/** A run whose leases may have run out. */
export interface DueRun {
  tenant: string;
  run_id: string;
  lease_due_at_ms: number;
}

interface StoredRun {
  run_id: string;
  run_type: string;
  source_client: string | null;
  workspace: string;
  status: RunStatus;
  objective: string;
  revision: number;
  last_event_seq: number;
  created_at_ms: number;
  updated_at_ms: number;
  task_counts: string;
  archived_at_ms: number | null;
}

/** Whether lists choose or show a run by something that has changed, so that its row should follow at once. */
export function isListedAnew(before: RunHeader, after: RunHeader): boolean {
  return (
    before.status !== after.status ||
    before.run_type !== after.run_type ||
    before.source_client !== after.source_client ||
    before.workspace.canonical_path !== after.workspace.canonical_path
  );
}

/** A row that is so far behind its run's last change has a time of its own (migrations/0011_late_runs.sql). */
export const LATE_AFTER_MS = 60_000;

const UPSERT = `
  INSERT INTO runs (tenant, run_id, run_type, run_type_key, source_client, source_key, workspace, workspace_key, status,
    objective, revision, last_event_seq, created_at_ms, updated_at_ms, task_counts, lease_due_at_ms, late_at_ms)
  SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17
  WHERE NOT EXISTS (SELECT 1 FROM tombstones WHERE tenant = ?1 AND run_id = ?2)
  ON CONFLICT (tenant, run_id) DO UPDATE SET
    run_type = excluded.run_type, run_type_key = excluded.run_type_key, source_client = excluded.source_client,
    source_key = excluded.source_key, workspace = excluded.workspace, workspace_key = excluded.workspace_key,
    status = excluded.status, objective = excluded.objective, revision = excluded.revision,
    archived_at_ms = NULL, last_event_seq = excluded.last_event_seq, created_at_ms = excluded.created_at_ms, updated_at_ms = excluded.updated_at_ms,
    task_counts = excluded.task_counts, lease_due_at_ms = excluded.lease_due_at_ms, late_at_ms = excluded.late_at_ms
  WHERE excluded.last_event_seq >= runs.last_event_seq
  RETURNING (${subscriptionsAbout({ tenant: "?1", run_id: "?2", run_type: "?4", source: "?6", workspace: "?8" })})
    AS subscription_ids`;

/**
 * Writes a run's row; a row that is already newer stays, and a deleted run gets none. Safe to repeat.
 * @returns the ids of the active subscriptions that are about the run; none when the row was not written.
 */
export async function putRun(db: D1Database, entry: DirectoryEntry): Promise<string[]> {
  const { run } = entry;
  const source = run.source_client ?? null;
  const nowMs = Date.now();
  const { results } = await db
    .prepare(UPSERT)
    .bind(
      entry.tenant,
      run.run_id,
      run.run_type,
      filterKey(run.run_type),
      source,
      source === null ? null : filterKey(source),
      JSON.stringify(run.workspace),
      normalisePath(run.workspace.canonical_path),
      run.status,
      cut(run.objective, MAX_LISTED_OBJECTIVE_LENGTH),
      run.revision,
      run.last_event_seq,
      run.created_at_ms,
      run.updated_at_ms,
      JSON.stringify(entry.taskCounts),
      entry.leaseDueAtMs,
      nowMs - run.updated_at_ms > LATE_AFTER_MS ? nowMs : null,
    )
    .run<{ subscription_ids: string }>();
  return JSON.parse(results[0]?.subscription_ids ?? "[]") as string[];
}

/** Up to `limit` runs of a tenant that match, latest update first, then run id descending (contract 02 §2.2). */
export async function listRuns(
  db: D1Database,
  tenant: string,
  filter: RunFilter,
  after: RunCursor | null,
  limit: number,
): Promise<RunSummary[]> {
  const conditions = ["tenant = ?"];
  const bindings: (string | number)[] = [tenant];
  const where = (condition: string, ...values: (string | number)[]) => {
    conditions.push(condition);
    bindings.push(...values);
  };
  if (filter.workspace !== undefined) where("workspace_key = ?", normalisePath(filter.workspace));
  if (filter.run_type !== undefined) where("run_type_key = ?", filterKey(filter.run_type));
  if (filter.status !== undefined) where("status = ?", filter.status);
  if (filter.source !== undefined) where("source_key = ?", filterKey(filter.source));
  if (filter.archived !== undefined) where(`archived_at_ms IS ${filter.archived ? "NOT " : ""}NULL`);
  if (after !== null) where("(updated_at_ms, run_id) < (?, ?)", after.updated_at_ms, after.run_id);
  const { results } = await db
    .prepare(
      `SELECT run_id, run_type, source_client, workspace, status, objective, revision, last_event_seq, created_at_ms,
         updated_at_ms, task_counts, archived_at_ms
       FROM runs WHERE ${conditions.join(" AND ")} ORDER BY updated_at_ms DESC, run_id DESC LIMIT ?`,
    )
    .bind(...bindings, limit)
    .all<StoredRun>();
  return results.map((row) => ({
    ...row,
    workspace: JSON.parse(row.workspace) as Workspace,
    task_counts: JSON.parse(row.task_counts) as TaskCounts,
  }));
}

/** What a feed asks of its runs, and what a stream asks of those it names. */
export interface ListedRun {
  run_id: string;
  /** Normalised. */
  workspace_key: string;
  /** May be about a second behind. */
  last_event_seq: number;
  updated_at_ms: number;
}

/**
 * Up to `limit` runs of a tenant, in one workspace unless that is null, latest update first, after a place in this order:
 * those that were updated at `sinceMs` or later.
 */
export async function runsInScope(
  db: D1Database,
  scope: { tenant: string; workspace: string | null },
  sinceMs: number,
  after: RunCursor | null,
  limit: number,
): Promise<ListedRun[]> {
  const { tenant, workspace } = scope;
  const { results } = await db
    .prepare(
      `SELECT run_id, workspace_key, last_event_seq, updated_at_ms FROM runs
       WHERE tenant = ? ${workspace === null ? "" : "AND workspace_key = ?"} AND updated_at_ms >= ?
         ${after === null ? "" : "AND (updated_at_ms, run_id) < (?, ?)"}
       ORDER BY updated_at_ms DESC, run_id DESC LIMIT ?`,
    )
    .bind(
      ...[tenant, ...(workspace === null ? [] : [workspace]), sinceMs],
      ...(after === null ? [] : [after.updated_at_ms, after.run_id]),
      limit,
    )
    .all<ListedRun>();
  return results;
}

/** Those of these runs that the tenant has. */
export async function runsById(db: D1Database, tenant: string, runIds: string[]): Promise<ListedRun[]> {
  const { results } = await db
    .prepare(
      `SELECT run_id, workspace_key, last_event_seq, updated_at_ms FROM runs
       WHERE tenant = ? AND run_id IN (SELECT value FROM json_each(?))`,
    )
    .bind(tenant, JSON.stringify(runIds))
    .all<ListedRun>();
  return results;
}

/** Up to `limit` runs, of any tenant, with a lease due at `nowMs` or before, in order of due time, after a place. */
export async function runsWithDueLeases(
  db: D1Database,
  nowMs: number,
  after: DueRun | null,
  limit: number,
): Promise<DueRun[]> {
  const { results } = await db
    .prepare(
      `SELECT tenant, run_id, lease_due_at_ms FROM runs
       WHERE lease_due_at_ms <= ?1 AND (lease_due_at_ms, tenant, run_id) > (?2, ?3, ?4)
       ORDER BY lease_due_at_ms, tenant, run_id LIMIT ?5`,
    )
    .bind(nowMs, after?.lease_due_at_ms ?? -1, after?.tenant ?? "", after?.run_id ?? "", limit)
    .all<DueRun>();
  return results;
}

/** Takes a run off the list of due leases: its object holds no run, so that nobody else ever will. */
export async function forgetLeaseDue(db: D1Database, due: DueRun): Promise<void> {
  await db
    .prepare("UPDATE runs SET lease_due_at_ms = NULL WHERE tenant = ? AND run_id = ? AND lease_due_at_ms = ?")
    .bind(due.tenant, due.run_id, due.lease_due_at_ms)
    .run();
}

function filterKey(text: string): string {
  return text.trim().toLowerCase();
}

/** Tenants other than `local/local` that have a run of an id, two at most: more is no answer to which one is meant. */
export async function otherTenantsWith(db: D1Database, runId: string): Promise<string[]> {
  // The condition on the tenant is literally that of the index, which SQLite would not use otherwise.
  const { results } = await db
    .prepare("SELECT tenant FROM runs WHERE run_id = ? AND tenant <> 'local/local' LIMIT 2")
    .bind(runId)
    .all<{ tenant: string }>();
  return results.map(({ tenant }) => tenant);
}
