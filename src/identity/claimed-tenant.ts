import { ACTOR_MESSAGE, isValidActor } from "../protocol/actor.ts";
import { issueForId } from "../protocol/ids.ts";
import type { Issue } from "../protocol/issue.ts";

/** What the tenant headers of a request say; null where they say nothing. Claims: they count for the root credential only. */
export interface ClaimedTenant {
  org_id: string | null;
  workspace_id: string | null;
  actor_id: string | null;
}

/** Of each part the headers in order; the first that is not blank counts (contract 02 §1.2). */
const ORG_HEADERS = ["x-tandem-org-id", "x-tenant-org-id"] as const;
const WORKSPACE_HEADERS = ["x-tandem-workspace-id", "x-tenant-workspace-id"] as const;
const ACTOR_HEADERS = ["x-tandem-actor-id", "x-user-id"] as const;

/** The tenant that a request's headers name; null when they name none. */
export function claimedTenant(headers: Headers): ClaimedTenant | null {
  const org_id = first(headers, ORG_HEADERS);
  const workspace_id = first(headers, WORKSPACE_HEADERS);
  const actor_id = first(headers, ACTOR_HEADERS);
  return org_id === null && workspace_id === null && actor_id === null
    ? null
    : { org_id, workspace_id, actor_id };
}

/** What is wrong with such claims. A header that came twice holds a comma, and is no id. */
export function issuesOfClaims({ org_id, workspace_id, actor_id }: ClaimedTenant): Issue[] {
  const issues: Issue[] = [];
  for (const [field, value] of [
    [ORG_HEADERS[0], org_id],
    [WORKSPACE_HEADERS[0], workspace_id],
  ] as const) {
    const issue = value === null ? null : issueForId(field, value);
    if (issue !== null) issues.push(issue);
  }
  if (actor_id !== null && !isValidActor(actor_id)) {
    issues.push({ field: ACTOR_HEADERS[0], rule: "actor", message: ACTOR_MESSAGE });
  }
  return issues;
}

function first(headers: Headers, names: readonly string[]): string | null {
  for (const name of names) {
    const value = headers.get(name)?.trim();
    if (value) return value;
  }
  return null;
}
