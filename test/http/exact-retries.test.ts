import { evictDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, describe, expect, it } from "vitest";
import { ROUTES } from "../../src/http/routes.ts";
import { runObjectName, tenantKey, tenantOf } from "../../src/identity/tenant.ts";
import { runClient } from "../../src/run/run-client.ts";
import { SMALL, sealAll } from "../run/support/sealing.ts";
import type { TestRun } from "../run/support/test-run.ts";
import { serve } from "../support/serve.ts";
import { type Answered, answered, callAs, mint, newTenant, requestAs } from "../support/tokens.ts";

/** Two actors of one tenant; the first one has renewed its token since. */
const tenant = newTenant();
let ann: string;
let renewed: string;
let bob: string;

beforeAll(async () => {
  const minted = (actor_id: string) => mint({ scopes: ["operator"], tenant, actor_id });
  [ann, renewed, bob] = (await Promise.all([minted("ann"), minted("ann"), minted("bob")])).map(
    ({ token }) => token,
  ) as [string, string, string];
});

/** A request of a run: `$run` in a path stands for the run's. */
interface Asked {
  method: string;
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
}

/** A run with what it was arranged with. */
interface Scene {
  id: string;
  run: TestRun;
  /** Of the task `held`. */
  lease: { task_id: string; lease_token: string };
}

interface Mutation {
  route: string;
  /** What of the route it is, where there are several. */
  what?: string;
  first(scene: Scene): Asked | Promise<Asked>;
  /** The same at the same place with another body; none where nothing can be said otherwise. */
  other?(scene: Scene, first: Asked): Asked;
  status?: number;
  /** Whether it is remembered elsewhere than in the run's log, or there under a key of its own. */
  isElsewhere?: true;
}

const at = (method: string, sub: string, body?: unknown, headers?: Record<string, string>): Asked => ({
  method,
  path: `/v1/runs/$run${sub}`,
  ...(body !== undefined && { body }),
  ...(headers !== undefined && { headers }),
});
const post = (sub: string, body?: unknown) => at("POST", sub, body);
const withBody = (changes: object) => (_scene: Scene, first: Asked) => ({
  ...first,
  body: { ...(first.body as object), ...changes },
});
const text = (path: string, body: string) => at("PUT", path, body, { "content-type": "text/plain" });

const NOTE = { type: "note", status: "running", payload: { n: 1 } };
const MUTATION = { session_id: "s", message_id: "m", tool: "edit", outcome: "succeeded" };
const LOCKED = [{ name: "src/**", mode: "exclusive" }];
const ROLLBACK = "/checkpoints/mutations/rollback-execute";
const ACK = { confirm: "rollback", policy_ack: "allow_rollback_execution" };

/** Every route that changes a run, in each of its ways. */
const MUTATIONS: Mutation[] = [
  {
    route: "PUT ",
    first: async ({ id }) => {
      const { body } = await callAs(ann, "GET", `/context/runs/${id}`);
      return at("PUT", "", { ...body.run, tasks: [], objective: "x" });
    },
    other: withBody({ objective: "y" }),
  },
  { route: "POST /events", first: () => post("/events", NOTE), other: withBody({ payload: 2 }), status: 201 },
  {
    route: "POST /events",
    what: "under a lease",
    first: ({ lease }) => post("/events", { ...NOTE, ...lease }),
    other: withBody({ task_id: undefined, lease_token: undefined }),
    status: 201,
  },
  {
    route: "POST /todos/sync",
    first: () => post("/todos/sync", { todos: [{ content: "c" }] }),
    other: withBody({ replace: false }),
  },
  { route: "POST /driver/next", first: () => post("/driver/next", {}), other: withBody({ dry_run: true }) },
  {
    route: "POST /lease/validate",
    first: () => post("/lease/validate", { phase: "p", current_path: "/srv/ws" }),
    other: withBody({ phase: "q" }),
  },
  {
    route: "POST /lease/validate",
    what: "elsewhere",
    first: async ({ id }) => {
      await ok(ann, fill(post("/lease/validate", { phase: "p", current_path: "/srv/ws" }), id));
      return post("/lease/validate", { phase: "p", current_path: "/other" });
    },
    other: withBody({ phase: "q" }),
    status: 409,
  },
  {
    route: "POST /blackboard/patches",
    first: () => post("/blackboard/patches", { op: "set_rolling_summary", payload: "x" }),
    other: withBody({ payload: "y" }),
    status: 201,
  },
  {
    route: "POST /tasks",
    first: ({ lease }) => post("/tasks", { tasks: [{ task_type: "t" }, { task_type: "u" }], ...lease }),
    other: withBody({ tasks: [{ task_type: "t" }] }),
    status: 201,
  },
  {
    route: "POST /tasks/claim",
    first: () => post("/tasks/claim", { agent_id: "me" }),
    other: withBody({ lease_ms: 60_000 }),
  },
  {
    route: "POST /tasks/claim",
    what: "for several",
    first: async ({ id }) => {
      await ok(ann, fill(post("/tasks", { tasks: [{ task_type: "t" }, { task_type: "t" }] }), id));
      return post("/tasks/claim", { agent_id: "me", max: 2 });
    },
    other: withBody({ max: 3 }),
  },
  {
    route: "POST /tasks/claim",
    what: "that may wait",
    first: () => post("/tasks/claim", { agent_id: "me", wait_ms: 10_000 }),
    // It may be for another while that a retry waits.
    other: withBody({ lease_ms: 60_000 }),
  },
  {
    route: "POST /commands",
    first: ({ lease: { lease_token } }) =>
      post("/commands", {
        commands: [
          { op: "append_event", ...NOTE, task_id: "held", lease_token },
          { op: "create_tasks", tasks: [{ task_type: "t" }, { task_type: "u" }] },
          { op: "claim", agent_id: "me" },
          { op: "complete", task_id: "held", lease_token },
        ],
      }),
    other: withBody({ commands: [{ op: "append_event", ...NOTE }] }),
  },
  {
    route: "PUT /settings",
    first: () => at("PUT", "/settings", { grace_ms: 2_000 }),
    other: withBody({ grace_ms: 3_000 }),
  },
  {
    route: "POST /tasks/:task_id/cancel",
    what: "at once",
    first: () => post("/tasks/free/cancel", { reason: "no need" }),
    other: withBody({ reason: "another" }),
  },
  {
    route: "POST /tasks/:task_id/cancel",
    what: "of a holder",
    first: () => post("/tasks/held/cancel", { reason: "no need", grace_ms: 60_000 }),
    other: withBody({ grace_ms: 70_000 }),
  },
  {
    route: "POST /tasks/:task_id/dependencies",
    first: ({ lease }) => post("/tasks/free/dependencies", { add: ["held", "none"], ...lease }),
    other: withBody({ add: ["held"] }),
  },
  {
    route: "POST /tasks/:task_id/redrive",
    first: async (scene) => {
      await deadLetter(scene);
      return post("/tasks/dead/redrive", {});
    },
    other: withBody({ expected_task_rev: 3 }),
  },
  {
    route: "POST /tasks/redrive",
    first: async (scene) => {
      await deadLetter(scene);
      return post("/tasks/redrive", { task_type: "dead" });
    },
    other: withBody({ limit: 7 }),
  },
  {
    route: "POST /pause",
    first: () => post("/pause", { reason: "r", grace_ms: 60_000 }),
    other: withBody({ reason: "s" }),
  },
  {
    route: "POST /resume",
    first: async ({ id }) => {
      await ok(ann, fill(post("/pause", { grace_ms: 60_000 }), id));
      return post("/resume", { reason: "r" });
    },
    other: withBody({ reason: "s" }),
  },
  {
    route: "POST /cancel",
    first: () => post("/cancel", { reason: "r", grace_ms: 60_000 }),
    other: withBody({ reason: "s" }),
  },
  {
    route: "POST /tasks/claim",
    what: "with locks",
    first: () => post("/tasks/claim", { agent_id: "me", locks: LOCKED }),
    other: withBody({ locks: [] }),
  },
  {
    route: "POST /locks",
    first: () => post("/locks", { agent_id: "me", resources: LOCKED }),
    other: withBody({ lease_ms: 60_000 }),
    status: 201,
  },
  ...["heartbeat", "release"].map(
    (action): Mutation => ({
      route: `POST /locks/:lock_id/${action}`,
      first: async ({ id }) => {
        const taken = await ok(ann, fill(post("/locks", { agent_id: "me", resources: LOCKED }), id));
        const { lock_id, token } = taken.body.lock;
        return post(`/locks/${lock_id}/${action}`, { lease_token: token });
      },
      other: withBody({ lease_token: "lease" }),
    }),
  ),
  ...["heartbeat", "complete", "fail", "release"].map(
    (action): Mutation => ({
      route: "POST /tasks/:task_id/transition",
      what: action,
      first: ({ lease: { lease_token } }) => post("/tasks/held/transition", { action, lease_token }),
      other: withBody({ error: "another" }),
    }),
  ),
  {
    route: "POST /checkpoints",
    first: () => post("/checkpoints", { reason: "r" }),
    other: withBody({ reason: "s" }),
    status: 201,
  },
  {
    route: "POST /fork",
    first: () => post("/fork", {}),
    other: withBody({ objective: "another" }),
    status: 201,
    isElsewhere: true,
  },
  {
    route: "POST /artifacts",
    first: ({ lease }) => post("/artifacts", { artifact_type: "t", content: { a: 1 }, ...lease }),
    other: withBody({ content: { a: 2 } }),
    status: 201,
  },
  {
    route: "PUT /artifacts/:path+",
    first: () => text("/artifacts/a%20b.txt", "one"),
    other: () => text("/artifacts/a%20b.txt", "two"),
    status: 201,
  },
  {
    route: "DELETE /artifacts/:path+",
    first: async ({ id }) => {
      await ok(ann, fill(text("/artifacts/a.txt", "one"), id));
      return at("DELETE", "/artifacts/a.txt");
    },
    other: () => at("DELETE", "/artifacts/a.txt?expected_version=1"),
  },
  {
    route: "POST /uploads",
    first: () => post("/uploads", { path: "big" }),
    other: withBody({ path: "bigger" }),
    status: 201,
    isElsewhere: true,
  },
  {
    route: "POST /uploads/:upload_id/complete",
    first: async ({ id }) => {
      const { upload_id } = (await ok(ann, fill(post("/uploads", { path: "big" }), id))).body;
      await ok(ann, fill(text(`/uploads/${upload_id}/parts/1`, "content"), id));
      return post(`/uploads/${upload_id}/complete`, {});
    },
    other: withBody({ lease_token: "lease" }),
    status: 201,
    isElsewhere: true,
  },
  {
    route: "POST /checkpoints/mutations",
    first: async (scene) => post("/checkpoints/mutations", await mutationOf(scene)),
    other: withBody({ message_id: "n" }),
    status: 201,
  },
  {
    route: `POST ${ROLLBACK}`,
    first: async (scene) => post(ROLLBACK, { ...ACK, event_ids: [await recorded(scene)] }),
    other: withBody({ executor: "agent" }),
  },
  {
    route: `POST ${ROLLBACK}`,
    what: "by an agent",
    first: async (scene) => post(ROLLBACK, { ...ACK, executor: "agent", event_ids: [await recorded(scene)] }),
    other: withBody({ executor: "artifacts" }),
    status: 202,
  },
  {
    route: `POST ${ROLLBACK}`,
    what: "blocked",
    first: () => post(ROLLBACK, { ...ACK, event_ids: ["none"] }),
    other: withBody({ event_ids: ["nothing"] }),
    status: 409,
  },
  {
    route: "POST /restore",
    first: async ({ id, lease: { lease_token } }) => {
      await ok(ann, fill(post("/tasks/held/transition", { action: "complete", lease_token }), id));
      await ok(ann, fill(post("/archive"), id));
      return post("/restore");
    },
    isElsewhere: true,
  },
];

/** Routes whose repeat finds the run, or what it is about, where the first request has brought it: they need no memory. */
const OF_THEMSELVES = [
  "DELETE ",
  "POST /archive",
  "PUT /uploads/:upload_id/parts/:part",
  "DELETE /uploads/:upload_id",
];

/** Leaves a task `dead` behind that failed for good. */
async function deadLetter({ id }: Scene): Promise<void> {
  const row = { id: "dead", task_type: "dead", max_attempts: 1 };
  await ok(ann, fill(post("/tasks", { tasks: [row] }), id));
  const claimed = await ok(ann, fill(post("/tasks/claim", { agent_id: "a", task_type: "dead" }), id));
  const { token: lease_token } = claimed.body.lease;
  const failed = fill(post("/tasks/dead/transition", { action: "fail", lease_token }), id);
  expect((await ok(ann, failed)).body.task).toMatchObject({ dead_letter: true });
}

/** What is asked by POST and changes nothing. */
const QUESTIONS = ["POST /wait"];

/** A mutation to be recorded. */
async function mutationOf({ id }: Scene): Promise<object> {
  const { file } = (await ok(ann, fill(text("/artifacts/made.txt", "made"), id))).body;
  return { ...MUTATION, files: [{ path: "made.txt", before_version: null, after_version: file.version }] };
}

async function recorded(scene: Scene): Promise<string> {
  await ok(ann, fill(post("/events", { type: "note", status: "paused" }), scene.id));
  const asked = fill(post("/checkpoints/mutations", await mutationOf(scene)), scene.id);
  return (await ok(ann, asked)).body.event.event_id;
}

const fill = (asked: Asked, id: string): Asked => ({ ...asked, path: asked.path.replace("$run", id) });

async function send(credential: string, { method, path, body, headers = {} }: Asked, key?: string) {
  const sent = { ...headers, ...(key !== undefined && { "idempotency-key": key }) };
  // The platform knows how long a text is that it sends; here somebody has to say so.
  const length = typeof body === "string" ? { "content-length": String(body.length) } : {};
  return answered(await serve(requestAs(credential, method, path, body, { ...sent, ...length }), env));
}

/** The answer to a request that must be accepted, or refused with this status. */
async function ok(credential: string, asked: Asked, status?: number): Promise<Answered> {
  const answer = await send(credential, asked);
  if (status === undefined) expect(answer.status, answer.text).toBeLessThan(300);
  else expect(answer.status, answer.text).toBe(status);
  return answer;
}

async function sceneOf(): Promise<Scene> {
  const id = crypto.randomUUID();
  await ok(ann, { method: "POST", path: "/v1/runs", body: { run_id: id, objective: "o" } });
  const rows = [{ id: "held", priority: 1 }, { id: "free" }].map((row) => ({ task_type: "t", ...row }));
  await ok(ann, fill(post("/tasks", { tasks: rows }), id));
  const { lease } = (await ok(ann, fill(post("/tasks/claim", { agent_id: "a", lease_ms: 300_000 }), id)))
    .body;
  const name = runObjectName(tenantKey(tenantOf(tenant.org_id, tenant.workspace_id, null)), id);
  const run = { id, stub: env.RUNS.getByName(name), client: runClient(env.RUNS, name) };
  return { id, run, lease: { task_id: "held", lease_token: lease.token } };
}

/** What of an answer its repeat has to have too. */
function lasting({ status, headers, text }: Answered): unknown {
  const kept = ["content-type", "location", "etag"].map((name) => headers.get(name));
  // A problem also says which request it answers.
  return { status, kept, text: text.replace(/"request_id":"[^"]*"/, "") };
}

const replayed = ({ headers }: Answered) => headers.get("idempotency-replayed");

describe("every route that changes a run", () => {
  it("claims: is here, and what is here is a route", () => {
    const routes = ROUTES.filter(
      ({ door, path, method }) =>
        door === "native" && path.startsWith("/v1/runs/:run_id") && method !== "GET",
    ).map(({ method, path }) => `${method} ${path.replace("/v1/runs/:run_id", "")}`);
    const here = [...OF_THEMSELVES, ...QUESTIONS, ...MUTATIONS.map(({ route }) => route)];
    expect([...new Set(here)].toSorted()).toEqual(routes.toSorted());
  });

  it.each(MUTATIONS)(
    "claims: $route $what answers a repeat to the byte, whatever came after",
    async ({ first, status = 200, isElsewhere }) => {
      const scene = await sceneOf();
      const asked = fill(await first(scene), scene.id);
      const key = crypto.randomUUID();
      const answer = await send(ann, asked, key);
      expect(answer.status, answer.text).toBe(status);
      expect(replayed(answer)).toBeNull();
      const again = await send(ann, asked, key);
      expect(lasting(again)).toEqual(lasting(answer));
      expect(replayed(again)).toBe("true");

      await ok(ann, fill(post("/events", { type: "note", status: "running" }), scene.id));
      await ok(ann, fill(post("/tasks", { tasks: [{ task_type: "t" }] }), scene.id));
      await ok(ann, fill(text("/artifacts/a.txt", "later"), scene.id));
      await evictDurableObject(scene.run.stub);
      const woken = await send(renewed, asked, key);
      expect(lasting(woken)).toEqual(lasting(answer));
      expect(replayed(woken)).toBe("true");

      if (isElsewhere !== true) await sealAll(scene.run, { ...SMALL, keep: 0, commits: 1 });
      const sealed = await send(ann, asked, key);
      expect(lasting(sealed)).toEqual(lasting(answer));
      expect(replayed(sealed)).toBe("true");
    },
  );

  it.each(MUTATIONS)(
    "claims: $route $what refuses its key for another body, to another actor, and on another route",
    async ({ first, other, isElsewhere }) => {
      const scene = await sceneOf();
      const asked = fill(await first(scene), scene.id);
      const key = crypto.randomUUID();
      await send(ann, asked, key);
      const before = await scene.run.client.readOverview();
      const route = asked.path.endsWith("/events") ? post("/driver/next", {}) : post("/events", NOTE);
      const conflicts: [string, Asked][] = [
        ...(other === undefined ? [] : [[ann, fill(other(scene, asked), scene.id)] as [string, Asked]]),
        [bob, asked],
        ...(isElsewhere === true ? [] : [[ann, fill(route, scene.id)] as [string, Asked]]),
      ];
      for (const [credential, conflicting] of conflicts) {
        const { status, body } = await send(credential, conflicting, key);
        expect([status, body.code]).toEqual([422, "COMMAND_ID_CONFLICT"]);
      }
      expect(await scene.run.client.readOverview()).toEqual(before);
    },
  );
});

describe("a run that moves", () => {
  interface Told {
    request: Asked;
    key: string;
    answer: Answered;
  }

  /** What was asked of a run, and answered, under keys. */
  async function asked(scene: Scene): Promise<Told[]> {
    const { lease } = scene;
    const requests = [
      post("/events", { ...NOTE, ...lease }),
      post("/blackboard/patches", { op: "set_rolling_summary", payload: "x" }),
      post("/todos/sync", { todos: [{ content: "c" }] }),
      post("/tasks", { tasks: [{ task_type: "t" }, { task_type: "u" }] }),
      post("/checkpoints", { reason: "r" }),
      post("/tasks/held/transition", { action: "heartbeat", lease_token: lease.lease_token }),
      post("/tasks/claim", { agent_id: "me" }),
    ];
    const answers: Told[] = [];
    for (const request of requests) {
      const key = crypto.randomUUID();
      const answer = await send(ann, fill(request, scene.id), key);
      expect(answer.status, answer.text).toBeLessThan(300);
      answers.push({ request, key, answer });
    }
    return answers;
  }

  it("claims: answers repeats as before once it is restored, lease tokens included", async () => {
    const scene = await sceneOf();
    const answers = await asked(scene);
    const { task, lease } = (answers.at(-1) as Told).answer.body;
    for (const [id, lease_token] of [
      [task.id, lease.token],
      ["held", scene.lease.lease_token],
    ]) {
      await ok(ann, fill(post(`/tasks/${id}/transition`, { action: "complete", lease_token }), scene.id));
    }
    await ok(ann, fill(post("/archive"), scene.id));
    expect(JSON.stringify(await scene.run.client.presence())).not.toContain("lease_key");
    await ok(ann, fill(post("/restore"), scene.id));
    for (const { request, key, answer } of answers) {
      expect(lasting(await send(renewed, fill(request, scene.id), key))).toEqual(lasting(answer));
    }
  });

  it("claims: answers repeats as before where it is imported, but for tokens, which only its origin knows", async () => {
    const scene = await sceneOf();
    const answers = await asked(scene);
    const exported = await ok(ann, fill(at("GET", "/export"), scene.id));
    const there = crypto.randomUUID();
    const headers = { "content-type": "application/x-ndjson" };
    const path = `/v1/runs/import?run_id=${there}`;
    await ok(ann, { method: "POST", path, body: exported.text, headers });
    for (const { request, key, answer } of answers) {
      const again = await send(ann, fill(request, there), key);
      expect([again.status, replayed(again)], again.text).toEqual([answer.status, "true"]);
      // What they say of the run, its id among it, is of where it came from, or is made anew.
      if (/checkpoints|todos/.test(request.path)) continue;
      const before = JSON.parse(answer.text.replaceAll(scene.id, there));
      if (!request.path.endsWith("/claim")) {
        expect(again.body).toEqual(before);
        continue;
      }
      const { lease_token } = again.body.task;
      expect(lease_token).toMatch(/^sha256:/);
      expect(again.body).toEqual({ ...before, task: { ...before.task, lease_token }, lease: null });
    }
    // Who has the token goes on working, wherever the run is.
    await ok(
      ann,
      fill(
        post("/tasks/held/transition", { action: "complete", lease_token: scene.lease.lease_token }),
        there,
      ),
    );
  });
});

describe("calls that make runs", () => {
  const created = async (id: string): Promise<Asked> => ({
    method: "POST",
    path: "/v1/runs",
    body: { run_id: id, objective: "o" },
  });
  const imported = async (id: string): Promise<Asked> => {
    const { text: body } = await ok(ann, fill(at("GET", "/export"), (await sceneOf()).id));
    const headers = { "content-type": "application/x-ndjson" };
    return { method: "POST", path: `/v1/runs/import?run_id=${id}`, body, headers };
  };
  const broughtOver = async (id: string): Promise<Asked> => {
    const counters = { revision: 1, last_event_seq: 0, created_at_ms: 1, updated_at_ms: 1 };
    const state = JSON.stringify({ run_id: id, status: "running", objective: "o", tasks: [], ...counters });
    const body = `--b\r\ncontent-disposition: form-data; name="f"; filename="run_state.json"\r\n\r\n${state}\r\n--b--\r\n`;
    const headers = { "content-type": "multipart/form-data; boundary=b" };
    return { method: "POST", path: "/v1/runs/import/reference", body, headers };
  };

  it.each([
    ["POST /v1/runs", created],
    ["POST /v1/runs/import", imported],
    ["POST /v1/runs/import/reference", broughtOver],
  ])("claims: %s answers a repeat to the byte, and to the actor alone", async (_route, first) => {
    const id = crypto.randomUUID();
    const request = await first(id);
    const key = crypto.randomUUID();
    const answer = await send(ann, request, key);
    expect(answer.status, answer.text).toBe(201);
    await ok(ann, fill(post("/events", NOTE), id));
    const again = await send(renewed, request, key);
    expect(lasting(again)).toEqual(lasting(answer));
    expect(replayed(again)).toBe("true");
    const { status, body } = await send(bob, request, key);
    expect([status, body.code]).toEqual([422, "COMMAND_ID_CONFLICT"]);
  });
});

describe("the age of a replay", () => {
  it("claims: is told, so that a lease is not thought to last longer than it does", async () => {
    const scene = await sceneOf();
    const request = fill(post("/tasks/claim", { agent_id: "me" }), scene.id);
    const key = crypto.randomUUID();
    const first = await send(ann, request, key);
    expect(first.headers.get("baton-replayed-after-ms")).toBeNull();
    const { expires_at_ms, expires_in_ms } = first.body.lease;
    const again = await send(ann, request, key);
    const ageMs = Number(again.headers.get("baton-replayed-after-ms"));
    expect(again.headers.get("baton-replayed-after-ms")).toMatch(/^[0-9]+$/);
    expect(ageMs).toBeLessThanOrEqual(Date.now() - (expires_at_ms - expires_in_ms));
  });
});

describe("requests that bring something to where it stays", () => {
  it("claims: a part, an upload that is given up, an archive, and a deletion are answered as the first time", async () => {
    const { id, lease } = await sceneOf();
    const { upload_id } = (await ok(ann, fill(post("/uploads", { path: "big" }), id))).body;
    const { lease_token } = lease;
    await ok(ann, fill(post("/tasks/held/transition", { action: "complete", lease_token }), id));
    for (const request of [
      text(`/uploads/${upload_id}/parts/1`, "content"),
      at("DELETE", `/uploads/${upload_id}`),
      post("/archive"),
      at("DELETE", ""),
    ]) {
      const asked = fill(request, id);
      const key = crypto.randomUUID();
      const first = await send(ann, asked, key);
      expect(first.status, first.text).toBeLessThan(300);
      expect(lasting(await send(renewed, asked, key))).toEqual(lasting(first));
    }
  });
});
