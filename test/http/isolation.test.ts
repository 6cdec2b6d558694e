import { beforeAll, describe, expect, it } from "vitest";
import { ROUTES } from "../../src/http/routes.ts";
import { SCOPES, type Scope } from "../../src/identity/scopes.ts";
import { type Answered, callAs, mint, newTenant, ROOT } from "../support/tokens.ts";
import { sampleOf } from "./route-samples.ts";

type Route = (typeof ROUTES)[number];
type Ids = Record<string, string>;

/** Every route of both doors, by what a reader would call it. */
const WALK = ROUTES.map((route): [string, Route] => [`${route.method} ${route.path}`, route]);

/** A tenant with one of everything that a path can name. */
interface World {
  operator: string;
  /** By scope: may do that, and no more. */
  tokens: Map<Scope, string>;
  /** By the names that paths have for them. */
  ids: Ids;
}

async function newWorld(): Promise<World> {
  const { token: operator } = await mint({ scopes: ["operator"], tenant: newTenant() });
  const tokens = new Map<Scope, string>();
  let token_id = "";
  for (const scope of SCOPES) {
    const minted = await mint({ scopes: [scope] }, operator);
    tokens.set(scope, minted.token);
    token_id = minted.token_id;
  }
  const run_id = await newRun(operator);
  const { body } = await callAs(operator, "POST", `/v1/runs/${run_id}/uploads`, { path: "u" });
  const ids = {
    run_id,
    task_id: "t1",
    upload_id: body.upload_id,
    lock_id: await newLock(operator, run_id),
    token_id,
    part: "1",
    ...(await newHook(operator)),
    ...(await newSubscription(operator)),
  };
  return { operator, tokens, ids };
}

/** A lock that lasts longer than these tests. */
async function newLock(credential: string, runId: string): Promise<string> {
  const resources = [{ name: "held", mode: "exclusive" }];
  const asked = { agent_id: "a", resources, lease_ms: 300_000 };
  return (await callAs(credential, "POST", `/v1/runs/${runId}/locks`, asked)).body.lock.lock_id;
}

/** A subscription that nothing has been sent for. */
async function newSubscription(credential: string): Promise<Ids> {
  const { body } = await callAs(credential, "POST", "/v1/subscriptions", {
    url: "https://receiver.example.com/",
    run_id: "none",
  });
  return { subscription_id: (body.subscription ?? body).subscription_id };
}

/** A hook with a secret and a delivery. */
async function newHook(credential: string): Promise<Ids> {
  const secret = "a shared secret of a test";
  const { body } = await callAs(credential, "POST", "/v1/hooks", {
    name: "h",
    scheme: { kind: "shared_secret", header: "x-token" },
    mapping: { run: { objective: "o" }, run_key: "all", event: { type: "came_in" } },
    secret,
  });
  const { pathname } = new URL(body.hook.url);
  const delivered = await callAs(null, "POST", pathname, { a: 1 }, { "x-token": secret });
  return {
    hook_id: body.hook.hook_id,
    secret_id: body.hook.secrets[0].secret_id,
    delivery_id: delivered.body.delivery_id,
  };
}

/** Ids of the same form that nobody has. */
function absent(ids: Ids): Ids {
  return Object.fromEntries(
    Object.entries(ids).map(([name, id]) => [name, id.length > 8 ? `${id.slice(0, -4)}none` : id]),
  );
}

/** A run with a task, a checkpoint and an artifact. */
async function newRun(credential: string): Promise<string> {
  const { body } = await callAs(credential, "POST", "/v1/runs", { objective: "secret-objective" });
  const run = `/v1/runs/${body.run.run_id}`;
  await callAs(credential, "POST", `${run}/tasks`, { tasks: [{ id: "t1", task_type: "t" }] });
  await callAs(credential, "POST", `${run}/checkpoints`, { reason: "r", name: "c1" });
  await callAs(credential, "PUT", `${run}/artifacts/a.txt`, "text", { "content-type": "text/plain" });
  return body.run.run_id;
}

function send(route: Route, credential: string | null, ids: Ids): Promise<Answered> {
  const sample = sampleOf(route);
  if (sample === undefined) throw new Error(`no sample of ${route.method} ${route.path}`);
  const { body, headers, query } = sample;
  const path = route.path
    .replace(":path+", "a.txt")
    .replace(":checkpoint", "c1")
    .replace(/:(\w+)/g, (_, name: string) => ids[name] ?? "none");
  const sent =
    typeof body === "object" ? JSON.parse(JSON.stringify(body).replaceAll("$run", ids.run_id ?? "")) : body;
  return callAs(credential, route.method, query === undefined ? path : `${path}?${query}`, sent, headers);
}

/** An answer without what differs from request to request. */
function comparable(answer: Answered, ids: Ids): unknown {
  let text = answer.text;
  for (const id of Object.values(ids)) if (id.length > 8) text = text.replaceAll(id, "ID");
  const headers = [...answer.headers].filter(([name]) => name !== "x-request-id");
  return [answer.status, headers, text.replace(/"request_id":"[^"]*"/, "")];
}

let ours: World;
let theirs: World;
beforeAll(async () => {
  [ours, theirs] = await Promise.all([newWorld(), newWorld()]);
});

/** Routes that name something of a tenant: a run, or a thing by an id of its own. */
const NAMING = WALK.filter(([, { path }]) => path.includes("/:"));
const NAMELESS = WALK.filter(([, { path }]) => !path.includes("/:"));
const ABOUT_RUNS = WALK.filter(([, { path }]) => path.includes("/:run_id"));
const NOT_ABOUT_RUNS = WALK.filter(([, { path }]) => !path.includes("/:run_id"));

describe("the walk over every route", () => {
  it("has a sample for each: add one to route-samples.ts with a new route", () => {
    expect(WALK.filter(([, route]) => sampleOf(route) === undefined).map(([name]) => name)).toEqual([]);
  });

  it.each(WALK)("%s: 401 without a credential", async (_, route) => {
    const answer = await send(route, null, ours.ids);
    expect([answer.status, answer.body.code]).toEqual([401, "AUTH_REQUIRED"]);
  });

  it.each(WALK)(
    "%s: 403 with too small a scope, naming the one it needs; the next one does",
    async (_, route) => {
      const { needs } = route;
      if (needs === null) {
        expect((await send(route, ours.tokens.get("ingest") ?? "", ours.ids)).body.code).not.toBe(
          "SCOPE_INSUFFICIENT",
        );
        return;
      }
      // `viewer` follows `ingest` in the list: below it there is nothing that reads.
      const below = SCOPES[SCOPES.indexOf(needs) - 1] ?? "ingest";
      const answer = await send(route, ours.tokens.get(below) ?? "", ours.ids);
      expect([answer.status, answer.body.code]).toEqual([403, "SCOPE_INSUFFICIENT"]);
      if (route.door === "native") expect(answer.body).toMatchObject({ needs, scopes: [below] });
      // On things that are not there, so that nothing is changed.
      const next = await send(route, ours.tokens.get(needs) ?? "", absent(ours.ids));
      expect(next.body.code).not.toBe("SCOPE_INSUFFICIENT");
    },
  );

  it.each(NAMING)("%s: what another tenant has is not found, told like what nobody has", async (_, route) => {
    const foreign = await send(route, theirs.operator, ours.ids);
    const nobodys = absent(ours.ids);
    const unknown = await send(route, theirs.operator, nobodys);
    expect(foreign.status).toBe(404);
    expect(comparable(foreign, ours.ids)).toEqual(comparable(unknown, nobodys));
  });

  it.each(NAMING)("%s: and the tenant still has it", async (_, route) => {
    if (route.method !== "GET" || route.path.includes("token")) return;
    expect((await send(route, ours.operator, ours.ids)).status).toBe(200);
  });

  it.each(NAMELESS)("%s: shows and touches nothing of another tenant", async (_, route) => {
    const answer = await send(route, theirs.operator, ours.ids);
    expect(answer.status).toBeLessThan(500);
    for (const id of [ours.ids.run_id, ours.ids.token_id]) expect(answer.text).not.toContain(id);
  });
});

describe("a token that is bound to a run", () => {
  let bound: string;
  let other: string;
  beforeAll(async () => {
    bound = (await mint({ scopes: ["operator"], run_id: ours.ids.run_id }, ours.operator)).token;
    other = await newRun(ours.operator);
  });

  it.each(ABOUT_RUNS)("%s: another run is not found, whether it is there or not", async (_, route) => {
    for (const run_id of [other, `${other}-none`]) {
      const ids = { ...ours.ids, run_id };
      const answer = await send(route, bound, ids);
      expect([answer.status, answer.body.code]).toEqual([404, "RUN_NOT_FOUND"]);
    }
  });

  it.each(ABOUT_RUNS)("%s: its own run it may use, unless that leads to another", async (_, route) => {
    // They end the run; and any of them has passed the bounds when it says so.
    if (/\/(archive|restore)$/.test(route.path) || route.method === "DELETE") return;
    const answer = await send(route, bound, ours.ids);
    if (sampleOf(route)?.leavesRun) expect([answer.status, answer.body.code]).toEqual([403, "TOKEN_BOUND"]);
    else expect(String(answer.body.code)).not.toMatch(/TOKEN_BOUND|RUN_NOT_FOUND|SCOPE/);
  });

  it.each(NOT_ABOUT_RUNS)("%s: 403 naming the run, unless it is about the token itself", async (_, route) => {
    const answer = await send(route, bound, ours.ids);
    if (route.isForBound) {
      expect(answer.body.code).not.toBe("TOKEN_BOUND");
      return;
    }
    expect([answer.status, answer.body.code]).toEqual([403, "TOKEN_BOUND"]);
    expect(answer.body).toMatchObject({ bound: "run_id", allowed: [ours.ids.run_id] });
  });

  it("sees and ends only tokens that come from it, operator or not", async () => {
    const child = await mint({ scopes: ["viewer"] }, bound);
    const path = (id: string | undefined) => `/v1/tokens/${id}`;
    expect((await callAs(bound, "GET", path(child.token_id))).status).toBe(200);
    expect((await callAs(bound, "GET", path(ours.ids.token_id))).status).toBe(404);
    expect((await callAs(bound, "POST", `${path(ours.ids.token_id)}/revoke`)).status).toBe(404);
  });
});

describe("the same ids in two tenants", () => {
  it("are two runs, two command ids, two contents", async () => {
    const id = `same-${crypto.randomUUID()}`;
    const key = { "idempotency-key": "k" };
    const of = async (credential: string, text: string) => {
      await callAs(credential, "POST", "/v1/runs", { objective: text, run_id: id }, key);
      const event = { type: "note", status: "running", payload: text };
      await callAs(credential, "POST", `/v1/runs/${id}/events`, event, key);
      await callAs(credential, "PUT", `/v1/runs/${id}/artifacts/a`, text, { "content-type": "text/plain" });
    };
    await of(ours.operator, "ours");
    await of(theirs.operator, "theirs");
    for (const [credential, text] of [
      [ours.operator, "ours"],
      [theirs.operator, "theirs"],
    ] as const) {
      const run = await callAs(credential, "GET", `/v1/runs/${id}`);
      expect(run.body.run.objective).toBe(text);
      expect((await callAs(credential, "GET", `/v1/runs/${id}/events`)).text).toContain(
        `"payload":"${text}"`,
      );
      expect((await callAs(credential, "GET", `/v1/runs/${id}/artifacts/a`)).text).toBe(text);
    }
  });
});

describe("the root credential without a tenant, on /context", () => {
  const asTenant = (org_id: string) => ({ "x-tandem-org-id": org_id });
  const create = (run_id: string, org_id: string) =>
    callAs(ROOT, "POST", "/context/runs", { objective: org_id, run_id }, asTenant(org_id));

  it("works on a run that it created with tenant headers, bodies and all", async () => {
    const id = `away-${crypto.randomUUID()}`;
    const { org_id } = newTenant();
    const made = await create(id, org_id);
    expect(made.body.run.tenant_context).toEqual({ org_id, workspace_id: "local", source: "explicit" });
    const appended = await callAs(ROOT, "POST", `/context/runs/${id}/events`, {
      type: "planning_started",
      status: "planning",
      payload: { a: 1 },
    });
    expect(appended.body).toMatchObject({ ok: true, event: { seq: 1, payload: { a: 1 } } });
    expect((await callAs(ROOT, "GET", `/context/runs/${id}`)).body.run.status).toBe("awaiting_approval");
    expect((await callAs(ROOT, "GET", `/context/runs/${id}/events/stream`)).status).toBe(200);
  });

  it("but not on /v1, not with headers of another tenant, and not when two tenants have it", async () => {
    const id = `two-${crypto.randomUUID()}`;
    await create(id, newTenant().org_id);
    expect((await callAs(ROOT, "GET", `/v1/runs/${id}`)).status).toBe(404);
    const elsewhere = asTenant(newTenant().org_id);
    expect((await callAs(ROOT, "GET", `/context/runs/${id}`, undefined, elsewhere)).status).toBe(404);
    expect((await callAs(ROOT, "GET", `/context/runs/${id}`)).status).toBe(200);
    await create(id, newTenant().org_id);
    expect((await callAs(ROOT, "GET", `/context/runs/${id}`)).status).toBe(404);
  });

  it("and its own tenant's run of that id comes first", async () => {
    const id = `own-${crypto.randomUUID()}`;
    await create(id, newTenant().org_id);
    await callAs(ROOT, "POST", "/context/runs", { objective: "own", run_id: id });
    expect((await callAs(ROOT, "GET", `/context/runs/${id}`)).body.run.objective).toBe("own");
  });

  it("a token reaches no run of another tenant so", async () => {
    const id = `own-${crypto.randomUUID()}`;
    await create(id, newTenant().org_id);
    const { token } = await mint({
      scopes: ["operator"],
      tenant: { org_id: "local", workspace_id: "local" },
    });
    expect((await callAs(token, "GET", `/context/runs/${id}`)).status).toBe(404);
  });
});
