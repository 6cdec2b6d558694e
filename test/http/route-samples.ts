import type { ROUTES } from "../../src/http/routes.ts";

type Route = (typeof ROUTES)[number];

/** A request that a route takes, but for the ids in its path. */
export interface Sample {
  body?: unknown;
  headers?: Record<string, string>;
  query?: string;
  /** Whether it reaches beyond the run in its path, so that a token bound to that run may not use it. */
  leavesRun?: true;
}

const PUT_RUN = {
  run_id: "$run",
  run_type: "interactive",
  status: "queued",
  objective: "o",
  workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 },
  tasks: [],
  revision: 1,
  created_at_ms: 1,
  updated_at_ms: 1,
};

/** Below a run, of both doors: `$run` in a body stands for the run's id. */
const RUN_SAMPLES: Record<string, Sample> = {
  "GET ": {},
  "PUT ": { body: PUT_RUN },
  "GET /settings": {},
  "PUT /settings": { body: { grace_ms: 1_000 } },
  "GET /events": {},
  "POST /events": { body: { type: "note", status: "running", payload: null } },
  "GET /events/stream": {},
  "POST /todos/sync": { body: { todos: [] } },
  "POST /driver/next": { body: { dry_run: true } },
  "POST /lease/validate": { body: { phase: "p", current_path: "/p" } },
  "GET /blackboard": {},
  "GET /blackboard/patches": {},
  "POST /blackboard/patches": { body: { op: "add_fact", payload: { text: "t" } } },
  "GET /tasks": {},
  "POST /tasks": { body: { tasks: [{ task_type: "t" }] } },
  "POST /tasks/claim": { body: { agent_id: "a" } },
  "POST /tasks/redrive": { body: { preview: true } },
  "POST /tasks/:task_id/redrive": {},
  "GET /tasks/:task_id": {},
  "GET /tasks/:task_id/why": {},
  "POST /tasks/:task_id/transition": { body: { action: "complete" } },
  "POST /commands": { body: { commands: [{ op: "create_tasks", tasks: [{ task_type: "t" }] }] } },
  "POST /tasks/:task_id/cancel": { body: { reason: "r", grace_ms: 0 } },
  "POST /tasks/:task_id/dependencies": { body: { add: ["t"] } },
  "POST /pause": { body: { grace_ms: 0 } },
  "POST /resume": { body: {} },
  "POST /cancel": { body: {} },
  "POST /wait": { body: { for: { run_status: ["queued"] }, wait_ms: 0 } },
  "POST /locks": { body: { agent_id: "a", resources: [{ name: "r", mode: "exclusive" }] } },
  "GET /locks": {},
  "GET /locks/:lock_id": {},
  "POST /locks/:lock_id/heartbeat": { body: { lease_token: "t" } },
  "POST /locks/:lock_id/release": { body: { lease_token: "t" } },
  "POST /checkpoints": { body: { reason: "r" } },
  "GET /checkpoints": {},
  "GET /checkpoints/latest": {},
  "GET /state": {},
  "GET /diff": { query: "from=0&to=0" },
  "POST /fork": { body: {}, leavesRun: true },
  "GET /replay": {},
  "GET /export": {},
  "GET /artifacts": {},
  "POST /artifacts": { body: { artifact_type: "t", content: 1, path: "p" } },
  "GET /artifacts/:path+": {},
  "PUT /artifacts/:path+": { body: "text", headers: { "content-type": "text/plain" } },
  "DELETE /artifacts/:path+": {},
  "POST /uploads": { body: { path: "p" } },
  "DELETE /uploads/:upload_id": {},
  "PUT /uploads/:upload_id/parts/:part": { body: "text" },
  "POST /uploads/:upload_id/complete": {},
  "GET /verify": {},
  "GET /ledger": {},
  "GET /checkpoints/mutations": {},
  "POST /checkpoints/mutations": {
    body: {
      session_id: "s",
      message_id: "m",
      tool: "t",
      outcome: "succeeded",
      files: [{ path: "p", before_version: null, after_version: null }],
    },
  },
  "GET /checkpoints/mutations/rollback-preview": {},
  "GET /checkpoints/mutations/rollback-history": {},
  "POST /checkpoints/mutations/rollback-execute": {
    body: { confirm: "rollback", event_ids: ["e"] },
  },
  "GET /checkpoints/:checkpoint": {},
  "GET /governance-evidence": {},
  "DELETE ": {},
  "POST /archive": {},
  "POST /restore": {},
};

const MAPPING = { run: { objective: "o" }, run_key: "all", event: { type: "came_in" } };
const HOOK = { name: "h", scheme: { kind: "bearer" }, mapping: MAPPING };

/** Routes that are about no run in their path. */
const OTHER_SAMPLES: Record<string, Sample> = {
  "POST /context/runs": { body: { objective: "o" } },
  "GET /context/runs": {},
  "POST /v1/runs": { body: { objective: "o" } },
  "GET /v1/runs": {},
  "GET /v1/retention": {},
  "PUT /v1/retention": { body: { archive_after_ms: null, delete_after_ms: null } },
  "POST /v1/runs/import": { body: "{}\n", headers: { "content-type": "application/x-ndjson" } },
  "POST /v1/runs/import/reference": {
    body: "",
    headers: { "content-type": "multipart/form-data; boundary=b" },
  },
  "GET /context/runs/events/stream": { query: "workspace=%2Fwalk" },
  "GET /v1/events/stream": {},
  "GET /v1/whoami": {},
  "POST /v1/tokens": { body: { scopes: ["ingest"] } },
  "GET /v1/tokens": {},
  "GET /v1/tokens/:token_id": {},
  "POST /v1/tokens/:token_id/revoke": {},
  "GET /v1/audit": {},
  "POST /v1/hooks": { body: HOOK },
  "GET /v1/hooks": {},
  "GET /v1/hooks/:hook_id": {},
  "PUT /v1/hooks/:hook_id": { body: { ...HOOK, scheme: { kind: "shared_secret", header: "x-token" } } },
  "DELETE /v1/hooks/:hook_id": {},
  "POST /v1/hooks/:hook_id/secrets": { body: { secret: "another shared secret" } },
  "DELETE /v1/hooks/:hook_id/secrets/:secret_id": {},
  "GET /v1/hooks/:hook_id/deliveries": {},
  "GET /v1/hooks/:hook_id/deliveries/:delivery_id": {},
  "GET /v1/hooks/:hook_id/deliveries/:delivery_id/payload": {},
  "POST /v1/hooks/:hook_id/deliveries/:delivery_id/replay": {},
  "POST /v1/hooks/:hook_id/test": { body: { sample: { body: {} } } },
  "POST /v1/subscriptions": { body: { url: "https://receiver.example.com/" } },
  "GET /v1/subscriptions": {},
  "GET /v1/subscriptions/:subscription_id": {},
  "PUT /v1/subscriptions/:subscription_id": { body: { url: "https://receiver.example.com/" } },
  "DELETE /v1/subscriptions/:subscription_id": {},
  "POST /v1/subscriptions/:subscription_id/enable": { body: {} },
  "POST /v1/subscriptions/:subscription_id/disable": { body: {} },
  "POST /v1/subscriptions/:subscription_id/test": { body: {} },
  "POST /v1/subscriptions/:subscription_id/replay": { body: { run_id: "$run", from_seq: 1 } },
  "POST /v1/subscriptions/:subscription_id/secrets": { body: {} },
  "DELETE /v1/subscriptions/:subscription_id/secrets/:secret_id": {},
  "GET /v1/subscriptions/:subscription_id/attempts": {},
  "GET /v1/subscriptions/:subscription_id/dead-letters": {},
  "POST /v1/subscriptions/:subscription_id/dead-letters/:letter_id/redeliver": { body: {} },
  "GET /v1/mappings/presets": {},
  "POST /v1/mappings/test": { body: { mapping: MAPPING, sample: { body: {} } } },
  "GET /v1/quotas": {},
  "PUT /v1/quotas": { body: { runs: null, artifact_bytes: null, streams: null } },
};

/** The route's sample; undefined for a route that nobody has given one, which fails the walk. */
export function sampleOf(route: Route): Sample | undefined {
  const below = /^\/(?:context|v1)\/runs\/:run_id(.*)$/.exec(route.path);
  return below === null
    ? OTHER_SAMPLES[`${route.method} ${route.path}`]
    : RUN_SAMPLES[`${route.method} ${below[1]}`];
}
