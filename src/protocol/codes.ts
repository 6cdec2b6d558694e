/** What a code means on `/v1`: its one status, a title, and what the caller should do. */
export interface CodeInfo {
  status: number;
  title: string;
  hint: string;
  /** Whether the same request may succeed later without being changed. */
  retryable: boolean;
}

const info = (status: number, title: string, hint: string, retryable = false): CodeInfo => ({
  status,
  title,
  hint,
  retryable,
});

/** Every code an answer can carry. Served at `/problems/{code}`, so each needs its entry here. */
export const CODES = {
  AUTH_REQUIRED: info(401, "Credential missing or wrong", "Send `Authorization: Bearer <token>`."),
  SETUP_REQUIRED: info(
    503,
    "Deployment is not set up",
    "Set the secret BATON_TOKEN on the deployment, or mend what `error` names; until then every request is refused.",
  ),
  KEYS_REQUIRED: info(
    503,
    "No keys configured",
    "Set the secret BATON_KEYS (32 characters or more) on the deployment: `wrangler secret put BATON_KEYS`.",
  ),
  IDENTITY_UNAVAILABLE: info(
    503,
    "Credential cannot be checked now",
    "Try again after `Retry-After` seconds.",
    true,
  ),
  TENANT_CONTEXT_DENIED: info(
    403,
    "Credential is of another tenant",
    "Leave the tenant headers away, or use a credential of that tenant: they choose for the root credential only.",
  ),
  TOKEN_BOUND: info(
    403,
    "Credential is bound to something else",
    "Stay with what `allowed` names, or use a credential without that binding.",
  ),
  TOKEN_NOT_FOUND: info(404, "No such token", "List the tenant's tokens with `GET /v1/tokens`."),
  TOKEN_NOT_NARROWER: info(
    403,
    "Token would be wider than its minter",
    "Ask for no more than the minting credential has; `GET /v1/whoami` shows that.",
  ),
  SCOPE_INSUFFICIENT: info(
    403,
    "Credential may not do this",
    "Use a credential with the scope that `needs` names, or have an operator mint one.",
  ),
  ROOT_REQUIRED: info(403, "Root credential required", "Ask whoever holds BATON_TOKEN."),
  QUOTA_EXCEEDED: info(
    403,
    "Quota used up",
    "Delete what is no longer needed, close streams, or have the holder of the root credential raise `quota`.",
  ),
  RATE_LIMITED: info(429, "Too many requests", "Wait for `Retry-After`, then go on more slowly.", true),
  OVERLOADED: info(
    503,
    "Too busy for now",
    "Wait for `Retry-After`, then repeat the request under the same idempotency key; use batches to send less often.",
    true,
  ),
  ROUTE_NOT_FOUND: info(404, "No such path", "See docs/http-api.md for the routes."),
  METHOD_NOT_ALLOWED: info(405, "Method not allowed", "Use a method of the `Allow` header."),
  ID_INVALID: info(
    400,
    "Malformed id",
    "Ids are 1 to 200 of the characters A-Z a-z 0-9 . _ : - and not . or ..",
  ),
  QUERY_INVALID: info(400, "Malformed query", "Mend the parameters that `issues` names."),
  HEADER_INVALID: info(400, "Malformed header", "Mend the headers that `issues` names."),
  CURSOR_INVALID: info(
    400,
    "Malformed cursor",
    "Use a cursor that this list or stream has given you, or none.",
  ),
  CONTENT_TYPE_UNSUPPORTED: info(415, "Content type is not JSON", "Send `Content-Type: application/json`."),
  BODY_MALFORMED: info(400, "Body is not JSON", "Send one JSON document in UTF-8."),
  BODY_INVALID: info(422, "Body does not fit", "Mend the fields that `issues` names."),
  BODY_TOO_LARGE: info(413, "Body too large", "Split the request, or upload large content as an artifact."),
  INTERNAL: info(500, "Internal error", "Try again; report `request_id` if it stays.", true),
  RUN_NOT_FOUND: info(404, "No such run", "Check the run id, or create the run."),
  RUN_DELETED: info(409, "Run was deleted", "Use another run id: that of a deleted run is never used again."),
  RUN_ARCHIVED: info(410, "Run is archived", "Restore it with `POST /v1/runs/{run_id}/restore`."),
  RUN_BUSY: info(
    409,
    "Run is in use",
    "Wait until no lease is out and nothing is committed, or end the work.",
    true,
  ),
  IMPORT_INVALID: info(
    422,
    "Import does not hold",
    "`issues` names the line and the rule; export the run again.",
  ),
  ARTIFACT_STORE_MISSING: info(
    501,
    "No bucket for artifacts",
    "Bind an R2 bucket as ARTIFACTS (wrangler.toml), or do without artifacts.",
  ),
  TASK_NOT_FOUND: info(404, "No such task", "Check the task id."),
  CONTEXT_RUN_EXISTS: info(409, "Run exists", "Use the existing run, or another id."),
  RUN_REVISION_MISMATCH: info(409, "Run has moved on", "Read the run again and repeat with its `revision`."),
  SEQ_UNKNOWN: info(404, "No such position", "Ask for a seq from 0 to `last_event_seq`."),
  CHECKPOINT_NOT_FOUND: info(
    404,
    "No such checkpoint",
    "Use an id, name or seq that the list of checkpoints shows.",
  ),
  CHECKPOINT_NAME_TAKEN: info(409, "Checkpoint name taken", "Use another name; `seq` is where it points."),
  TASK_EVENT_APPEND_DISABLED: info(
    422,
    "Task events have their own routes",
    "Use the task routes of the run.",
  ),
  TASK_PATCH_OP_DISABLED: info(422, "Task patches have their own routes", "Use the task routes of the run."),
  PATCH_PAYLOAD_INVALID: info(422, "Payload does not fit the op", "Mend the fields that `issues` names."),
  TASK_CONTRACT_INVALID: info(422, "Task payload is not an object", "Send an object or null as `payload`."),
  TASK_OUTPUT_TARGET_REQUIRED: info(
    422,
    "Output target missing",
    "Give implementation tasks a `payload.output_target.path`.",
  ),
  TASK_EXISTS: info(409, "Task exists", "Use the existing task, or another id."),
  TASK_DEPENDENCY_CYCLE: info(422, "Dependencies form a cycle", "Drop one of the edges that `cycle` shows."),
  TASK_REV_MISMATCH: info(409, "Task has moved on", "Read the task again; `task_rev` is the current one."),
  TASK_LEASE_REQUIRED: info(409, "Lease token missing", "Send the `lease_token` that the claim gave you."),
  TASK_LEASE_INVALID: info(
    409,
    "Lease lost",
    "Stop working on this task; another agent may hold it. Claim again.",
  ),
  LOCK_HELD: info(
    409,
    "Resources are locked",
    "Wait until `expires_at_ms` of the `conflicts`, or until they are released; name less, or share.",
    true,
  ),
  LOCK_NOT_FOUND: info(404, "No such lock", "See `GET …/locks` for those that are out."),
  LOCK_LOST: info(409, "Lock lost", "Stop what the lock was for; another agent may hold it. Take it anew."),
  TASK_TRANSITION_INVALID: info(
    409,
    "Action not allowed now",
    "See `current_status` for what the task allows.",
  ),
  RUN_TRANSITION_INVALID: info(
    409,
    "Run cannot be brought there now",
    "See `run_status`: what is over can only be resumed.",
  ),
  WORKSPACE_MISMATCH: info(
    409,
    "Wrong workspace",
    "Work in `expected_path`, or have an operator resume the run.",
  ),
  ROLLBACK_BLOCKED: info(
    409,
    "Rollback not applied",
    "See `error` for the reason; the attempt is in the rollback history and changed nothing.",
  ),
  COMMAND_ID_CONFLICT: info(422, "Idempotency key reused", "Use a new key for a new request."),
  LOG_DAMAGED: info(
    500,
    "Part of the log is damaged",
    "Restore the segment that holds `from_seq` to `upto_seq`, or read what lies outside; see docs/log.md.",
  ),
  FIELD_INVALID: info(400, "Field breaks a rule", "Mend the fields that `issues` names."),
  LIMIT_EXCEEDED: info(
    413,
    "Limit exceeded",
    "Stay within `limit`. A large payload goes into an artifact: upload it, then send `payload_artifact: {path}`.",
  ),
  ARTIFACT_PATH_INVALID: info(
    400,
    "Malformed artifact path",
    "Paths are relative, /-separated, NFC, without empty, . or .. segments, backslashes or control characters.",
  ),
  ARTIFACT_NOT_FOUND: info(404, "No such artifact", "List the run's artifacts, or a path's versions."),
  ARTIFACT_PRECONDITION_FAILED: info(
    412,
    "Artifact has moved on",
    "Read the path again: `version` and `sha256` are what it holds now.",
  ),
  DIGEST_MISMATCH: info(
    422,
    "Content has another digest",
    "Nothing was stored. Send the content again; `sha256` is the digest of what arrived.",
  ),
  UPLOAD_TRUNCATED: info(400, "Body ended early", "Nothing was stored. Send the content again.", true),
  CONTENT_LENGTH_REQUIRED: info(411, "Content-Length missing", "Send each part with its `Content-Length`."),
  RANGE_NOT_SATISFIABLE: info(416, "No such range", "Ask for bytes below `bytes`, the artifact's length."),
  UPLOAD_NOT_FOUND: info(404, "No such upload", "Begin a new upload; unfinished ones are kept for a day."),
  UPLOAD_INCOMPLETE: info(
    422,
    "Parts do not fit",
    "Mend the parts that `issues` names, then complete again.",
  ),
  MAPPING_INVALID: info(
    422,
    "Mapping does not fit",
    "Mend the mapping where `issues` says, try it with `POST /v1/mappings/test`, then replay the delivery.",
  ),
  MAPPING_LIMIT: info(
    422,
    "Mapping cut off",
    "Fill in less: `truncate` texts, `take` fewer elements. The raw payload is kept whole.",
  ),
  HOOK_NOT_FOUND: info(404, "No such hook", "Check the hook's id, or the URL that it was given."),
  HOOK_DISABLED: info(410, "Hook is disabled", "Have an operator enable it: `PUT /v1/hooks/{hook_id}`."),
  SIGNATURE_INVALID: info(
    401,
    "Delivery not verified",
    "Sign the bytes that you send, now, with an active secret; an operator sees the reason on the hook.",
  ),
  SECRET_NOT_FOUND: info(404, "No such secret", "What has secrets shows their ids."),
  DELIVERY_NOT_FOUND: info(404, "No such delivery", "List the hook's deliveries; they are kept for 30 days."),
  DELIVERY_BUSY: info(409, "Delivery is being processed", "Wait for it to end, then replay it.", true),
  UPLOAD_COMPLETED: info(409, "Upload is completed", "Its parts can no longer be changed."),
  SUBSCRIPTION_NOT_FOUND: info(404, "No such subscription", "See `GET /v1/subscriptions`."),
  DEAD_LETTER_NOT_FOUND: info(404, "No such dead letter", "It was delivered, or never given up."),
} as const satisfies Record<string, CodeInfo>;

export type Code = keyof typeof CODES;

export function isCode(text: string): text is Code {
  return Object.hasOwn(CODES, text);
}
