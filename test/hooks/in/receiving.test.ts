import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { findHookByPublicId } from "../../../src/directory/hooks.ts";
import { writeQuotas } from "../../../src/directory/quotas.ts";
import type { Env } from "../../../src/env.ts";
import { receive } from "../../../src/hooks/in/receive.ts";
import { Received } from "../../../src/hooks/in/received.ts";
import { sealSecret } from "../../../src/hooks/in/secrets.ts";
import { Call } from "../../../src/http/call.ts";
import { RequestRefused } from "../../../src/http/problem.ts";
import { findRoute } from "../../../src/http/router.ts";
import { ROUTES } from "../../../src/http/routes.ts";
import { keyringOf } from "../../../src/identity/keyring.ts";
import { rootPrincipal } from "../../../src/identity/principal.ts";
import { LOCAL_TENANT } from "../../../src/identity/tenant.ts";
import { DEFAULT_DELIVERY_BYTES, MAX_DELIVERY_BYTES } from "../../../src/protocol/limits.ts";
import type { Quotas } from "../../../src/protocol/quotas.ts";
import { ANYTHING, type Answered, api, delivery, hookOf, newHook, send } from "./support/hooks.ts";
import {
  githubSender,
  SENDERS,
  type Sender,
  sentrySender,
  slackSender,
  standardSender,
  stripeSender,
} from "./support/senders.ts";

/** All deliveries of a hook. */
async function deliveriesOf(path: string) {
  const listed = await api("GET", `${path}/deliveries?limit=1000`);
  expect(listed.status, listed.text).toBe(200);
  return listed.body.deliveries;
}

/** The request with other headers. */
function changed(request: Request, change: (headers: Headers) => void): Request {
  const headers = new Headers(request.headers);
  change(headers);
  return new Request(request, { headers });
}

const eventsOf = async (runId: string) =>
  (await api("GET", `/v1/runs/${runId}/events?limit=1000`)).body.events;

describe("docs/webhooks-in.md: a delivery becomes part of a run", () => {
  it.each(SENDERS)("$name: verified, kept, answered 202, mapped", async (sender) => {
    const hook = await newHook(sender);
    const answer = await send(await delivery(sender, hook.url));
    expect(answer.status, answer.text).toBe(202);
    const { delivery_id, status, run_id } = answer.body;
    expect([status, run_id]).toEqual(["accepted", undefined]);
    expect(answer.headers.get("baton-delivery-id")).toBe(delivery_id);
    const [kept] = await deliveriesOf(hook.path);
    expect(kept).toMatchObject({ delivery_id, status: "mapped", attempts: 1, repeats: 0 });
    const run = await api("GET", `/v1/runs/${kept.run_id}`);
    expect(run.body.run.objective).toBe(ANYTHING.run.objective);
  });

  it("the same delivery again is a duplicate with the same run, and leaves nothing more in it", async () => {
    const hook = await newHook(githubSender);
    const first = await send(await delivery(githubSender, hook.url, { id: "g1" }));
    const again = await send(await delivery(githubSender, hook.url, { id: "g1" }));
    const [kept, ...more] = await deliveriesOf(hook.path);
    expect(more).toEqual([]);
    expect(again.status).toBe(202);
    expect(again.body).toEqual({
      delivery_id: first.body.delivery_id,
      status: "duplicate",
      keyed_by: "delivery_id",
      run_id: kept.run_id,
    });
    expect(kept.repeats).toBe(1);
    const events = await eventsOf(kept.run_id);
    // What it left: its payload as an artifact, and its event.
    expect(events).toHaveLength(2);
    await send(await delivery(githubSender, hook.url, { id: "g2" }));
    expect(await eventsOf(kept.run_id)).toHaveLength(4);
  });

  it("the same delivery at two hooks is two deliveries and two runs", async () => {
    const hooks = [await newHook(githubSender), await newHook(githubSender)];
    for (const hook of hooks) await send(await delivery(githubSender, hook.url, { id: "same" }));
    const kept = await Promise.all(hooks.map(async (hook) => (await deliveriesOf(hook.path))[0]));
    expect(new Set(kept.map(({ run_id }) => run_id)).size).toBe(2);
    expect(new Set(kept.map(({ delivery_id }) => delivery_id)).size).toBe(2);
  });

  it("a sender without ids is known by its bodies, and the answer says so", async () => {
    const scheme = { kind: "shared_secret", header: "x-token" };
    const hook = hookOf(
      await api("POST", "/v1/hooks", { name: "s", scheme, mapping: ANYTHING, secret: "a shared secret 1" }),
    );
    const post = (body: string) =>
      send(new Request(hook.url, { method: "POST", headers: { "x-token": "a shared secret 1" }, body }));
    const answers = [await post(`{"a":1}`), await post(`{"a":1}`), await post(`{"a":2}`)];
    expect(answers.map(({ body }) => [body.status, body.keyed_by])).toEqual([
      ["accepted", "body_digest"],
      ["duplicate", "body_digest"],
      ["accepted", "body_digest"],
    ]);
  });

  it("a thousand concurrent copies of one delivery are one row and one run", async () => {
    const hook = await newHook(standardSender);
    const nowMs = Date.now();
    const body = standardSender.body(nowMs);
    const headers = {
      ...(await standardSender.sign(hook.secret, body, nowMs, "one")),
      "cf-connecting-ip": "192.0.2.77",
    };
    const answers = await Promise.all(
      Array.from({ length: 1_000 }, () => send(new Request(hook.url, { method: "POST", headers, body }))),
    );
    const told = Map.groupBy(answers, (answer) => `${answer.status} ${answer.body.status}`);
    expect([...told].map(([what, { length }]) => [what, length]).sort()).toEqual([
      ["202 accepted", 1],
      ["202 duplicate", 999],
    ]);
    expect(new Set(answers.map((answer) => answer.body.delivery_id)).size).toBe(1);
    const [kept, ...more] = await deliveriesOf(hook.path);
    expect(more).toEqual([]);
    expect(kept).toMatchObject({ status: "mapped", repeats: 999, attempts: 1 });
    expect(await eventsOf(kept.run_id)).toHaveLength(2);
  }, 120_000);
});

describe("docs/webhooks-in.md: providers that only ask are answered, and nothing is kept", () => {
  it("GitHub's ping", async () => {
    const hook = await newHook(githubSender);
    const answer = await send(
      await delivery(githubSender, hook.url, { headers: { "x-github-event": "ping" } }),
    );
    expect([answer.status, answer.body]).toEqual([200, { status: "pong" }]);
    expect(await deliveriesOf(hook.path)).toEqual([]);
  });

  it("Slack's challenge, once it is verified", async () => {
    const hook = await newHook(slackSender);
    const body = `{"type":"url_verification","token":"x","challenge":"3eZbrw1aB"}`;
    const answer = await send(await delivery(slackSender, hook.url, { body }));
    expect([answer.status, answer.body]).toEqual([200, { challenge: "3eZbrw1aB" }]);
    const forged = await send(
      await delivery(slackSender, hook.url, { body, secret: slackSender.secrets[1] }),
    );
    expect([forged.status, forged.text.includes("3eZbrw1aB")]).toEqual([401, false]);
    expect(await deliveriesOf(hook.path)).toEqual([]);
  });

  it("Slack's commands and buttons get 200 and an empty body, which shows its user nothing", async () => {
    const hook = await newHook(slackSender);
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const bodies = [
      "command=%2Ffix&text=it&trigger_id=1.1",
      `payload=${encodeURIComponent(`{"type":"block_actions","trigger_id":"2.2"}`)}`,
    ];
    for (const body of bodies) {
      const answer = await send(await delivery(slackSender, hook.url, { body, headers }));
      expect([answer.status, answer.text]).toEqual([200, ""]);
    }
    const kept = await deliveriesOf(hook.path);
    expect(kept.map(({ event, status }: Record<string, string>) => [event, status]).sort()).toEqual([
      ["block_actions", "mapped"],
      ["slash_command", "mapped"],
    ]);
  });

  it("GitHub's form is the JSON in it", async () => {
    const hook = await newHook(githubSender);
    const body = `payload=${encodeURIComponent(githubSender.body(0))}`;
    const headers = { "content-type": "application/x-www-form-urlencoded" };
    const answer = await send(await delivery(githubSender, hook.url, { body, headers }));
    const read = await api("GET", `${hook.path}/deliveries/${answer.body.delivery_id}`);
    expect(read.body.payload).toEqual(JSON.parse(githubSender.body(0)));
  });
});

describe("docs/webhooks-in.md: bad input at a hook", () => {
  it("whatever is wrong with the proof, the sender is told the same, and the operator why", async () => {
    const reasons: [string, (headers: Headers) => void][] = [
      ["header_missing", (headers) => headers.delete("webhook-signature")],
      ["header_malformed", (headers) => headers.set("webhook-timestamp", "soon")],
      ["signature_mismatch", (headers) => headers.set("webhook-id", "another")],
      [
        "header_duplicated",
        (headers) => headers.append("webhook-signature", headers.get("webhook-signature") ?? ""),
      ],
    ];
    const told = new Set<string>();
    for (const [reason, change] of reasons) {
      const hook = await newHook(standardSender);
      const answer = await send(changed(await delivery(standardSender, hook.url), change));
      expect([answer.status, answer.body.code]).toEqual([401, "SIGNATURE_INVALID"]);
      expect(answer.headers.has("www-authenticate")).toBe(true);
      const { request_id, instance, ...same } = answer.body;
      told.add(JSON.stringify(same));
      const { refusals } = (await api("GET", hook.path)).body.hook;
      expect(refusals).toMatchObject({ count: 1, last_reason: reason, last_at_ms: expect.any(Number) });
      expect(await deliveriesOf(hook.path)).toEqual([]);
    }
    expect(told.size).toBe(1);
  });

  it("forgeries in a row cost one write, and are counted with the next that is written", async () => {
    const hook = await newHook(githubSender);
    for (let sent = 0; sent < 5; sent += 1) {
      await send(await delivery(githubSender, hook.url, { secret: githubSender.secrets[1] }));
    }
    expect((await api("GET", hook.path)).body.hook.refusals.count).toBe(1);
  });

  it("a URL that is no hook's, a deleted hook's, a disabled hook's, another method", async () => {
    const hook = await newHook(githubSender);
    const code = async (answer: Promise<Answered>) => {
      const { status, body } = await answer;
      return [status, body.code];
    };
    const unknown = hook.url.replace(/.$/, (last) => (last === "0" ? "1" : "0"));
    const post = async (url: string) => send(await delivery(githubSender, url));
    expect(await code(post(unknown))).toEqual([404, "HOOK_NOT_FOUND"]);
    expect(await code(post(hook.url.slice(0, -1)))).toEqual([404, "HOOK_NOT_FOUND"]);
    expect(await code(send(new Request(hook.url)))).toEqual([405, "METHOD_NOT_ALLOWED"]);
    const { name, scheme } = githubSender;
    const off = { name, scheme, mapping: ANYTHING, enabled: false };
    expect((await api("PUT", hook.path, off)).body.hook.enabled).toBe(false);
    expect(await code(post(hook.url))).toEqual([410, "HOOK_DISABLED"]);
    expect((await api("DELETE", hook.path)).status).toBe(204);
    expect(await code(post(hook.url))).toEqual([404, "HOOK_NOT_FOUND"]);
    expect(await code(api("GET", hook.path))).toEqual([404, "HOOK_NOT_FOUND"]);
    expect(await code(api("DELETE", hook.path))).toEqual([404, "HOOK_NOT_FOUND"]);
  });

  it("a body over the hook's bound, said or not, is refused; one as long as the bound is not", async () => {
    const hook = await newHook(githubSender, { max_body_bytes: 2_000 });
    const post = async (length: number, isDeclared: boolean) => {
      const request = await delivery(githubSender, hook.url, {
        body: JSON.stringify("x".repeat(length - 2)),
      });
      const bytes = new Uint8Array(await request.clone().arrayBuffer());
      const body = isDeclared ? bytes : new Blob([bytes]).stream();
      return send(new Request(request, { body }));
    };
    for (const isDeclared of [true, false]) {
      const refused = await post(2_001, isDeclared);
      expect([refused.status, refused.body.code, refused.body.limit]).toEqual([413, "BODY_TOO_LARGE", 2_000]);
      expect((await post(2_000, isDeclared)).status).toBe(202);
    }
  });

  it("25 MiB are taken, kept as they came, and too much to map; a byte more is refused", async () => {
    const hook = await newHook(githubSender, { max_body_bytes: MAX_DELIVERY_BYTES });
    const body = JSON.stringify("x".repeat(MAX_DELIVERY_BYTES - 2));
    const answer = await send(await delivery(githubSender, hook.url, { body }));
    expect(answer.status, answer.text).toBe(202);
    const path = `${hook.path}/deliveries/${answer.body.delivery_id}`;
    const read = await api("GET", path);
    expect(read.body.delivery).toMatchObject({
      status: "mapping_failed",
      bytes: MAX_DELIVERY_BYTES,
      result: { error: { code: "MAPPING_LIMIT", limit_name: "payload_bytes" } },
    });
    expect("payload" in read.body).toBe(false);
    expect((await api("GET", `${path}/payload`)).text === body).toBe(true);
    const more = await send(await delivery(githubSender, hook.url, { body: `${body} ` }));
    expect([more.status, more.body.code]).toEqual([413, "BODY_TOO_LARGE"]);
  });

  it("without a bucket, what does not fit into D1 is refused, and the rest is kept there", async () => {
    const { ARTIFACTS: _, ...bindings } = env;
    const hook = await newHook(githubSender, { max_body_bytes: MAX_DELIVERY_BYTES });
    const post = async (length: number) => {
      const body = JSON.stringify("x".repeat(length - 2));
      return send(await delivery(githubSender, hook.url, { body, id: String(length) }), { bindings });
    };
    expect((await post(DEFAULT_DELIVERY_BYTES + 1)).status).toBe(413);
    const kept = await post(DEFAULT_DELIVERY_BYTES);
    expect(kept.status, kept.text).toBe(202);
    const payload = await api(
      "GET",
      `${hook.path}/deliveries/${kept.body.delivery_id}/payload`,
      undefined,
      bindings,
    );
    expect(payload.text).toHaveLength(DEFAULT_DELIVERY_BYTES);
  });

  it("what is verified and no JSON is kept, and says so", async () => {
    const hook = await newHook(githubSender);
    for (const body of ["no JSON", "", '{"a":', "\u0000"]) {
      const id = String(body.length);
      const answer = await send(await delivery(githubSender, hook.url, { body, id }));
      expect(answer.status).toBe(202);
    }
    const kept = await deliveriesOf(hook.path);
    const told = kept.map(({ bytes, status, result }: Record<string, never>) => [bytes, status, result]);
    expect(told).toContainEqual([
      7,
      "mapping_failed",
      { error: { code: "PAYLOAD_MALFORMED", error: "body is not JSON" } },
    ]);
    expect(kept.filter(({ status }: { status: string }) => status === "mapping_failed")).toHaveLength(3);
  });

  it("whatever JSON it is, it is kept, comes to an end, and can be looked at", async () => {
    const hook = await newHook(githubSender, {
      mapping: { ...ANYTHING, run_key: '{{ a.b.c | default("k") }}' },
    });
    const bodies = [
      `${"[".repeat(20_000)}${"]".repeat(20_000)}`,
      `${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}`,
      `{"__proto__":{"a":1},"constructor":{"prototype":2}}`,
      `{"a":"\\ud800","b":1e400,"c":12345678901234567890,"a":{}}`,
      "null",
      `"${"\\u0000".repeat(1000)}"`,
    ];
    for (const [index, body] of bodies.entries()) {
      const answer = await send(await delivery(githubSender, hook.url, { body, id: `any-${index}` }));
      expect(answer.status, answer.text).toBe(202);
      const read = await api("GET", `${hook.path}/deliveries/${answer.body.delivery_id}`);
      expect(read.status, body.slice(0, 40)).toBe(200);
      expect(["mapped", "skipped", "mapping_failed"]).toContain(read.body.delivery.status);
    }
  });

  it("over a quota of the tenant nothing more is kept, and repeats of what is kept are answered", async () => {
    const keyring = keyringOf(env);
    const made = await newHook(githubSender);
    const found = await findHookByPublicId(env.DIRECTORY, made.url.split("/").at(-1) ?? "");
    if (found === null || keyring === null) throw new Error("there is no hook");
    // The same hook of another tenant, which has quotas of its own.
    const hook = { ...found, tenant: `test/${crypto.randomUUID()}` };
    hook.secrets = [await sealSecret(keyring, hook, made.secret, 1)];
    const limit = (limits: Partial<Quotas>) => {
      const none: Quotas = {
        runs: null,
        artifact_bytes: null,
        streams: null,
        deliveries: null,
        tokens: null,
      };
      return writeQuotas(env.DIRECTORY, hook.tenant, { ...none, ...limits }, 1).run();
    };
    const bytes = githubSender.body(0).length;
    const come = async (id: string) => {
      const { headers } = await delivery(githubSender, made.url, { id });
      const received = new Received(headers, new TextEncoder().encode(githubSender.body(0)));
      return receive(env, keyring, hook, received, { nowMs: 1, hasCredential: async () => false });
    };
    expect(await come("1")).toMatchObject({ kept: { status: "accepted" } });
    await limit({ deliveries: 1 });
    expect(await come("2")).toMatchObject({ exceeded: { quota: "deliveries", limit: 1, used: 1 } });
    await limit({ artifact_bytes: 2 * bytes - 1 });
    expect(await come("2")).toMatchObject({ exceeded: { quota: "artifact_bytes", used: bytes } });
    expect(await come("1")).toMatchObject({ kept: { status: "duplicate" } });
    await limit({ artifact_bytes: 2 * bytes, deliveries: 2 });
    expect(await come("2")).toMatchObject({ kept: { status: "accepted" } });
  });

  it("too many are refused before they are verified, by network and by hook", async () => {
    const full = { limit: async () => ({ success: false }) } as unknown as RateLimit;
    const hook = await newHook(githubSender);
    for (const binding of ["NETWORK_RATE", "HOOK_RATE"]) {
      const bindings = { ...env, [binding]: full } as Env;
      const answer = await send(await delivery(githubSender, hook.url), { bindings });
      expect([answer.status, answer.body.code]).toEqual([429, "RATE_LIMITED"]);
      expect(answer.headers.has("retry-after")).toBe(true);
    }
    expect(await deliveriesOf(hook.path)).toEqual([]);
  });

  it("a deployment without its secret takes nothing in; one with short secrets says what is missing", async () => {
    const hook = await newHook(githubSender);
    const { BATON_TOKEN: _token, BATON_KEYS: _keys, ...bare } = env;
    const bindings: [Partial<Env>, number, string][] = [
      [bare, 503, "SETUP_REQUIRED"],
      [{ ...bare, BATON_TOKEN: "test-token" }, 503, "KEYS_REQUIRED"],
    ];
    for (const [narrower, status, code] of bindings) {
      const answer = await send(await delivery(githubSender, hook.url), { bindings: narrower as Env });
      expect([answer.status, answer.body.code]).toEqual([status, code]);
    }
  });
});

describe("docs/webhooks-in.md: a bearer token delivers", () => {
  const scheme = { kind: "bearer", event_header: "x-event" };
  const post = (url: string, token: string | null, key?: string) => {
    const headers = {
      ...(token !== null && { authorization: `Bearer ${token}` }),
      ...(key !== undefined && { "idempotency-key": key }),
      "x-event": "built",
    };
    return send(new Request(url, { method: "POST", headers, body: `{"a":1}` }));
  };

  it("a valid one, once for each Idempotency-Key; no other", async () => {
    const created = await api("POST", "/v1/hooks", { name: "b", scheme, mapping: ANYTHING });
    const hook = hookOf(created);
    expect([created.body.secret, created.body.hook.secrets]).toEqual([null, []]);
    const answers = [
      await post(hook.url, "test-token", "k1"),
      await post(hook.url, "test-token", "k1"),
      await post(hook.url, "test-token", "k2"),
    ];
    expect(answers.map(({ body }) => body.status)).toEqual(["accepted", "duplicate", "accepted"]);
    for (const token of ["wrong", null]) {
      const refused = await post(hook.url, token, "k3");
      expect([refused.status, refused.body.code]).toEqual([401, "SIGNATURE_INVALID"]);
    }
    const kept = await deliveriesOf(hook.path);
    expect(kept.map(({ event }: { event: string }) => event)).toEqual(["built", "built"]);
    const read = await api("GET", `${hook.path}/deliveries/${kept[0].delivery_id}`);
    expect(Object.keys(read.body.headers)).not.toContain("authorization");
  });
});

describe("docs/webhooks-in.md: secrets", () => {
  it("are told once, kept sealed, and open in no other place", async () => {
    const created = await api("POST", "/v1/hooks", {
      name: "s",
      scheme: { kind: "standard" },
      mapping: ANYTHING,
    });
    const hook = hookOf(created);
    expect(hook.secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
    const sender: Sender = { ...standardSender, secrets: [hook.secret, ""] };
    expect((await send(await delivery(sender, hook.url))).status).toBe(202);
    expect((await api("GET", hook.path)).text).not.toContain(hook.secret.slice(6));
    const rows = await env.DIRECTORY.prepare("SELECT * FROM hooks WHERE hook_id = ?").bind(hook.id).all();
    expect(JSON.stringify(rows)).not.toContain(hook.secret.slice(6));
    const audit = await env.DIRECTORY.prepare("SELECT * FROM audit_events WHERE subject = ?")
      .bind(hook.id)
      .all();
    expect(JSON.stringify(audit)).not.toContain(hook.secret.slice(6));
    // Put into another hook's row, the sealed secret is none.
    const other = await newHook(standardSender);
    await env.DIRECTORY.prepare(
      "UPDATE hooks SET secrets = (SELECT secrets FROM hooks WHERE hook_id = ?) WHERE hook_id = ?",
    )
      .bind(hook.id, other.id)
      .run();
    expect((await send(await delivery(sender, other.url))).status).toBe(401);
  });

  it("are replaced with an overlap", async () => {
    const hook = await newHook(githubSender);
    const deliver = async (secret: string) =>
      (await send(await delivery(githubSender, hook.url, { secret, id: crypto.randomUUID() }))).status;
    const [old, fresh] = githubSender.secrets;
    expect([await deliver(old), await deliver(fresh)]).toEqual([202, 401]);
    const added = await api("POST", `${hook.path}/secrets`, { secret: fresh });
    expect([added.status, added.body.secret]).toEqual([201, fresh]);
    expect([await deliver(old), await deliver(fresh)]).toEqual([202, 202]);
    const { secrets } = (await api("GET", hook.path)).body.hook;
    expect(secrets).toHaveLength(2);
    const retire = (id: string) => api("DELETE", `${hook.path}/secrets/${id}`);
    expect((await retire(secrets[0].secret_id)).status).toBe(204);
    expect([await deliver(old), await deliver(fresh)]).toEqual([401, 202]);
    const gone = await retire(secrets[0].secret_id);
    expect([gone.status, gone.body.code]).toEqual([404, "SECRET_NOT_FOUND"]);
    // Made, when none is given.
    const made = await api("POST", `${hook.path}/secrets`);
    expect(await deliver(made.body.secret)).toBe(202);
    const { results } = await env.DIRECTORY.prepare(
      "SELECT type FROM audit_events WHERE subject = ? ORDER BY seq",
    )
      .bind(hook.id)
      .all<{ type: string }>();
    expect(results.map(({ type }) => type)).toEqual([
      "hook.created",
      "hook.secret_added",
      "hook.secret_retired",
      "hook.secret_added",
    ]);
  });

  it("are five at most, also when many are added at once", async () => {
    const hook = await newHook(githubSender);
    const added = await Promise.all(Array.from({ length: 8 }, () => api("POST", `${hook.path}/secrets`)));
    expect(added.filter(({ status }) => status === 201)).toHaveLength(4);
    expect(new Set(added.map(({ body }) => body.code))).toEqual(new Set([undefined, "LIMIT_EXCEEDED"]));
    expect((await api("GET", hook.path)).body.hook.secrets).toHaveLength(5);
    await Promise.all(Array.from({ length: 4 }, () => api("DELETE", hook.path)));
    const { results } = await env.DIRECTORY.prepare("SELECT type FROM audit_events WHERE subject = ?")
      .bind(hook.path.split("/").at(-1))
      .all<{ type: string }>();
    const audited = Object.groupBy(results, ({ type }) => type);
    expect([audited["hook.secret_added"]?.length, audited["hook.deleted"]?.length]).toEqual([4, 1]);
  });

  it("of Slack, Stripe and Linear are given later, when the provider has made them", async () => {
    const { scheme } = stripeSender;
    const created = await api("POST", "/v1/hooks", { name: "later", scheme, mapping: ANYTHING });
    const hook = hookOf(created);
    expect(created.body.secret).toBeNull();
    expect((await send(await delivery(stripeSender, hook.url))).status).toBe(401);
    expect((await api("GET", hook.path)).body.hook.refusals.last_reason).toBe("secret_missing");
    const none = await api("POST", `${hook.path}/secrets`);
    expect([none.status, none.body.issues[0].field]).toEqual([422, "secret"]);
    await api("POST", `${hook.path}/secrets`, { secret: stripeSender.secrets[0] });
    expect((await send(await delivery(stripeSender, hook.url))).status).toBe(202);
  });
});

describe("docs/webhooks-in.md: hooks are made and changed by API", () => {
  const good = { name: "n", scheme: { kind: "github" }, mapping: ANYTHING };
  const hmac = { kind: "hmac", header: "X-Sig" };
  const faults: [string, Record<string, unknown>, string][] = [
    ["no name", { ...good, name: undefined }, "name required"],
    ["an empty name", { ...good, name: "" }, "name too_small"],
    ["an unknown scheme", { ...good, scheme: { kind: "jira" } }, "scheme.kind "],
    ["a scheme as a text", { ...good, scheme: "github" }, "scheme object"],
    ["an unknown field", { ...good, url: "x" }, "url unknown_field"],
    [
      "a field that the scheme has not",
      { ...good, scheme: { kind: "github", header: "x" } },
      "scheme.header unknown_field",
    ],
    ["hmac without its header", { ...good, scheme: { kind: "hmac" } }, "scheme.header required"],
    ["no header's name", { ...good, scheme: { ...hmac, header: "a b" } }, "scheme.header "],
    [
      "hmac that does not sign the body",
      { ...good, scheme: { ...hmac, signed: "{id}" } },
      "scheme.signed signs_body",
    ],
    [
      "a time that is not signed",
      { ...good, scheme: { ...hmac, timestamp_header: "x-t" } },
      "scheme.timestamp_header signed_timestamp",
    ],
    [
      "a signed id from nowhere",
      { ...good, scheme: { ...hmac, signed: "{id}{body}" } },
      "scheme.id_header required",
    ],
    [
      "an id that would be the proof",
      { ...good, scheme: { kind: "shared_secret", header: "x-token", id_header: "X-Token" } },
      "scheme.id_header not_the_proof",
    ],
    [
      "an event that would be the signature",
      { ...good, scheme: { ...hmac, event_header: "x-sig" } },
      "scheme.event_header not_the_proof",
    ],
    [
      "an event that would be a token",
      { ...good, scheme: { kind: "bearer", event_header: "Authorization" } },
      "scheme.event_header ",
    ],
    [
      "a prefix that looks like two headers",
      { ...good, scheme: { ...hmac, prefix: "v1," } },
      "scheme.prefix ",
    ],
    [
      "a shared secret that no header brings as it is",
      { ...good, scheme: { kind: "shared_secret", header: "x-token" }, secret: "a,bbbbbbbbbbbbbbb" },
      "secret secret_format",
    ],
    [
      "a secret without its prefix",
      { ...good, scheme: { kind: "standard" }, secret: btoa("x".repeat(32)) },
      "secret secret_format",
    ],
    ["a pointer that is none", { ...good, scheme: { ...hmac, id_pointer: "a.b" } }, "scheme.id_pointer "],
    ["a bound that is too high", { ...good, max_body_bytes: 26 * 1024 * 1024 }, "max_body_bytes too_big"],
    ["a short secret", { ...good, secret: "123456789012345" }, "secret too_small"],
    [
      "a secret that is none",
      { ...good, scheme: { kind: "standard" }, secret: "whsec_AAAAAAAAAAAA" },
      "secret secret_format",
    ],
    [
      "a secret that is not hex",
      { ...good, scheme: { ...hmac, secret_encoding: "hex" }, secret: "x".repeat(16) },
      "secret secret_format",
    ],
    [
      "a secret for tokens",
      { ...good, scheme: { kind: "bearer" }, secret: "x".repeat(16) },
      "secret secret_format",
    ],
    ["no mapping", { ...good, mapping: undefined }, "mapping"],
    ["an unknown preset", { ...good, mapping: "nothing_like_it" }, "mapping one_of"],
    ["a mapping that is none", { ...good, mapping: { when: 1 } }, "mapping.when"],
  ];
  it.each(faults)("%s is refused, naming it", async (_name, body, expected) => {
    const answer = await api("POST", "/v1/hooks", body);
    expect([answer.status, answer.body.code]).toEqual([422, "BODY_INVALID"]);
    const issues = answer.body.issues.map(({ field, rule }: Record<string, string>) => `${field} ${rule}`);
    expect(issues.filter((issue: string) => issue.startsWith(expected))).not.toEqual([]);
  });

  it("what a hook is told comes back, with what was not said; PUT replaces it", async () => {
    const created = await api("POST", "/v1/hooks", { ...good, scheme: hmac });
    const hook = hookOf(created);
    expect(created.headers.get("location")).toBe(hook.path);
    expect(created.body.hook).toEqual({
      hook_id: hook.id,
      name: "n",
      url: hook.url,
      scheme: {
        ...hmac,
        header: "x-sig",
        prefix: "",
        encoding: "hex",
        algorithm: "sha256",
        signed: "{body}",
        secret_encoding: "utf8",
        timestamp_unit: "s",
      },
      weak: false,
      mapping: ANYTHING,
      enabled: true,
      max_body_bytes: DEFAULT_DELIVERY_BYTES,
      secrets: [{ secret_id: expect.stringMatching(/^sec_/), created_at_ms: expect.any(Number) }],
      refusals: { count: 0, last_at_ms: null, last_reason: null },
      created_at_ms: expect.any(Number),
      updated_at_ms: expect.any(Number),
    });
    expect(hook.url).toMatch(/^https:\/\/baton\.test\/hooks\/[0-9a-f]{64}$/);
    const put = await api("PUT", hook.path, {
      name: "m",
      scheme: { ...hmac, header: "x-other" },
      mapping: "plain_json",
      max_body_bytes: 5_000,
    });
    expect(put.status, put.text).toBe(200);
    const { hook: read } = (await api("GET", hook.path)).body;
    expect(read).toEqual(put.body.hook);
    expect(read).toMatchObject({ name: "m", mapping: "plain_json", max_body_bytes: 5_000, url: hook.url });
    expect(read.scheme.header).toBe("x-other");
    const other = await api("PUT", hook.path, good);
    expect([other.status, other.body.issues[0].rule]).toEqual([422, "immutable"]);
  });

  it("a client that calls this host by no name a URL can have is shown hooks like any other", async () => {
    const hook = await newHook(githubSender);
    const request = new Request(`https://baton.test${hook.path}`, {
      headers: { authorization: "Bearer test-token" },
    });
    Object.defineProperty(request, "url", { value: `https://a b${hook.path}` });
    const answer = await send(request);
    expect(answer.status, answer.text).toBe(200);
    expect(answer.body.hook.url).toBe(new URL(hook.url).pathname);
  });

  it("hooks are listed page by page", async () => {
    const made = [await newHook(githubSender), await newHook(githubSender), await newHook(githubSender)];
    const seen: string[] = [];
    for (let next: string | null = "/v1/hooks?limit=2"; next !== null; ) {
      const page: Answered = await api("GET", next);
      seen.push(...page.body.hooks.map(({ hook_id }: { hook_id: string }) => hook_id));
      next = page.body.next;
    }
    for (const { id } of made) expect(seen.filter((hookId) => hookId === id)).toHaveLength(1);
  });

  it("a page has no more hooks than fit into memory with mappings of any length", async () => {
    const hook = await newHook(githubSender);
    const db = env.DIRECTORY;
    const columns = `name, owner, scheme, mapping, secrets, enabled, max_body_bytes, created_at_ms, updated_at_ms, refused_count`;
    const copies = `WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 101)
      INSERT INTO hooks (tenant, hook_id, public_id, ${columns})
      SELECT tenant, 'hook_copy_' || n, 'copy_' || n, ${columns} FROM hooks, numbers WHERE hook_id = ?`;
    await db.prepare(copies).bind(hook.id).run();
    const { hooks, next } = (await api("GET", "/v1/hooks?limit=1000")).body;
    await db.prepare("DELETE FROM hooks WHERE hook_id LIKE 'hook_copy_%'").run();
    expect(hooks).toHaveLength(100);
    expect(next).toContain("limit=1000");
  });
});

describe("docs/webhooks-in.md: nothing leaks to other tenants", () => {
  it("every route of a hook is 404 for another tenant's operator, as for a hook that is none", async () => {
    const hook = await newHook(githubSender);
    const { delivery_id } = (await send(await delivery(githubSender, hook.url))).body;
    const { secrets } = (await api("GET", hook.path)).body.hook;
    const stranger = rootPrincipal({ ...LOCAL_TENANT, workspace_id: crypto.randomUUID() });
    const codeOf = async (method: string, path: string) => {
      const put = { name: "n", scheme: githubSender.scheme, mapping: ANYTHING };
      const request = new Request(`https://baton.test${path}`, {
        method,
        headers: { "content-type": "application/json" },
        ...(method !== "GET" && { body: JSON.stringify(method === "PUT" ? put : {}) }),
      });
      const { route, ids } = findRoute(method, path.split("?")[0] ?? "");
      const context = createExecutionContext();
      const call = new Call({ request, env, context, principal: stranger, door: route.door, ids });
      return route.handle(call).then(
        () => "answered",
        (error: unknown) => (error instanceof RequestRefused ? error.problem.code : error),
      );
    };
    const routes = ROUTES.filter(
      ({ path }) => path.startsWith("/v1/hooks/:hook_id") && !path.endsWith("/test"),
    );
    expect(routes.length).toBeGreaterThanOrEqual(9);
    for (const { method, path } of routes) {
      for (const hookId of [hook.id, "hook_none"]) {
        const asked = path
          .replace(":hook_id", hookId)
          .replace(":secret_id", secrets[0].secret_id)
          .replace(":delivery_id", delivery_id);
        expect(await codeOf(method, asked), `${method} ${path}`).toBe("HOOK_NOT_FOUND");
      }
    }
    expect((await api("GET", hook.path)).body.hook.secrets).toEqual(secrets);
  });
});

describe("docs/webhooks-in.md: deliveries are listed and inspected", () => {
  it("newest first, page by page, and by status", async () => {
    const hook = await newHook(githubSender);
    for (const id of ["1", "2", "3", "4", "5"]) {
      const body = id === "3" ? "no JSON" : githubSender.body(0);
      await send(await delivery(githubSender, hook.url, { id, body }));
    }
    const keys = async (query: string) => {
      const seen: string[][] = [];
      for (let next: string | null = `${hook.path}/deliveries${query}`; next !== null; ) {
        const page: Answered = await api("GET", next);
        seen.push(page.body.deliveries.map(({ delivery_key }: { delivery_key: string }) => delivery_key));
        next = page.body.next;
      }
      return seen;
    };
    const pages = await keys("?limit=2");
    expect(pages.map(({ length }) => length)).toEqual([2, 2, 1]);
    expect(pages.flat().sort()).toEqual(["1", "2", "3", "4", "5"]);
    expect((await keys("?status=mapping_failed")).flat()).toEqual(["3"]);
    expect((await keys("?status=mapped&limit=3")).flat().sort()).toEqual(["1", "2", "4", "5"]);
    for (const [query, code] of [
      ["?status=done", "QUERY_INVALID"],
      ["?cursor=xx", "CURSOR_INVALID"],
    ]) {
      const refused = await api("GET", `${hook.path}/deliveries${query}`);
      expect([refused.status, refused.body.code]).toEqual([400, code]);
    }
  });

  it("with the headers that tell something and none that proves anything", async () => {
    const hook = await newHook(sentrySender);
    const headers = {
      "x-forwarded-for": "192.0.2.1",
      cookie: "a=b",
      authorization: "Bearer zzz",
      "x-api-key": "k",
      "x-webhook-key": "k",
      "x-jwt-assertion": "j",
      "x-original-forwarded-for": "192.0.2.1",
      // Over the bound, and before others by name.
      "x-a-long-one": "l".repeat(4_096),
      "content-type": `application/json; p=${"p".repeat(3_000)}`,
      "user-agent": "Sentry",
    };
    const answer = await send(await delivery(sentrySender, hook.url, { headers }));
    const path = `${hook.path}/deliveries/${answer.body.delivery_id}`;
    const read = await api("GET", path);
    expect(read.body.delivery.content_type).toHaveLength(255);
    expect(read.body.headers).toEqual({
      "content-type": headers["content-type"],
      "request-id": "r1",
      "sentry-hook-resource": "event_alert",
      "user-agent": "Sentry",
    });
    expect(read.body.payload).toEqual(JSON.parse(sentrySender.body(0)));
    const payload = await api("GET", read.body.payload_url);
    expect(payload.text).toBe(sentrySender.body(0));
    expect(payload.headers.get("content-disposition")).toMatch(/^attachment/);
    expect(payload.headers.get("x-content-type-options")).toBe("nosniff");
    const another = await newHook(sentrySender);
    const elsewhere = await api("GET", path.replace(hook.id, another.id));
    expect([elsewhere.status, elsewhere.body.code]).toEqual([404, "DELIVERY_NOT_FOUND"]);
  });
});
