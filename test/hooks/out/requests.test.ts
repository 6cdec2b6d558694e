import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { MAX_SUBSCRIPTIONS } from "../../../src/protocol/limits.ts";
import {
  MAX_EVENT_PATTERNS,
  MAX_OVERLAP_MS,
  MAX_PATTERN_LENGTH,
} from "../../../src/protocol/subscription.ts";
import { eventually, useTestClock } from "../../run/support/test-run.ts";
import { serve } from "../../support/serve.ts";
import { api, TestSubscription, useInternet } from "./support.ts";

const URL_OK = "https://receiver.example.com/";

interface Refused {
  code: string;
  error: string;
  issues?: { field: string; rule: string; limit?: number }[];
}

describe("webhooks out: requests that do not fit", () => {
  useTestClock();
  useInternet();

  it.each([
    [{}, "url", "required"],
    [{ url: 1 }, "url", "string"],
    [{ url: "nonsense" }, "url", "url"],
    [{ url: "http://receiver.example.com/" }, "url", "https"],
    [{ url: "https://127.0.0.1/" }, "url", "ip_literal"],
    [{ url: "https://0x7f.1/" }, "url", "ip_literal"],
    [{ url: "https://db.internal/" }, "url", "private_host"],
    [{ url: "https://baton.example.com/hooks/x" }, "url", "own_host"],
    [{ url: "https://receiver.example.com:22/" }, "url", "port"],
    [{ url: "https://me:pw@receiver.example.com/" }, "url", "no_credentials"],
    [{ url: URL_OK, colour: "red" }, "colour", "unknown_field"],
    [{ url: URL_OK, name: "" }, "name", "too_small"],
    [{ url: URL_OK, events: [] }, "events", "too_small"],
    [{ url: URL_OK, events: [""] }, "events[0]", "too_small"],
    [{ url: URL_OK, events: "note" }, "events", "array"],
    [{ url: URL_OK, events: ["x".repeat(MAX_PATTERN_LENGTH + 1)] }, "events[0]", "too_big"],
    [{ url: URL_OK, events: Array.from({ length: MAX_EVENT_PATTERNS + 1 }, () => "x") }, "events", "too_big"],
    [{ url: URL_OK, run_id: "a/b" }, "run_id", "invalid_format"],
    [{ url: URL_OK, filter: { run_type: 1 } }, "filter.run_type", "string"],
    [{ url: URL_OK, filter: { colour: "red" } }, "filter.colour", "unknown_field"],
    [{ url: URL_OK, filter: { status: ["done"] } }, "filter.status[0]", "one_of"],
    [{ url: URL_OK, data: "fat" }, "data", "one_of"],
    [{ url: URL_OK, from: "start" }, "from", "one_run"],
    [{ url: URL_OK, secret: "hunter2" }, "secret", "whsec"],
    [{ url: URL_OK, secret: `whsec_${btoa("short")}` }, "secret", "whsec"],
  ])("%j is refused for %s: %s", async (body, field, rule) => {
    const answer = await api<Refused>("POST", "", body);
    expect(answer.body).toMatchObject({ code: "BODY_INVALID", issues: [{ field, rule }] });
    expect(answer.status).toBe(422);
    const { body: listed } = await api<{ subscriptions: unknown[] }>("GET", "");
    expect(listed.subscriptions).toEqual([]);
  });

  it.each([
    ["PUT", "", { url: "https://10.0.0.1/" }, 422, "BODY_INVALID"],
    ["PUT", "", { url: URL_OK, secret: "x" }, 422, "BODY_INVALID"],
    ["POST", "/replay", {}, 422, "BODY_INVALID"],
    ["POST", "/replay", { run_id: "r", from_seq: 0 }, 422, "BODY_INVALID"],
    ["POST", "/replay", { run_id: "nobody", from_seq: 1 }, 404, "RUN_NOT_FOUND"],
    ["POST", "/secrets", { overlap_ms: -1 }, 422, "BODY_INVALID"],
    ["POST", "/secrets", { overlap_ms: MAX_OVERLAP_MS + 1 }, 422, "BODY_INVALID"],
    ["POST", "/secrets", { secret: "whsec_" }, 422, "BODY_INVALID"],
    ["POST", "/enable", { from: "yesterday" }, 422, "BODY_INVALID"],
    ["POST", "/test", { x: 1 }, 422, "BODY_INVALID"],
    ["GET", "/dead-letters?cursor=x", undefined, 400, "CURSOR_INVALID"],
    ["POST", "/dead-letters/msg_0/redeliver", undefined, 404, "DEAD_LETTER_NOT_FOUND"],
    ["DELETE", "/secrets/sec_0", undefined, 404, "SECRET_NOT_FOUND"],
  ])("%s %s with %j: %s %s", async (method, path, body, status, code) => {
    const subscription = await TestSubscription.make();
    const answer = await api<Refused>(method, `/${subscription.id}${path}`, body);
    expect(answer.body).toMatchObject({ code });
    expect(answer.status).toBe(status);
  });

  it.each([
    ["GET", ""],
    ["PUT", ""],
    ["DELETE", ""],
    ["POST", "/enable"],
    ["POST", "/disable"],
    ["POST", "/test"],
    ["POST", "/replay"],
    ["POST", "/secrets"],
    ["DELETE", "/secrets/sec_0"],
    ["GET", "/attempts"],
    ["GET", "/dead-letters"],
    ["POST", "/dead-letters/msg_0/redeliver"],
  ])(
    "%s …%s of a subscription that there is not, or that is another tenant's, is not found",
    async (method, path) => {
      const theirs = await TestSubscription.make();
      await env.DIRECTORY.prepare("UPDATE subscriptions SET tenant = 'other/other' WHERE subscription_id = ?")
        .bind(theirs.id)
        .run();
      const body = method === "POST" || method === "PUT" ? {} : undefined;
      for (const id of ["sub_0", theirs.id]) {
        const answer = await api<Refused>(method, `/${id}${path}`, body);
        expect(answer.body).toMatchObject({
          code: "SUBSCRIPTION_NOT_FOUND",
          error: "subscription not found",
        });
        expect(answer.status).toBe(404);
      }
    },
  );

  it("of as many as a tenant may have, one more is refused", async () => {
    const db = env.DIRECTORY;
    const stored = () =>
      db
        .prepare(
          `SELECT (SELECT count(*) FROM subscription_secrets) AS secrets, (SELECT count(*) FROM audit_events) AS events`,
        )
        .first();
    await db
      .prepare(
        `INSERT INTO subscriptions
         SELECT 'local/local', 'sub_filler_' || value, NULL, 'https://x.example.com/', '[]', NULL, '{}', NULL, NULL, NULL,
           'thin', 'disabled', 'operator', 0, '', 0, 0, '', 0, 0
         FROM json_each(?)`,
      )
      .bind(JSON.stringify(Array.from({ length: MAX_SUBSCRIPTIONS }, (_, index) => index)))
      .run();
    const before = await stored();
    const answer = await api<Refused>("POST", "", { url: URL_OK });
    expect(answer.body).toMatchObject({ code: "LIMIT_EXCEEDED", limit: MAX_SUBSCRIPTIONS });
    expect(await stored()).toEqual(before);
    await db.prepare("DELETE FROM subscriptions WHERE subscription_id LIKE 'sub_filler_%'").run();
  });

  it("without keys nothing can be kept, and the answer says what to set", async () => {
    const request = new Request("https://baton.example.com/v1/subscriptions", {
      method: "POST",
      headers: { "x-agent-token": "short", "content-type": "application/json" },
      body: JSON.stringify({ url: URL_OK }),
    });
    const answer = await serve(request, { ...env, BATON_TOKEN: "short", BATON_KEYS: "" });
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({
      code: "KEYS_REQUIRED",
      error: expect.stringContaining("BATON_KEYS"),
    });
  });
});

describe("webhooks out: requests that fit", () => {
  useTestClock();
  useInternet();

  it("what was said is shown, and nothing that nobody said", async () => {
    const said = {
      name: "ci",
      events: ["context.task.*", "deploy.done"],
      run_id: "r-1",
      filter: { run_type: "Deploy", status: ["failed"] },
      data: "full",
    };
    const subscription = await TestSubscription.make(said);
    const { subscription: shown, state } = await subscription.get();
    expect(shown).toEqual({
      ...said,
      subscription_id: subscription.id,
      url: subscription.receiver.url,
      status: "active",
      disabled_reason: null,
      disabled_at_ms: null,
      created_at_ms: expect.any(Number),
      updated_at_ms: expect.any(Number),
      secrets: [{ secret_id: subscription.secretId, created_at_ms: expect.any(Number), retires_at_ms: null }],
    });
    expect(state).toMatchObject({
      backlog: { lines: 0, events: 0, next_due_at_ms: null },
      dead_letters: 0,
      health: { attempts: 0, delivered: 0 },
    });
  });

  it("lists go page by page", async () => {
    const made = [
      await TestSubscription.make(),
      await TestSubscription.make(),
      await TestSubscription.make(),
    ];
    const ids: string[] = [];
    for (let path = "?limit=2"; ; ) {
      const { body } = await api<{
        subscriptions: { subscription_id: string }[];
        next_cursor: string | null;
      }>("GET", path);
      ids.push(...body.subscriptions.map(({ subscription_id }) => subscription_id));
      if (body.next_cursor === null) break;
      path = `?limit=2&cursor=${body.next_cursor}`;
    }
    expect(ids).toEqual(made.map(({ id }) => id).toSorted());
  });

  it("disabling and enabling twice changes nothing more", async () => {
    const subscription = await TestSubscription.make();
    for (const path of ["disable", "disable", "enable", "enable"]) await subscription.post(path);
    const { results } = await env.DIRECTORY.prepare(
      "SELECT type FROM audit_events WHERE subject = ? ORDER BY seq",
    )
      .bind(subscription.id)
      .all<{ type: string }>();
    expect(results.map(({ type }) => type)).toEqual([
      "subscription.created",
      "subscription.disabled",
      "subscription.enabled",
    ]);
  });

  it("a deployment that comes to be called by the receiver's name sends nothing to itself", async () => {
    const subscription = await TestSubscription.make();
    await env.DIRECTORY.prepare("UPDATE subscriptions SET origin = ? WHERE subscription_id = ?")
      .bind(new URL(subscription.receiver.url).origin, subscription.id)
      .run();
    expect(await subscription.post("test")).toMatchObject({
      attempt: { delivered: false, status: null, error: "target_own_host" },
    });
    expect(subscription.receiver.received).toEqual([]);
  });

  it("the last hundred attempts are kept", async () => {
    const subscription = await TestSubscription.make();
    for (let index = 0; index < 103; index += 1) await subscription.stub.ping();
    const attempts = await eventually(
      () => subscription.list<{ webhook_id: string }>("attempts"),
      (list) => list.length > 0,
      1_000,
    );
    expect(attempts).toHaveLength(100);
    expect(attempts.map(({ webhook_id }) => webhook_id)).toEqual(
      subscription.receiver.received
        .slice(3)
        .map(({ headers }) => headers["webhook-id"])
        .toReversed(),
    );
  });
});
