import { createExecutionContext, evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { artifactStore } from "../../src/artifacts/store.ts";
import { listAudit } from "../../src/directory/audit-events.ts";
import { forgetDeliveries, keepDelivery } from "../../src/directory/deliveries.ts";
import { readAllowance, writeQuotas } from "../../src/directory/quotas.ts";
import { putRun } from "../../src/directory/runs.ts";
import { addToken } from "../../src/directory/tokens.ts";
import { putPart, removeUpload, reservePart } from "../../src/directory/uploads.ts";
import { newRun } from "../../src/domain/run.ts";
import type { FeedClient } from "../../src/feed/feed-client.ts";
import { applyMapping } from "../../src/hooks/mapping/apply.ts";
import { Call } from "../../src/http/call.ts";
import type { HttpAnswer } from "../../src/http/http-answer.ts";
import { RequestRefused } from "../../src/http/problem.ts";
import { overQuota, TAKEN, takingKey } from "../../src/http/quota.ts";
import { findRoute } from "../../src/http/router.ts";
import { ROUTES } from "../../src/http/routes.ts";
import { type Principal, rootPrincipal } from "../../src/identity/principal.ts";
import { feedObjectName, LOCAL_TENANT, tenantKey, tenantOfKey } from "../../src/identity/tenant.ts";
import { DEFAULT_QUOTAS } from "../../src/protocol/limits.ts";
import type { Quotas } from "../../src/protocol/quotas.ts";
import { NO_TASKS } from "../../src/run/storage/tasks.ts";
import { type Seat, takeSeat } from "../../src/streams/seat.ts";
import { draftOf, eventually } from "../run/support/test-run.ts";

const db = env.DIRECTORY;
const NONE: Quotas = { runs: null, artifact_bytes: null, streams: null, deliveries: null, tokens: null };

/** The holder of a token of a tenant that no other test uses, and its root. */
function newTenant(): { key: string; token: Principal; root: Principal } {
  const root = rootPrincipal({ ...LOCAL_TENANT, workspace_id: crypto.randomUUID() });
  const token: Principal = { ...root, kind: "token", token_id: "tok_test" };
  return { key: tenantKey(root.tenant), token, root };
}

/** Asks as someone; rejects with the refusal. */
async function ask(
  principal: Principal,
  method: string,
  path: string,
  body?: string | object,
  more: Record<string, string> = {},
): Promise<HttpAnswer> {
  const text = typeof body === "object" ? JSON.stringify(body) : body;
  const request = new Request(`https://baton.example${path}`, {
    method,
    ...(text !== undefined && {
      body: text,
      headers: { "content-type": "application/json", "content-length": String(text.length), ...more },
    }),
  });
  const { route, ids } = findRoute(method, path.split("?")[0] ?? "");
  const over = await overQuota(env, principal, route, request);
  const context = createExecutionContext();
  return route.handle(new Call({ request, env, context, principal, door: route.door, ids, over }));
}

async function jsonOf({ body }: HttpAnswer): Promise<Record<string, unknown>> {
  return (await new Response(body).json()) as Record<string, unknown>;
}

/** What a request is refused with. */
async function refusalOf(asking: Promise<HttpAnswer>): Promise<object> {
  const refused = await asking.then(
    () => null,
    (error: unknown) => error,
  );
  if (refused instanceof RequestRefused) return refused.problem;
  throw refused ?? new Error("it was not refused");
}

const newRunOf = (run_id: string) => ({ run_id, objective: "Count me" });

describe("quotas: what is counted", () => {
  /** What happens to the tables that are counted. Numbers are names of runs and contents, or bytes. */
  type Step =
    | {
        do:
          | "put run"
          | "drop run"
          | "drop blob"
          | "drop upload"
          | "forget delivery"
          | "mint"
          | "forget token";
        id: number;
      }
    | { do: "put blob" | "keep delivery"; id: number; bytes: number }
    | { do: "put part"; id: number; part: number; bytes: number };
  const id = fc.nat({ max: 3 });
  const bytes = fc.nat({ max: 1_000 });
  const anyStep = fc.oneof(
    fc.record({
      do: fc.constantFrom(
        "put run",
        "drop run",
        "drop blob",
        "drop upload",
        "forget delivery",
        "mint",
        "forget token",
      ),
      id,
    }),
    fc.record({ do: fc.constantFrom("put blob", "keep delivery"), id, bytes }),
    fc.record({ do: fc.constant("put part"), id, part: fc.integer({ min: 1, max: 2 }), bytes }),
  ) as fc.Arbitrary<Step>;

  async function take(tenant: string, step: Step): Promise<void> {
    const name = `${tenant}-${step.id}`;
    switch (step.do) {
      case "put run":
        await putRun(db, {
          tenant,
          run: newRun(draftOf(name), LOCAL_TENANT, 1),
          taskCounts: NO_TASKS,
          leaseDueAtMs: null,
        });
        return;
      case "drop run":
        await db.prepare("DELETE FROM runs WHERE tenant = ? AND run_id = ?").bind(tenant, name).run();
        return;
      case "put blob":
        await db
          .prepare(
            "INSERT INTO blobs (tenant, sha256, key, bytes) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
          )
          .bind(tenant, name, name, step.bytes)
          .run();
        return;
      case "drop blob":
        await db.prepare("DELETE FROM blobs WHERE tenant = ? AND sha256 = ?").bind(tenant, name).run();
        return;
      case "put part":
        await db
          .prepare(
            `INSERT INTO uploads (tenant, run_id, upload_id, key, multipart_id, asked, started_at_ms, done)
             VALUES (?, 'r', ?, 'k', 'm', '{}', 1, 0) ON CONFLICT DO NOTHING`,
          )
          .bind(tenant, name)
          .run();
        await reservePart(db, { tenant, run_id: "r", upload_id: name }, step.part, step.bytes);
        // One that does not arrive counts all the same: R2 may have it.
        if (step.bytes % 2 === 0) {
          await putPart(db, name, { part: step.part, etag: "e", sha256: "0", bytes: step.bytes });
        }
        return;
      case "drop upload":
        return removeUpload(db, { tenant, run_id: "r", upload_id: name });
      case "keep delivery":
        await keepDelivery(
          db,
          {
            tenant,
            hook_id: "h",
            delivery_id: name,
            delivery_key: name,
            keyed_by: "delivery_id",
            event: null,
            received_at_ms: 1,
            headers: {},
            content_type: "",
            bytes: step.bytes,
            sha256: "0",
          },
          { bytes: new Uint8Array(step.bytes) },
        );
        return;
      case "mint": {
        const by = rootPrincipal(tenantOfKey(tenant));
        const token = { ...by, kind: "token" as const, token_id: name, expires_at_ms: 1 };
        await addToken(db, by, token, { name: null, fingerprint: null }, 1);
        return;
      }
      case "forget token":
        await db.prepare("DELETE FROM tokens WHERE tenant = ? AND token_id = ?").bind(tenant, name).run();
        return;
      case "forget delivery":
        return forgetDeliveries(db, [{ tenant, hook_id: "h", delivery_id: name }], 1);
    }
  }

  it("usage is what the tables hold, whatever happened to them", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyStep, { maxLength: 30 }), async (steps) => {
        const tenant = `test/${crypto.randomUUID()}`;
        for (const step of steps) await take(tenant, step);
        const held = await db
          .prepare(
            `SELECT (SELECT count(*) FROM runs WHERE tenant = ?1) AS runs,
               (SELECT coalesce(sum(bytes), 0) FROM blobs WHERE tenant = ?1) +
               (SELECT coalesce(sum(bytes), 0) FROM upload_parts WHERE tenant = ?1) +
               (SELECT coalesce(sum(bytes), 0) FROM deliveries WHERE tenant = ?1) AS artifact_bytes,
               (SELECT count(*) FROM deliveries WHERE tenant = ?1) AS deliveries,
               (SELECT count(*) FROM tokens WHERE tenant = ?1) AS tokens`,
          )
          .bind(tenant)
          .first();
        expect((await readAllowance(db, tenant)).used).toEqual(held);
      }),
      { numRuns: 25 },
    );
  });

  it("a tenant's contents count once, whoever holds them", async () => {
    const { key } = newTenant();
    const store = artifactStore(env, key);
    await store?.keep("run:a", "hello");
    await store?.keep("run:b", "hello");
    expect((await readAllowance(db, key)).used).toEqual({
      runs: 0,
      artifact_bytes: 5,
      deliveries: 0,
      tokens: 0,
    });
  });

  it("a tenant of which nothing is known has the defaults and uses nothing", async () => {
    expect(await readAllowance(db, newTenant().key)).toEqual({
      limits: DEFAULT_QUOTAS,
      own: NONE,
      used: { runs: 0, artifact_bytes: 0, deliveries: 0, tokens: 0 },
    });
  });
});

describe("quotas: what is refused", () => {
  it("every route that makes runs or takes in contents takes of a quota, and each entry is a route", () => {
    const known = new Set(ROUTES.map(takingKey));
    for (const key of Object.keys(TAKEN)) expect(known).toContain(key);
    const making = /^POST \/runs(\/import|\/import\/reference|\/:run_id\/fork)?$|artifacts|uploads/;
    const rest = [...known].filter((key) => making.test(key) && TAKEN[key] === undefined).sort();
    // What reads, gives back, or makes a whole of parts that were counted.
    expect(rest).toEqual([
      "DELETE /runs/:run_id/artifacts/:path+",
      "DELETE /runs/:run_id/uploads/:upload_id",
      "GET /runs/:run_id/artifacts",
      "GET /runs/:run_id/artifacts/:path+",
      "POST /runs/:run_id/uploads/:upload_id/complete",
    ]);
  });

  it.each(["/v1", "/context"])(
    "runs at %s: the last that fits is made, the next not, and room can be made",
    async (door) => {
      const { key, token, root } = newTenant();
      await writeQuotas(db, key, { ...NONE, runs: 2 }, 1).run();
      for (const run_id of ["a", "b"]) await ask(token, "POST", `${door}/runs`, newRunOf(run_id));
      const refusal = { code: "QUOTA_EXCEEDED", quota: "runs", limit: 2, used: 2 };
      expect(await refusalOf(ask(token, "POST", `${door}/runs`, newRunOf("c")))).toMatchObject(refusal);
      expect(await refusalOf(ask(token, "POST", "/v1/runs/a/fork", { run_id: "c" }))).toMatchObject(refusal);
      await ask(root, "DELETE", "/v1/runs/a");
      await ask(token, "POST", `${door}/runs`, newRunOf("c"));
      // Whoever sets the quotas is not held to them.
      await ask(root, "POST", `${door}/runs`, newRunOf("d"));
      expect((await readAllowance(db, key)).used.runs).toBe(3);
    },
  );

  it("what was done before the quota was used up is answered again under its key, and to it nothing is added", async () => {
    const { key, token } = newTenant();
    await ask(token, "POST", "/v1/runs", newRunOf("source"));
    const exported = await new Response((await ask(token, "GET", "/v1/runs/source/export")).body).text();
    const ndjson = { "content-type": "application/x-ndjson" };
    const done: [method: string, path: string, body: string | object, more?: Record<string, string>][] = [
      ["POST", "/v1/runs", newRunOf("a")],
      ["POST", "/context/runs", { ...newRunOf("b"), command_id: "b" }],
      ["POST", "/v1/runs/source/fork", { run_id: "c" }],
      ["POST", "/v1/runs/import?run_id=d", exported, ndjson],
      ["PUT", "/v1/runs/a/artifacts/x.txt", "hello"],
      ["POST", "/v1/runs/a/artifacts", { path: "y.json", artifact_type: "file", content: [1] }],
    ];
    const again = (path: string, more?: Record<string, string>) =>
      path.startsWith("/context") ? more : { "idempotency-key": path, ...more };
    for (const [method, path, body, more] of done) await ask(token, method, path, body, again(path, more));
    const { used } = await readAllowance(db, key);
    await writeQuotas(db, key, { ...NONE, runs: used.runs, artifact_bytes: used.artifact_bytes }, 1).run();
    for (const [method, path, body, more] of done) {
      const repeated = await ask(token, method, path, body, again(path, more));
      expect([path, repeated.status]).toEqual([path, path.startsWith("/context") ? 200 : 201]);
      const other = path.startsWith("/context")
        ? { ...newRunOf("e"), command_id: "e" }
        : path === "/v1/runs" || path.endsWith("fork")
          ? { ...(body as object), run_id: "e" }
          : body;
      const elsewhere = path.replace("run_id=d", "run_id=e");
      const refused = refusalOf(ask(token, method, elsewhere, other, more));
      expect(await refused).toMatchObject({ code: "QUOTA_EXCEEDED" });
    }
    expect((await readAllowance(db, key)).used).toEqual(used);
  });

  it("runs: deliveries of hooks make no more either, and one that made its run is carried on with", async () => {
    const { key, root } = newTenant();
    await writeQuotas(db, key, { ...NONE, runs: 1 }, 1).run();
    const hook = { hook_id: "hook_quota", mapping: { run: { objective: "Delivered" } } };
    const deliver = (delivery_id: string) => {
      const delivery = { delivery_id, event: "any", headers: {}, body: {}, received_at_ms: 1 };
      const content = { raw: new TextEncoder().encode("{}"), content_type: "application/json" };
      return applyMapping(env, { tenant: root.tenant, hook, delivery: { ...delivery, ...content } });
    };
    const made = await deliver("dlv_1");
    expect(made).toMatchObject({ status: "mapped", created: true });
    const refused = { status: "mapping_failed", error: { code: "QUOTA_EXCEEDED", quota: "runs", limit: 1 } };
    expect(await deliver("dlv_2")).toMatchObject(refused);
    expect(await deliver("dlv_1")).toEqual(made);
  });

  it("tokens: whoever may mint fills no more than the quota, and a repeated mint is answered", async () => {
    const { key, token } = newTenant();
    const mint = (idempotency: string) =>
      ask(token, "POST", "/v1/tokens", { scopes: ["viewer"] }, { "idempotency-key": idempotency });
    await writeQuotas(db, key, { ...NONE, tokens: 1 }, 1).run();
    expect((await mint("a")).status).toBe(201);
    expect(await refusalOf(mint("b"))).toMatchObject({ code: "QUOTA_EXCEEDED", quota: "tokens", used: 1 });
    expect((await mint("a")).headers["idempotency-replayed"]).toBe("true");
  });

  it("bytes: what would go over is refused before it is read, in one request and in parts", async () => {
    const { key, token } = newTenant();
    await ask(token, "POST", "/v1/runs", newRunOf("a"));
    await writeQuotas(db, key, { ...NONE, artifact_bytes: 10 }, 1).run();
    await ask(token, "PUT", "/v1/runs/a/artifacts/x.txt", "12345678");
    const refusal = { code: "QUOTA_EXCEEDED", quota: "artifact_bytes", limit: 10, used: 8 };
    expect(await refusalOf(ask(token, "PUT", "/v1/runs/a/artifacts/y.txt", "123"))).toMatchObject(refusal);
    const uploads = "/v1/runs/a/uploads";
    await writeQuotas(db, key, { ...NONE, artifact_bytes: 20 }, 1).run();
    const { upload_id } = await jsonOf(await ask(token, "POST", uploads, { path: "z" }));
    await ask(token, "PUT", `${uploads}/${String(upload_id)}/parts/1`, "0123456789");
    const full = { ...refusal, limit: 20, used: 18 };
    const part = `${uploads}/${String(upload_id)}/parts/2`;
    expect(await refusalOf(ask(token, "PUT", part, "012"))).toMatchObject(full);
    const first = `${uploads}/${String(upload_id)}/parts/1`;
    const usedBytes = async () => (await readAllowance(db, key)).used.artifact_bytes;
    await writeQuotas(db, key, { ...NONE, artifact_bytes: 50 }, 1).run();
    // R2 has what came with another digest too, until the upload ends.
    const wrong = { "content-digest": `sha-256=:${"A".repeat(43)}=:` };
    const spoilt = await refusalOf(ask(token, "PUT", part, "0123456789", wrong));
    expect([spoilt, await usedBytes()]).toMatchObject([{ code: "DIGEST_MISMATCH" }, 28]);
    await ask(token, "PUT", first, "01234");
    expect(await usedBytes()).toBe(23);
    await ask(token, "DELETE", `${uploads}/${String(upload_id)}`);
    expect(await usedBytes()).toBe(8);
  });

  it("bytes: a part that arrives when its upload was given up counts for nobody", async () => {
    const { key } = newTenant();
    const upload = { tenant: key, run_id: "r", upload_id: "gone" };
    expect(await reservePart(db, upload, 1, 10)).toBe(false);
    expect(await putPart(db, "gone", { part: 1, etag: "e", sha256: "0", bytes: 10 })).toBe(false);
    expect((await readAllowance(db, key)).used.artifact_bytes).toBe(0);
  });
});

describe("quotas: streams", () => {
  const taken = async (key: string): Promise<number> => {
    const feed = env.FEEDS.getByName(feedObjectName({ tenant: key, workspace: null }));
    return (feed as unknown as { seatsTaken(): Promise<number> }).seatsTaken();
  };
  // A reader that left is missed at the latest when the next keep-alive cannot be written, after 10 s.
  const settled = (key: string, count: number) =>
    eventually(
      () => taken(key),
      (seats) => seats === count,
      20_000,
    );

  it.each([
    "/v1/runs/a/events/stream",
    "/context/runs/a/events/stream",
    "/v1/events/stream",
    "/context/runs/events/stream",
  ])("%s takes a seat until its reader leaves", async (path) => {
    const { key, token, root } = newTenant();
    await ask(token, "POST", "/v1/runs", newRunOf("a"));
    await writeQuotas(db, key, { ...NONE, streams: 2 }, 1).run();
    const query = path.startsWith("/context/runs/e") ? "?workspace=/w" : "";
    const open = (principal: Principal) => ask(principal, "GET", path + query);
    const [first, second] = [await open(token), await open(token)];
    expect(await refusalOf(open(token))).toMatchObject({
      code: "QUOTA_EXCEEDED",
      quota: "streams",
      limit: 2,
      used: 2,
    });
    const ofRoot = await open(root);
    expect(await taken(key)).toBe(2);
    await (first.body as ReadableStream).cancel();
    await settled(key, 1);
    const third = await open(token);
    for (const { body } of [second, third, ofRoot]) await (body as ReadableStream).cancel();
    await settled(key, 0);
  });

  it.each(["/v1", "/context"])("a list that waits has a seat meanwhile: %s", async (door) => {
    const { key, token } = newTenant();
    await ask(token, "POST", "/v1/runs", newRunOf("a"));
    const list = (waitMs: number) => ask(token, "GET", `${door}/runs/a/events?since_seq=0&wait_ms=${waitMs}`);
    await writeQuotas(db, key, { ...NONE, streams: 1 }, 1).run();
    const waiting = list(50_000);
    await settled(key, 1);
    expect(await refusalOf(list(50_000))).toMatchObject({
      code: "QUOTA_EXCEEDED",
      quota: "streams",
      used: 1,
    });
    expect((await list(0)).status).toBe(200);
    await ask(token, "POST", "/v1/runs/a/events", { type: "news", status: "running" });
    expect((await waiting).status).toBe(200);
    await settled(key, 0);
    expect((await list(50_000)).status).toBe(200);
    expect(await taken(key)).toBe(0);
  });

  it("one that is refused, or asked only for its headers, takes none", async () => {
    const { key, token } = newTenant();
    expect(await refusalOf(ask(token, "GET", "/v1/runs/none/events/stream"))).toMatchObject({
      code: "RUN_NOT_FOUND",
    });
    await settled(key, 0);
  });

  it("seats outlive the feed's sleep, and are taken again after its restart", async () => {
    const { key, token } = newTenant();
    await ask(token, "POST", "/v1/runs", newRunOf("a"));
    const stream = await ask(token, "GET", "/v1/runs/a/events/stream");
    const feed = env.FEEDS.getByName(feedObjectName({ tenant: key, workspace: null }));
    await evictDurableObject(feed);
    expect(await taken(key)).toBe(1);
    await runInDurableObject(feed, (_object, state) => state.abort("the test aborts it")).catch(
      () => undefined,
    );
    await eventually(
      () => taken(key).catch(() => -1),
      (seats) => seats === 1,
      10_000,
    );
    await (stream.body as ReadableStream).cancel();
    await settled(key, 0);
  });

  it("a seat is taken again however often the feed cannot be reached meanwhile", async () => {
    const { key } = newTenant();
    const feed = () => env.FEEDS.getByName(feedObjectName({ tenant: key, workspace: null }));
    let failing = 0;
    const way = () => {
      failing -= 1;
      if (failing >= 0) throw new Error("the feed cannot be reached");
      return feed() as unknown as FeedClient;
    };
    const seat = (await takeSeat(way, 1)) as Seat;
    failing = 2;
    await runInDurableObject(feed(), (_object, state) => state.abort("the test aborts it")).catch(
      () => undefined,
    );
    await eventually(
      () => taken(key).catch(() => -1),
      (seats) => seats === 1 && failing < 0,
      10_000,
    );
    seat.release();
    await settled(key, 0);
  });

  it("seats are nobody's followers: a run that commits has none to tell", async () => {
    const { key, token } = newTenant();
    await ask(token, "POST", "/v1/runs", newRunOf("a"));
    const stream = await ask(token, "GET", "/v1/runs/a/events/stream");
    const feed = env.FEEDS.getByName(feedObjectName({ tenant: key, workspace: null }));
    const followers = await runInDurableObject(
      feed,
      (_object, state) => state.getWebSockets("follower").length,
    );
    expect([await taken(key), followers]).toEqual([1, 0]);
    await (stream.body as ReadableStream).cancel();
  });
});

describe("GET and PUT /v1/quotas", () => {
  it("shows limits and use; root replaces the limits, which is recorded", async () => {
    const { key, token, root } = newTenant();
    await ask(token, "POST", "/v1/runs", newRunOf("a"));
    const before = await jsonOf(await ask(token, "GET", "/v1/quotas"));
    expect(before).toEqual({
      quotas: {
        runs: { limit: DEFAULT_QUOTAS.runs, used: 1, is_default: true },
        artifact_bytes: { limit: DEFAULT_QUOTAS.artifact_bytes, used: 0, is_default: true },
        streams: { limit: DEFAULT_QUOTAS.streams, used: 0, is_default: true },
        deliveries: { limit: DEFAULT_QUOTAS.deliveries, used: 0, is_default: true },
        tokens: { limit: DEFAULT_QUOTAS.tokens, used: 0, is_default: true },
      },
    });
    const own = { ...NONE, runs: 1, streams: 0 };
    const after = await jsonOf(await ask(root, "PUT", "/v1/quotas", own));
    expect(after).toMatchObject({
      quotas: { runs: { limit: 1, used: 1, is_default: false }, streams: { limit: 0, is_default: false } },
    });
    const [event] = await listAudit(db, key, Number.MAX_SAFE_INTEGER, 1);
    expect(event).toMatchObject({ type: "quotas.changed", subject: key, token_id: "root", detail: own });
  });

  it("no token sets quotas, an operator's neither", async () => {
    const { token } = newTenant();
    const raised = { runs: 9, artifact_bytes: 9, streams: 9, deliveries: 9, tokens: 9 };
    expect(await refusalOf(ask(token, "PUT", "/v1/quotas", raised))).toMatchObject({ code: "ROOT_REQUIRED" });
  });

  it.each([
    {},
    { runs: 1 },
    { ...NONE, runs: -1 },
    { ...NONE, runs: 1.5 },
    { ...NONE, streams: 30_001 },
    { ...NONE, tasks: 1 },
  ])("%j is no quotas", async (body) => {
    const { root } = newTenant();
    expect(await refusalOf(ask(root, "PUT", "/v1/quotas", body))).toMatchObject({ code: "BODY_INVALID" });
  });
});
