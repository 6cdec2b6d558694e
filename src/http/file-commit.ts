import { runHolder } from "../artifacts/keys.ts";
import type { ArtifactResult } from "../artifacts/problems.ts";
import { type ArtifactStore, artifactStore, type Content } from "../artifacts/store.ts";
import type { CommandOf, FileCondition } from "../domain/command.ts";
import type { OutcomeOf } from "../domain/outcome.ts";
import { commandIdConflict } from "../domain/refusals.ts";
import { tenantKey } from "../identity/tenant.ts";
import { readEntityTags } from "../protocol/entity-tags.ts";
import { MAX_LABEL_LENGTH } from "../protocol/limits.ts";
import { submit } from "../run/run-client.ts";
import { type Call, unwrap } from "./call.ts";
import { byRulesOf, replayHeaders, rowHeaders } from "./command.ts";
import type { Identified } from "./idempotency.ts";
import { RequestRefused, refuseIssues } from "./problem.ts";

/** A command that puts something where the content is not known yet. */
export type PutPlan = Omit<CommandOf<"put_artifact">, "op" | "sha256" | "bytes">;

/** The tenant's store. @throws RequestRefused when the deployment has none */
export function storeOf(call: Call): ArtifactStore {
  const store = artifactStore(call.env, tenantKey(call.tenant));
  if (store !== null) return store;
  throw new RequestRefused({
    code: "ARTIFACT_STORE_MISSING",
    error: "this deployment has no bucket for artifacts",
  });
}

/** The value of a result, or its problem as the answer. */
export function unwrapContent<T>(result: ArtifactResult<T>): T {
  if (!result.ok) throw new RequestRefused(result.problem);
  return result.value;
}

/** Refuses what the commit would be refused for anyway, and what is over the quota, before content is taken in. */
export async function admit(call: Call, plan: PutPlan, commandId: string | undefined): Promise<void> {
  const command = { op: "put_artifact", ...plan, ...NOTHING } as const;
  const { isRepeat } = unwrap(await call.run().admits({ command: byRulesOf(call.door, command), commandId }));
  await call.requireRoom(async () => isRepeat);
}

const NOTHING = { sha256: "0".repeat(64), bytes: 0 };

/** The key of a commit. `anyBody`: whatever else is asked for under it, the first answer is given. */
type CommitKey = Identified & { anyBody?: boolean };

/** What a content that was put under a key before was answered; null when none was. */
export async function repeatedContent(
  call: Call,
  identified: CommitKey,
): Promise<Committed<"put_artifact"> | null> {
  const command = {
    op: "put_artifact",
    path: "",
    content_type: "",
    artifact: { artifact_type: "" },
    ...NOTHING,
  } as const;
  const { commandId } = identified;
  const admitted = await call.run().admits({ command, commandId });
  if (!admitted.ok || !admitted.value.isRepeat) return null;
  return commitFile(call, command, identified);
}

/** What a commit of the artifact space came to. */
export interface Committed<Op extends "put_artifact" | "remove_artifact"> {
  outcome: OutcomeOf<Op>;
  headers: Record<string, string>;
}

/** Puts a content into the run that is held for it, and notes that the run has it. */
export async function commitContent(
  call: Call,
  store: ArtifactStore,
  plan: PutPlan,
  { sha256, bytes }: Content,
  identified: CommitKey | null,
): Promise<Committed<"put_artifact">> {
  const committed = await commitFile(call, { op: "put_artifact", ...plan, sha256, bytes }, identified);
  const { file } = committed.outcome;
  // Any key can be a client's: what it has put under this one is not what is put now.
  const isOther = file.path !== plan.path || file.sha256 !== sha256;
  if (identified?.anyBody === true && isOther) throw new RequestRefused(commandIdConflict);
  // Not confirmed, it is asked for by collection: no reason to fail what is done.
  await store.confirm(runHolder(call.id("run_id")), [sha256]).catch((error: unknown) => {
    console.error(JSON.stringify({ event: "confirm_failed", error: String(error) }));
  });
  return committed;
}

/** Runs a command on the artifact space; a repeat gets the first answer. */
export async function commitFile<Op extends "put_artifact" | "remove_artifact">(
  call: Call,
  command: CommandOf<Op>,
  identified: CommitKey | null,
): Promise<Committed<Op>> {
  const answer = await submit(call.run(), {
    command: byRulesOf(call.door, command),
    commandId: identified?.commandId,
    fingerprint: identified?.fingerprint,
  });
  if (!answer.ok) throw new RequestRefused(answer.refusal);
  const headers = rowHeaders(answer.rows);
  if (answer.repeat !== null) Object.assign(headers, replayHeaders(answer.repeat));
  const isOther = answer.repeat?.same === false && identified?.anyBody !== true;
  if (answer.outcome === null || isOther) throw new RequestRefused(commandIdConflict);
  return { outcome: answer.outcome as OutcomeOf<Op>, headers };
}

/** The answer to a content that was put. */
export function putAnswer(call: Call, { outcome: { patch, file }, headers }: Committed<"put_artifact">) {
  const path = file.path.split("/").map(encodeURIComponent).join("/");
  return {
    members: { artifact: patch.payload, file },
    status: 201,
    headers: {
      ...headers,
      location: `/v1/runs/${call.id("run_id")}/artifacts/${path}?version=${file.version}`,
      etag: `"${file.sha256}"`,
    },
  };
}

/** What the request's headers, and its `expected_version`, want the path to hold. @throws RequestRefused */
export function conditionOf(call: Call, version: number | undefined): FileCondition | undefined {
  const { headers } = call.request;
  const match = readEntityTags("If-Match", headers.get("if-match"));
  const none = readEntityTags("If-None-Match", headers.get("if-none-match"));
  if (!match.ok) refuseIssues("HEADER_INVALID", [match.issue]);
  if (!none.ok) refuseIssues("HEADER_INVALID", [none.issue]);
  if (none.tags !== null && none.tags !== "*") {
    const message = "If-None-Match: must be * where something is written";
    refuseIssues("HEADER_INVALID", [{ field: "If-None-Match", rule: "entity_tags", message }]);
  }
  if (match.tags !== null && none.tags !== null) {
    const message = "If-Match: cannot be combined with If-None-Match";
    refuseIssues("HEADER_INVALID", [{ field: "If-Match", rule: "one_condition", message }]);
  }
  const condition: FileCondition = {
    ...(match.tags === "*" && { exists: true }),
    ...(none.tags === "*" && { exists: false }),
    // If-Match compares strongly: a weak tag never matches.
    ...(Array.isArray(match.tags) && {
      sha256: match.tags.filter(({ isWeak }) => !isWeak).map(({ tag }) => tag),
    }),
    ...(version !== undefined && { version }),
  };
  return Object.keys(condition).length === 0 ? undefined : condition;
}

/** The lease token that a request proves its lease with: the header, or else what its query or body has. */
export function leaseTokenOf(call: Call, given: string | undefined): string | undefined {
  return call.request.headers.get("baton-lease-token")?.trim() || given || undefined;
}

/** Refuses query parameters that are longer than labels may be. @throws RequestRefused */
export function checkLabels(values: Record<string, string | number | undefined>): void {
  const limit = MAX_LABEL_LENGTH;
  const issues = Object.entries(values).flatMap(([field, value]) =>
    typeof value === "string" && value.length > limit
      ? [{ field, rule: "max_length", limit, message: `${field} must have at most ${limit} characters` }]
      : [],
  );
  if (issues.length > 0) refuseIssues("QUERY_INVALID", issues);
}
