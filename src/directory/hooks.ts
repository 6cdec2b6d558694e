import type { SchemeConfig } from "../protocol/hooks.ts";
import type { Tenant } from "../protocol/run.ts";

/** A hook's secret at rest. */
export interface SealedSecret {
  secret_id: string;
  /** Opens under the deployment's keyring, bound to its hook (hooks/in/secrets.ts). */
  sealed: string;
  created_at_ms: number;
}

/** A hook (migrations/0007_hooks.sql). */
export interface Hook {
  tenant: string;
  hook_id: string;
  public_id: string;
  name: string;
  owner: Tenant;
  scheme: SchemeConfig;
  mapping: unknown;
  secrets: SealedSecret[];
  enabled: boolean;
  max_body_bytes: number;
  created_at_ms: number;
  updated_at_ms: number;
  refused_count: number;
  last_refused_at_ms: number | null;
  last_refusal: string | null;
}

type Row = Omit<Hook, "owner" | "scheme" | "mapping" | "secrets" | "enabled"> & {
  owner: string;
  scheme: string;
  mapping: string;
  secrets: string;
  enabled: 0 | 1;
};

const COLUMNS = `tenant, hook_id, public_id, name, owner, scheme, mapping, secrets, enabled, max_body_bytes, created_at_ms,
  updated_at_ms, refused_count, last_refused_at_ms, last_refusal`;

function hookOf(row: Row): Hook {
  return {
    ...row,
    owner: JSON.parse(row.owner) as Tenant,
    scheme: JSON.parse(row.scheme) as SchemeConfig,
    mapping: JSON.parse(row.mapping) as unknown,
    secrets: JSON.parse(row.secrets) as SealedSecret[],
    enabled: row.enabled === 1,
  };
}

/** A tenant's hook; null when it has none of that id, or it was deleted. */
export async function findHook(db: D1Database, tenant: string, hookId: string): Promise<Hook | null> {
  const row = await db
    .prepare(`SELECT ${COLUMNS} FROM hooks WHERE tenant = ? AND hook_id = ? AND deleted_at_ms IS NULL`)
    .bind(tenant, hookId)
    .first<Row>();
  return row === null ? null : hookOf(row);
}

/** The hook of a URL. */
export async function findHookByPublicId(db: D1Database, publicId: string): Promise<Hook | null> {
  const row = await db
    .prepare(`SELECT ${COLUMNS} FROM hooks WHERE public_id = ? AND deleted_at_ms IS NULL`)
    .bind(publicId)
    .first<Row>();
  return row === null ? null : hookOf(row);
}

/** Up to `limit` hooks of a tenant by id, after one. */
export async function listHooks(
  db: D1Database,
  tenant: string,
  afterId: string,
  limit: number,
): Promise<Hook[]> {
  const { results } = await db
    .prepare(
      `SELECT ${COLUMNS} FROM hooks
       WHERE tenant = ? AND hook_id > ? AND deleted_at_ms IS NULL ORDER BY hook_id LIMIT ?`,
    )
    .bind(tenant, afterId, limit)
    .all<Row>();
  return results.map(hookOf);
}

/** How many hooks a tenant has, those whose deliveries are still being forgotten included; counts to `limit` at most. */
export async function countHooks(db: D1Database, tenant: string, limit: number): Promise<number> {
  const row = await db
    .prepare("SELECT count(*) AS hooks FROM (SELECT 1 FROM hooks WHERE tenant = ? LIMIT ?)")
    .bind(tenant, limit)
    .first<{ hooks: number }>();
  return row?.hooks ?? 0;
}

// Changes are statements, so that they share a batch with the audit event that tells of them.

export function insertHook(db: D1Database, hook: Hook): D1PreparedStatement {
  return db
    .prepare(
      `INSERT INTO hooks (tenant, hook_id, public_id, name, owner, scheme, mapping, secrets, enabled, max_body_bytes,
         created_at_ms, updated_at_ms, refused_count) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)`,
    )
    .bind(
      hook.tenant,
      hook.hook_id,
      hook.public_id,
      hook.name,
      JSON.stringify(hook.owner),
      JSON.stringify(hook.scheme),
      JSON.stringify(hook.mapping),
      JSON.stringify(hook.secrets),
      Number(hook.enabled),
      hook.max_body_bytes,
      hook.created_at_ms,
      hook.updated_at_ms,
    );
}

/** Writes what a hook is told to be; not its secrets, which have statements of their own. */
export function updateHook(db: D1Database, hook: Hook): D1PreparedStatement {
  return db
    .prepare(
      `UPDATE hooks SET name = ?, scheme = ?, mapping = ?, enabled = ?, max_body_bytes = ?, updated_at_ms = ?
       WHERE tenant = ? AND hook_id = ? AND deleted_at_ms IS NULL`,
    )
    .bind(
      hook.name,
      JSON.stringify(hook.scheme),
      JSON.stringify(hook.mapping),
      Number(hook.enabled),
      hook.max_body_bytes,
      hook.updated_at_ms,
      hook.tenant,
      hook.hook_id,
    );
}

type HookKey = Pick<Hook, "tenant" | "hook_id">;

/** Its secrets are gone at once; the row stays until its deliveries are. */
export function deleteHook(db: D1Database, { tenant, hook_id }: HookKey, nowMs: number): D1PreparedStatement {
  return db
    .prepare(
      `UPDATE hooks SET deleted_at_ms = ?, secrets = '[]', enabled = 0
       WHERE tenant = ? AND hook_id = ? AND deleted_at_ms IS NULL`,
    )
    .bind(nowMs, tenant, hook_id);
}

/** Adds a secret, unless there are `limit` of them. */
export function addSecret(
  db: D1Database,
  { tenant, hook_id }: HookKey,
  secret: SealedSecret,
  limit: number,
): D1PreparedStatement {
  return db
    .prepare(
      `UPDATE hooks SET secrets = json_insert(secrets, '$[#]', json(?1)), updated_at_ms = ?2
       WHERE tenant = ?3 AND hook_id = ?4 AND deleted_at_ms IS NULL AND json_array_length(secrets) < ?5`,
    )
    .bind(JSON.stringify(secret), secret.created_at_ms, tenant, hook_id, limit);
}

export function removeSecret(
  db: D1Database,
  { tenant, hook_id }: HookKey,
  secretId: string,
  nowMs: number,
): D1PreparedStatement {
  return db
    .prepare(
      `UPDATE hooks SET updated_at_ms = ?1, secrets =
         (SELECT json_group_array(json(value)) FROM json_each(hooks.secrets) WHERE value ->> 'secret_id' <> ?2)
       WHERE tenant = ?3 AND hook_id = ?4`,
    )
    .bind(nowMs, secretId, tenant, hook_id);
}

/** Counts deliveries to a hook that were not believed, with the reason of the last one. */
export async function countRefusals(
  db: D1Database,
  { tenant, hook_id }: HookKey,
  refused: { count: number; reason: string; atMs: number },
): Promise<void> {
  await db
    .prepare(
      `UPDATE hooks SET refused_count = refused_count + ?, last_refused_at_ms = ?, last_refusal = ?
       WHERE tenant = ? AND hook_id = ?`,
    )
    .bind(refused.count, refused.atMs, refused.reason, tenant, hook_id)
    .run();
}

/** Up to `limit` hooks that were deleted, earliest first. */
export async function deletedHooks(db: D1Database, limit: number): Promise<HookKey[]> {
  const { results } = await db
    .prepare(
      `SELECT tenant, hook_id FROM hooks WHERE deleted_at_ms IS NOT NULL
       ORDER BY deleted_at_ms, tenant, hook_id LIMIT ?`,
    )
    .bind(limit)
    .all<HookKey>();
  return results;
}

/** The last step of a deletion: nothing remembers the hook any more. */
export async function forgetHook(db: D1Database, { tenant, hook_id }: HookKey): Promise<void> {
  await db
    .prepare("DELETE FROM hooks WHERE tenant = ? AND hook_id = ? AND deleted_at_ms IS NOT NULL")
    .bind(tenant, hook_id)
    .run();
}
