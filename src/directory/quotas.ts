import { DEFAULT_QUOTAS } from "../protocol/limits.ts";
import { QUOTAS, type QuotaName, type Quotas } from "../protocol/quotas.ts";

/** Quotas whose use the directory counts. Who follows streams is known to the tenant's feed (feed/seats.ts). */
export type CountedQuota = Exclude<QuotaName, "streams">;

/** What a tenant may have, and what it has. */
export interface Allowance {
  limits: Record<QuotaName, number>;
  /** Limits that are the tenant's own; null where the default holds. */
  own: Quotas;
  used: Record<CountedQuota, number>;
}

/** Why a tenant gets no more of something. */
export interface QuotaExceeded {
  code: "QUOTA_EXCEEDED";
  error: string;
  quota: QuotaName;
  limit: number;
  used: number;
}

interface StoredAllowance extends Quotas {
  used_runs: number;
  used_bytes: number;
  used_deliveries: number;
  used_tokens: number;
}

/** Two rows by their keys, if they are there. */
export async function readAllowance(db: D1Database, tenant: string): Promise<Allowance> {
  const row = await db
    .prepare(
      `SELECT q.runs, q.artifact_bytes, q.streams, q.deliveries, q.tokens,
         coalesce(u.runs, 0) AS used_runs, coalesce(u.artifact_bytes, 0) AS used_bytes,
         coalesce(u.deliveries, 0) AS used_deliveries, coalesce(u.tokens, 0) AS used_tokens
       FROM (SELECT ?1 AS tenant) t LEFT JOIN quotas q USING (tenant) LEFT JOIN usage u USING (tenant)`,
    )
    .bind(tenant)
    .first<StoredAllowance>();
  const own: Quotas = {
    runs: row?.runs ?? null,
    artifact_bytes: row?.artifact_bytes ?? null,
    streams: row?.streams ?? null,
    deliveries: row?.deliveries ?? null,
    tokens: row?.tokens ?? null,
  };
  const limits = { ...DEFAULT_QUOTAS };
  for (const name of QUOTAS) limits[name] = own[name] ?? DEFAULT_QUOTAS[name];
  const used = {
    runs: row?.used_runs ?? 0,
    artifact_bytes: row?.used_bytes ?? 0,
    deliveries: row?.used_deliveries ?? 0,
    tokens: row?.used_tokens ?? 0,
  };
  return { limits, own, used };
}

/**
 * Why a tenant may not have so much more of something; null when it may. Nothing is reserved: requests that are on their
 * way together may all pass, so that a tenant can end a little over its quota, by no more than what it sends at once.
 */
export function exceeded(allowance: Allowance, quota: CountedQuota, more: number): QuotaExceeded | null {
  const limit = allowance.limits[quota];
  const used = allowance.used[quota];
  return used + more > limit ? quotaExceeded(quota, limit, used) : null;
}

export function quotaExceeded(quota: QuotaName, limit: number, used: number): QuotaExceeded {
  const error = `the tenant's quota of ${quota} is ${limit}, of which ${used} are used`;
  return { code: "QUOTA_EXCEEDED", error, quota, limit, used };
}

/** The statement that replaces a tenant's own limits. */
export function writeQuotas(
  db: D1Database,
  tenant: string,
  { runs, artifact_bytes, streams, deliveries, tokens }: Quotas,
  nowMs: number,
): D1PreparedStatement {
  return db
    .prepare(
      `INSERT INTO quotas (tenant, runs, artifact_bytes, streams, deliveries, tokens, updated_at_ms)
       VALUES (?, ?, ?, ?, ?, ?, ?)
       ON CONFLICT (tenant) DO UPDATE SET runs = excluded.runs, artifact_bytes = excluded.artifact_bytes,
         streams = excluded.streams, deliveries = excluded.deliveries, tokens = excluded.tokens,
         updated_at_ms = excluded.updated_at_ms`,
    )
    .bind(tenant, runs, artifact_bytes, streams, deliveries, tokens, nowMs);
}
