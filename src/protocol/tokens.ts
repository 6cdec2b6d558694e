import * as z from "zod/mini";
import { ACTOR_MESSAGE, isValidActor } from "./actor.ts";
import { issueForId } from "./ids.ts";
import { lazy } from "./lazy.ts";
import { MAX_TOKEN_LABEL_LENGTH, MAX_TOKEN_LIFETIME_MS, MAX_TOKEN_TASK_TYPES } from "./limits.ts";
import { maxLength, minLength } from "./schema.ts";
import { SCOPES, type Scope } from "./scope.ts";

/** A token as lists show it; the token itself is shown once, by the call that mints it. */
export interface TokenView {
  token_id: string;
  /** For people. */
  name: string | null;
  scopes: Scope[];
  /** What it is bound to; null where it is bound to nothing. */
  actor_id: string | null;
  run_id: string | null;
  agent_id: string | null;
  task_types: string[] | null;
  /** Id of the credential that minted it. */
  minted_by: string;
  /** Ids of the tokens that it comes from, the first one first. */
  ancestors: string[];
  minted_at_ms: number;
  expires_at_ms: number;
  revoked_at_ms: number | null;
  /** Whether it is accepted now: neither it nor one that it comes from has expired or was revoked. */
  active: boolean;
}

/** A text that a rule of ours holds for; the issue tells its name and message. */
const text = (rule: string, message: string, holds: (value: string) => boolean) =>
  z.string().check(z.refine(holds, { error: message, params: { rule } }));

const id = z.string().check((context) => {
  const issue = issueForId("", context.value);
  if (issue === null) return;
  const params = { rule: issue.rule, ...(issue.limit !== undefined && { limit: issue.limit }) };
  context.issues.push({ code: "custom", input: context.value, message: issue.message.trimStart(), params });
});
const actor = text("actor", ACTOR_MESSAGE, isValidActor);
const label = z.string().check(minLength(1), maxLength(MAX_TOKEN_LABEL_LENGTH));

/** The body of `POST /v1/tokens`. What is absent or null is as wide as the credential that mints. */
export const mintBody = lazy(() =>
  z.strictObject({
    scopes: z.array(z.enum(SCOPES)).check(minLength(1), maxLength(SCOPES.length)),
    name: z.nullish(label),
    expires_in_ms: z.nullish(z.int().check(z.minimum(1_000), z.maximum(MAX_TOKEN_LIFETIME_MS))),
    actor_id: z.nullish(actor),
    run_id: z.nullish(id),
    agent_id: z.nullish(label),
    task_types: z.nullish(z.array(label).check(minLength(1), maxLength(MAX_TOKEN_TASK_TYPES))),
    /** The root credential only: for another tenant than the one it acts for. */
    tenant: z.nullish(z.strictObject({ org_id: id, workspace_id: id })),
  }),
);

export type MintBody = z.output<ReturnType<typeof mintBody>>;
