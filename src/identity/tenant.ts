import type { Tenant } from "../protocol/run.ts";

/** The tenant of the root credential that names no other. */
export const LOCAL_TENANT: Tenant = { org_id: "local", workspace_id: "local", source: "local_implicit" };

/** A tenant by its parts; local/local without an actor is what the contract calls implicit (02 §1.2). */
export function tenantOf(org_id: string, workspace_id: string, actor_id: string | null): Tenant {
  if (org_id === "local" && workspace_id === "local" && actor_id === null) return LOCAL_TENANT;
  return { org_id, workspace_id, ...(actor_id !== null && { actor_id }), source: "explicit" };
}

/** The tenant that a key stands for. */
export function tenantOfKey(key: string): Tenant {
  const [org = "", workspace = ""] = key.split("/");
  return tenantOf(decodeURIComponent(org), decodeURIComponent(workspace), null);
}

/** A tenant as a key of the directory and of object names; parts are percent-encoded, so they cannot run together. */
export function tenantKey(tenant: Tenant): string {
  return `${encodeURIComponent(tenant.org_id)}/${encodeURIComponent(tenant.workspace_id)}`;
}

/** The name of a run's object: another tenant's run of the same id is another object, and is not found. */
export function runObjectName(key: string, runId: string): string {
  return `${key}/${encodeURIComponent(runId)}`;
}

/** How the keys begin under which the sealed segments of a run's log lie in R2. */
export function segmentPrefix(key: string, runId: string): string {
  return `segments/${runObjectName(key, runId)}/`;
}

/** The name of a subscription's object. */
export function subscriptionObjectName(key: string, subscriptionId: string): string {
  return `${key}/${subscriptionId}`;
}

/** What the name of a subscription's object was made of. */
export function subscriptionOf(name: string): { tenant: string; subscription_id: string } {
  const [org = "", workspaceId = "", subscription_id = ""] = name.split("/");
  return { tenant: `${org}/${workspaceId}`, subscription_id };
}

/** What a feed brings together: the runs of one tenant, all of them or those of one workspace. */
export interface FeedScope {
  /** A tenant's key. */
  tenant: string;
  /** A normalised path; null for all of the tenant's runs, those without a path included. */
  workspace: string | null;
}

/**
 * The name of a feed's object. An imported run's path may have half a surrogate pair, which no URL can ask for: it is in the feed
 * of the path that the directory has in its place.
 */
export function feedObjectName({ tenant, workspace }: FeedScope): string {
  return workspace === null ? tenant : `${tenant}/${encodeURIComponent(workspace.toWellFormed())}`;
}

/** The scope that a feed's object has by its name. */
export function feedScope(name: string): FeedScope {
  const [org = "", workspaceId = "", path] = name.split("/");
  return { tenant: `${org}/${workspaceId}`, workspace: path === undefined ? null : decodeURIComponent(path) };
}
