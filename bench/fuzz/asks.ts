import { type BodyName, contextBodies, nativeBodies } from "../../src/protocol/bodies.ts";
import { hookBodies } from "../../src/protocol/hooks.ts";
import { hookTestSchema, mappingTestSchema } from "../../src/protocol/mapping.ts";
import type { QueryKind } from "../../src/protocol/query.ts";
import { quotasBody } from "../../src/protocol/quotas.ts";
import { retentionBody } from "../../src/protocol/retention.ts";
import {
  emptyBody,
  enableBody,
  newSecretBody,
  newSubscriptionBody,
  replayBody,
  subscriptionBody,
} from "../../src/protocol/subscription.ts";
import { mintBody } from "../../src/protocol/tokens.ts";
import type { Schema } from "./values.ts";

/** A route of the server's table, as the server tells it. */
export interface RouteFacts {
  readonly method: string;
  readonly path: string;
  readonly door: "context" | "native";
  /** Null where any credential will do. */
  readonly needs: string | null;
}

/**
 * What requests to a route are made of.
 *
 * - `body`: the schema of its JSON body.
 * - `content`: a body of another kind: `bytes` of an artifact, an `export`, the files of a `form`, a `delivery` to a hook.
 * - `query`: the parameters that it knows.
 * - `stream`: it answers with a stream that has no end of its own, or takes a WebSocket.
 */
export interface Ask {
  readonly body?: () => Schema;
  readonly content?: "bytes" | "export" | "form" | "delivery";
  readonly query?: Readonly<Record<string, QueryKind>>;
  readonly stream?: true;
}

const PAGE = { limit: "uint", cursor: "string" } as const;
const LOG = { ...PAGE, since_seq: "uint", tail: "uint" } as const;
const PROOF = {
  expected_version: "uint",
  task_id: "string",
  lock_id: "string",
  lease_token: "string",
} as const;
const STREAM = {
  since_seq: "uint",
  tail: "uint",
  types: "string",
  patches: "bool",
  until: "string",
  cursor: "string",
  workspace: "string",
  run_ids: "string",
} as const;
const RUNS = {
  ...PAGE,
  workspace: "string",
  run_type: "string",
  source: "string",
  status: "string",
  archived: "bool",
} as const;

/** Below a run: a body's name stands for its schema at the door that the request comes in by. */
type RunAsk = Omit<Ask, "body"> & { readonly body?: BodyName };

const RUN_ASKS: Readonly<Record<string, RunAsk>> = {
  "GET ": {},
  "PUT ": { body: "replaceRun" },
  "GET /settings": {},
  "PUT /settings": { body: "putSettings" },
  "GET /events": { query: { ...LOG, wait_ms: "uint" } },
  "POST /events": { body: "appendEvent" },
  "GET /events/stream": { query: STREAM, stream: true },
  "POST /todos/sync": { body: "syncTodos" },
  "POST /driver/next": { body: "selectNextStep" },
  "POST /lease/validate": { body: "validateWorkspace" },
  "GET /blackboard": {},
  "GET /blackboard/patches": { query: { ...LOG, wait_ms: "uint" } },
  "POST /blackboard/patches": { body: "patchBlackboard" },
  "GET /tasks": { query: { ...PAGE, status: "string", dead_letter: "bool", ready: "bool" } },
  "POST /tasks": { body: "createTasks" },
  "POST /tasks/claim": { body: "claimTask" },
  "POST /tasks/redrive": { body: "redriveTasks" },
  "POST /tasks/:task_id/redrive": { body: "redriveTask" },
  "GET /tasks/:task_id": {},
  "GET /tasks/:task_id/why": {},
  "POST /tasks/:task_id/transition": { body: "transitionTask" },
  "POST /commands": { body: "commands" },
  "POST /tasks/:task_id/cancel": { body: "cancelTask" },
  "POST /tasks/:task_id/dependencies": { body: "changeDependencies" },
  "POST /pause": { body: "haltRun" },
  "POST /resume": { body: "resumeRun" },
  "POST /cancel": { body: "haltRun" },
  "POST /wait": { body: "waitFor" },
  "POST /locks": { body: "acquireLock" },
  "GET /locks": {},
  "GET /locks/:lock_id": {},
  "POST /locks/:lock_id/heartbeat": { body: "heartbeatLock" },
  "POST /locks/:lock_id/release": { body: "releaseLock" },
  "POST /checkpoints": { body: "createNamedCheckpoint" },
  "GET /checkpoints": { query: PAGE },
  "GET /checkpoints/latest": {},
  "GET /state": { query: { at_seq: "uint" } },
  "GET /diff": { query: { from: "uint", to: "uint" } },
  "POST /fork": { body: "forkRun" },
  "GET /replay": { query: { upto_seq: "uint", from_checkpoint: "bool" } },
  "GET /export": { query: { artifacts: "bool" } },
  "GET /artifacts": { query: { ...PAGE, prefix: "string", path: "string", versions: "bool" } },
  "POST /artifacts": { body: "appendArtifact" },
  "GET /artifacts/:path+": { query: { version: "uint" } },
  "PUT /artifacts/:path+": {
    content: "bytes",
    query: { ...PROOF, artifact_type: "string", id: "string", step_id: "string", source_event_id: "string" },
  },
  "DELETE /artifacts/:path+": { query: PROOF },
  "POST /uploads": { body: "startUpload" },
  "DELETE /uploads/:upload_id": {},
  "PUT /uploads/:upload_id/parts/:part": { content: "bytes", query: { lease_token: "string" } },
  "POST /uploads/:upload_id/complete": { body: "completeUpload" },
  "GET /verify": { query: { from_seq: "uint", upto_seq: "uint", cursor: "string" } },
  "GET /ledger": { query: LOG },
  "GET /checkpoints/mutations": { query: LOG },
  "POST /checkpoints/mutations": { body: "recordMutation" },
  "GET /checkpoints/mutations/rollback-preview": { query: LOG },
  "GET /checkpoints/mutations/rollback-history": { query: LOG },
  "POST /checkpoints/mutations/rollback-execute": { body: "executeRollback" },
  "GET /checkpoints/:checkpoint": {},
  "GET /governance-evidence": {},
  "DELETE ": {},
  "POST /archive": {},
  "POST /restore": {},
};

const OTHER_ASKS: Readonly<Record<string, Ask>> = {
  "POST /context/runs": { body: () => contextBodies().createRun },
  "GET /context/runs": { query: RUNS },
  "POST /v1/runs": { body: () => nativeBodies().createRun },
  "GET /v1/runs": { query: RUNS },
  "GET /v1/retention": {},
  "PUT /v1/retention": { body: retentionBody },
  "POST /v1/runs/import": { content: "export", query: { run_id: "string" } },
  "POST /v1/runs/import/reference": { content: "form", query: { run_id: "string" } },
  "GET /context/runs/events/stream": { query: STREAM, stream: true },
  "GET /v1/events/stream": { query: STREAM, stream: true },
  "GET /v1/whoami": {},
  "POST /v1/tokens": { body: mintBody },
  "GET /v1/tokens": { query: PAGE },
  "GET /v1/tokens/:token_id": {},
  "POST /v1/tokens/:token_id/revoke": {},
  "GET /v1/audit": { query: PAGE },
  "POST /v1/hooks": { body: () => hookBodies().create },
  "GET /v1/hooks": { query: PAGE },
  "GET /v1/hooks/:hook_id": {},
  "PUT /v1/hooks/:hook_id": { body: () => hookBodies().put },
  "DELETE /v1/hooks/:hook_id": {},
  "POST /v1/hooks/:hook_id/secrets": { body: () => hookBodies().addSecret },
  "DELETE /v1/hooks/:hook_id/secrets/:secret_id": {},
  "GET /v1/hooks/:hook_id/deliveries": { query: { ...PAGE, status: "string" } },
  "GET /v1/hooks/:hook_id/deliveries/:delivery_id": {},
  "GET /v1/hooks/:hook_id/deliveries/:delivery_id/payload": {},
  "POST /v1/hooks/:hook_id/deliveries/:delivery_id/replay": {},
  "POST /v1/hooks/:hook_id/test": { body: hookTestSchema },
  "POST /v1/subscriptions": { body: newSubscriptionBody },
  "GET /v1/subscriptions": { query: PAGE },
  "GET /v1/subscriptions/:subscription_id": {},
  "PUT /v1/subscriptions/:subscription_id": { body: subscriptionBody },
  "DELETE /v1/subscriptions/:subscription_id": {},
  "POST /v1/subscriptions/:subscription_id/enable": { body: enableBody },
  "POST /v1/subscriptions/:subscription_id/disable": { body: emptyBody },
  "POST /v1/subscriptions/:subscription_id/test": { body: emptyBody },
  "POST /v1/subscriptions/:subscription_id/replay": { body: replayBody },
  "POST /v1/subscriptions/:subscription_id/secrets": { body: newSecretBody },
  "DELETE /v1/subscriptions/:subscription_id/secrets/:secret_id": {},
  "GET /v1/subscriptions/:subscription_id/attempts": {},
  "GET /v1/subscriptions/:subscription_id/dead-letters": { query: PAGE },
  "POST /v1/subscriptions/:subscription_id/dead-letters/:letter_id/redeliver": { body: emptyBody },
  "GET /v1/mappings/presets": {},
  "POST /v1/mappings/test": { body: mappingTestSchema },
  "GET /v1/quotas": {},
  "PUT /v1/quotas": { body: quotasBody },
};

/** Routes that stand in no table of the server: they need no credential. */
export const OPEN_ROUTES: readonly (RouteFacts & { readonly ask: Ask })[] = [
  { method: "POST", path: "/hooks/:public_id", door: "native", needs: null, ask: { content: "delivery" } },
  { method: "GET", path: "/global/health", door: "context", needs: null, ask: {} },
  { method: "GET", path: "/", door: "context", needs: null, ask: {} },
  { method: "GET", path: "/problems/:code", door: "context", needs: null, ask: {} },
];

/** What requests to the route are made of; undefined for one that nobody has said it of, which fails the fuzz. */
export function askOf({ method, path, door }: Pick<RouteFacts, "method" | "path" | "door">): Ask | undefined {
  const below = /^\/(?:context|v1)\/runs\/:run_id(.*)$/.exec(path);
  if (below === null) return OTHER_ASKS[`${method} ${path}`];
  const ask = RUN_ASKS[`${method} ${below[1]}`];
  if (ask === undefined) return undefined;
  const { body, ...rest } = ask;
  if (body === undefined) return rest;
  return { ...rest, body: () => (door === "context" ? contextBodies() : nativeBodies())[body] };
}

/** Every ask, by what a reader would call it. */
export const ASK_NAMES: readonly string[] = [
  ...Object.keys(OTHER_ASKS),
  ...Object.keys(RUN_ASKS).map((name) => name.replace(" ", " …/runs/:run_id")),
];
