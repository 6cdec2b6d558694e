import { env } from "cloudflare:workers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { hasScope, SCOPES, type Scope } from "../../src/identity/scopes.ts";
import { callAs, mint, newTenant, ROOT } from "../support/tokens.ts";

const DAY_MS = 24 * 60 * 60 * 1000;

describe("minting", () => {
  it("shows the token once, with what it is", async () => {
    const tenant = newTenant();
    const beforeMs = Date.now();
    const answer = await callAs(ROOT, "POST", "/v1/tokens", { scopes: ["agent"], name: "worker", tenant });
    expect(answer.status).toBe(201);
    expect(answer.headers.get("location")).toBe(`/v1/tokens/${answer.body.token_id}`);
    expect(answer.headers.get("cache-control")).toBe("no-store");
    const { token, ...shown } = answer.body;
    expect(shown).toMatchObject({
      token_id: expect.stringMatching(/^tok_[0-9a-f]{32}$/),
      name: "worker",
      scopes: ["agent"],
      minted_by: "root",
      ancestors: [],
      actor_id: null,
      run_id: null,
      agent_id: null,
      task_types: null,
      revoked_at_ms: null,
      active: true,
    });
    // 30 days, in whole seconds.
    expect(shown.expires_at_ms % 1000).toBe(0);
    expect(Math.abs(shown.expires_at_ms - beforeMs - 30 * DAY_MS)).toBeLessThan(60_000);
    const read = await callAs(ROOT, "GET", `/v1/tokens/${shown.token_id}`, undefined, headersOf(tenant));
    expect(read.body).toEqual(shown);
    expect(read.text).not.toContain(token);
    const { results } = await env.DIRECTORY.prepare("SELECT * FROM tokens WHERE token_id = ?")
      .bind(shown.token_id)
      .all();
    expect(JSON.stringify(results)).not.toContain(token.split(".")[2]);
  });

  it("whoami says what a token is and may do", async () => {
    const tenant = newTenant();
    const { token, token_id, expires_at_ms } = await mint({
      scopes: ["planner", "ingest"],
      tenant,
      actor_id: "ann@example.com",
      task_types: ["review"],
      agent_id: "a-1",
      run_id: "r-1",
      expires_in_ms: 60_000,
    });
    const { body } = await callAs(token, "GET", "/v1/whoami");
    expect(body).toEqual({
      kind: "token",
      token_id,
      tenant: { ...tenant, actor_id: "ann@example.com", source: "explicit" },
      scopes: ["planner", "ingest"],
      run_id: "r-1",
      agent_id: "a-1",
      task_types: ["review"],
      ancestors: [],
      expires_at_ms,
    });
    expect((await callAs(ROOT, "GET", "/v1/whoami")).body).toMatchObject({
      kind: "root",
      token_id: "root",
      tenant: { org_id: "local", workspace_id: "local", source: "local_implicit" },
      scopes: ["operator"],
      expires_at_ms: null,
    });
  });

  const invalid: [string, Record<string, unknown>, string, string][] = [
    ["no scopes", {}, "scopes", "required"],
    ["an empty list of scopes", { scopes: [] }, "scopes", "too_small"],
    ["an unknown scope", { scopes: ["admin"] }, "scopes[0]", "one_of"],
    ["too many scopes", { scopes: Array(6).fill("agent") }, "scopes", "too_big"],
    ["an unknown field", { scopes: ["agent"], role: "x" }, "role", "unknown_field"],
    [
      "a lifetime over 400 days",
      { scopes: ["agent"], expires_in_ms: 400 * DAY_MS + 1 },
      "expires_in_ms",
      "too_big",
    ],
    ["a lifetime under a second", { scopes: ["agent"], expires_in_ms: 999 }, "expires_in_ms", "too_small"],
    [
      "a lifetime in parts of a millisecond",
      { scopes: ["agent"], expires_in_ms: 1000.5 },
      "expires_in_ms",
      "int",
    ],
    ["a run id that is none", { scopes: ["agent"], run_id: "a/b" }, "run_id", "id"],
    ["an actor with blanks", { scopes: ["agent"], actor_id: "a b" }, "actor_id", "actor"],
    ["a blank agent", { scopes: ["agent"], agent_id: "" }, "agent_id", "too_small"],
    ["no task types", { scopes: ["agent"], task_types: [] }, "task_types", "too_small"],
    ["21 task types", { scopes: ["agent"], task_types: Array(21).fill("t") }, "task_types", "too_big"],
    ["half a tenant", { scopes: ["agent"], tenant: { org_id: "a" } }, "tenant.workspace_id", "required"],
    [
      "a tenant that is no id",
      { scopes: ["agent"], tenant: { org_id: "a/b", workspace_id: "c" } },
      "tenant.org_id",
      "id",
    ],
  ];
  it.each(invalid)("%s: refused; the answer names the field and the rule", async (_, body, field, rule) => {
    const answer = await callAs(ROOT, "POST", "/v1/tokens", body);
    const isId = rule === "id";
    expect([answer.status, answer.body.code]).toEqual(isId ? [400, "ID_INVALID"] : [422, "BODY_INVALID"]);
    expect(answer.body.issues[0]).toMatchObject({ field, rule });
  });

  it("a repeat under the same key mints nothing and does not show the token again; another request is refused", async () => {
    const { token } = await mint({ scopes: ["operator"], tenant: newTenant() });
    const key = { "idempotency-key": "mint-1" };
    const first = await callAs(token, "POST", "/v1/tokens", { scopes: ["agent"] }, key);
    const again = await callAs(token, "POST", "/v1/tokens", { scopes: ["agent"] }, key);
    expect([first.status, again.status]).toEqual([201, 201]);
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(again.body).toEqual({ ...first.body, token: null });
    const other = await callAs(token, "POST", "/v1/tokens", { scopes: ["viewer"] }, key);
    expect([other.status, other.body.code]).toEqual([422, "COMMAND_ID_CONFLICT"]);
    expect((await callAs(token, "GET", "/v1/tokens")).body.tokens).toHaveLength(2);
    expect((await callAs(token, "GET", "/v1/audit")).body.events).toHaveLength(2);
  });
});

describe("a token mints only what is as narrow as itself, or narrower", () => {
  it("for any scopes that it has and that are asked for, the ladder decides", async () => {
    const anyScopes = fc.uniqueArray(fc.constantFrom(...SCOPES), { minLength: 1 });
    const byScopes = new Map<string, string>();
    const holder = async (held: Scope[]): Promise<string> => {
      const key = held.toSorted().join();
      const known = byScopes.get(key);
      if (known !== undefined) return known;
      const { token } = await mint({ scopes: held, tenant });
      byScopes.set(key, token);
      return token;
    };
    const tenant = newTenant();
    await fc.assert(
      fc.asyncProperty(anyScopes, anyScopes, async (held, asked) => {
        const answer = await callAs(await holder(held), "POST", "/v1/tokens", { scopes: asked });
        const may = asked.every((scope) => hasScope(held, scope));
        expect([answer.status, answer.body.code]).toEqual(
          may ? [201, undefined] : [403, "TOKEN_NOT_NARROWER"],
        );
      }),
      { numRuns: 40 },
    );
  });

  const bound = { scopes: ["agent"], run_id: "r", agent_id: "a", task_types: ["x", "y"], actor_id: "ann" };
  const wider: [string, Record<string, unknown>, string][] = [
    ["another run", { run_id: "s" }, "run_id"],
    ["another agent", { agent_id: "b" }, "agent_id"],
    ["another actor", { actor_id: "bob" }, "actor_id"],
    ["another task type", { task_types: ["x", "z"] }, "task_types"],
    ["another tenant", { tenant: { org_id: "local", workspace_id: "local" } }, "tenant"],
    ["a later end", { expires_in_ms: 120_000 }, "expires_in_ms"],
  ];
  it.each(wider)("%s is refused", async (_, asked, field) => {
    const { token } = await mint({ ...bound, tenant: newTenant(), expires_in_ms: 60_000 });
    const answer = await callAs(token, "POST", "/v1/tokens", { scopes: ["agent"], ...asked });
    expect([answer.status, answer.body.code]).toEqual([403, "TOKEN_NOT_NARROWER"]);
    expect(answer.body.issues).toEqual([expect.objectContaining({ field, rule: "narrower" })]);
  });

  it("what is not said is the minter's: bounds, actor and end", async () => {
    const parent = await mint({ ...bound, tenant: newTenant(), expires_in_ms: 60_000 });
    const child = await mint({ scopes: ["viewer"], task_types: ["y"] }, parent.token);
    expect(child).toMatchObject({
      run_id: "r",
      agent_id: "a",
      task_types: ["y"],
      actor_id: "ann",
      expires_at_ms: parent.expires_at_ms,
      minted_by: parent.token_id,
      ancestors: [parent.token_id],
    });
  });

  it("eight deep, and no deeper", async () => {
    let { token } = await mint({ scopes: ["viewer"], tenant: newTenant() });
    for (let depth = 1; depth <= 8; depth += 1) ({ token } = await mint({ scopes: ["viewer"] }, token));
    const answer = await callAs(token, "POST", "/v1/tokens", { scopes: ["viewer"] });
    expect([answer.status, answer.body.code]).toEqual([413, "LIMIT_EXCEEDED"]);
    expect(answer.body).toMatchObject({ limit_name: "token_ancestors", limit: 8, actual: 9 });
  });
});

describe("a token that would be too long to be accepted", () => {
  it("is not minted, and the limit is said", async () => {
    const task_types = Array.from({ length: 20 }, (_, index) => `${index}`.padStart(100, "\u20ac"));
    const answer = await callAs(ROOT, "POST", "/v1/tokens", {
      scopes: ["agent"],
      task_types,
      tenant: newTenant(),
    });
    expect([answer.status, answer.body.code]).toEqual([413, "LIMIT_EXCEEDED"]);
    expect(answer.body).toMatchObject({ limit_name: "token_length", limit: 8_192 });
  });
});

describe("who may see and end a token", () => {
  it("an operator all of the tenant, others themselves and what comes from them; else 404", async () => {
    const tenant = newTenant();
    const operator = await mint({ scopes: ["operator"], tenant });
    const planner = await mint({ scopes: ["planner"] }, operator.token);
    const child = await mint({ scopes: ["agent"] }, planner.token);
    const stranger = await mint({ scopes: ["operator"], tenant: newTenant() });
    const get = async (by: string, id: string) => (await callAs(by, "GET", `/v1/tokens/${id}`)).status;
    const revoke = async (by: string, id: string) =>
      (await callAs(by, "POST", `/v1/tokens/${id}/revoke`)).status;
    expect(await get(planner.token, planner.token_id)).toBe(200);
    expect(await get(planner.token, child.token_id)).toBe(200);
    expect(await get(planner.token, operator.token_id)).toBe(404);
    expect(await get(child.token, planner.token_id)).toBe(404);
    expect(await get(stranger.token, child.token_id)).toBe(404);
    expect(await revoke(child.token, planner.token_id)).toBe(404);
    expect(await revoke(stranger.token, child.token_id)).toBe(404);
    expect(await revoke(planner.token, operator.token_id)).toBe(404);
    expect(await revoke(planner.token, child.token_id)).toBe(200);
    expect(await revoke(planner.token, planner.token_id)).toBe(200);
    expect(await get(planner.token, planner.token_id)).toBe(401);
  });

  it("a revocation is written once, with its audit event, however often it is asked for", async () => {
    const tenant = newTenant();
    const operator = await mint({ scopes: ["operator"], tenant, actor_id: "ann" });
    const { token_id } = await mint({ scopes: ["agent"], name: "n" }, operator.token);
    const path = `/v1/tokens/${token_id}/revoke`;
    const first = await callAs(operator.token, "POST", path);
    expect((await callAs(operator.token, "POST", path)).body).toEqual(first.body);
    const { events } = (await callAs(operator.token, "GET", "/v1/audit")).body;
    expect(
      events.map((event: { type: string; token_id: string; actor_id: string | null }) => [
        event.type,
        event.token_id,
        event.actor_id,
      ]),
    ).toEqual([
      ["token.revoked", operator.token_id, "ann"],
      ["token.minted", operator.token_id, "ann"],
      ["token.minted", "root", null],
    ]);
    expect(events[0]).toMatchObject({ subject: token_id, detail: { name: "n" } });
  });
});

describe("lists", () => {
  it.each(["/v1/tokens", "/v1/audit"])("%s: pages, latest first, of the tenant only", async (path) => {
    const { token } = await mint({ scopes: ["operator"], tenant: newTenant() });
    const made: string[] = [];
    for (let index = 0; index < 5; index += 1) {
      made.unshift((await mint({ scopes: ["viewer"] }, token)).token_id);
    }
    const seen: string[] = [];
    for (let next: string | null = `${path}?limit=2`; next !== null; ) {
      const { body } = await callAs(token, "GET", next);
      const rows = (body.tokens ?? body.events) as { token_id: string; subject?: string }[];
      expect(rows.length).toBeLessThanOrEqual(2);
      seen.push(...rows.map((row) => row.subject ?? row.token_id));
      next = body.next;
    }
    // Tokens of one millisecond are in the order of their ids.
    expect(seen.slice(0, -1).toSorted()).toEqual(made.toSorted());
    expect(seen).toHaveLength(6);
    const wrong = await callAs(token, "GET", `${path}?cursor=x`);
    expect([wrong.status, wrong.body.code]).toEqual([400, "CURSOR_INVALID"]);
  });
});

describe("tenant headers", () => {
  it("choose tenant and actor for the root credential, in the contract's order", async () => {
    const who = async (headers: Record<string, string>) =>
      (await callAs(ROOT, "GET", "/v1/whoami", undefined, headers)).body.tenant;
    expect(await who({ "x-tandem-org-id": "a", "x-tenant-org-id": "b" })).toEqual({
      org_id: "a",
      workspace_id: "local",
      source: "explicit",
    });
    expect(
      await who({ "x-tandem-org-id": " ", "x-tenant-org-id": "b", "x-tenant-workspace-id": "w" }),
    ).toEqual({
      org_id: "b",
      workspace_id: "w",
      source: "explicit",
    });
    expect(await who({ "x-user-id": "ann@example.com" })).toEqual({
      org_id: "local",
      workspace_id: "local",
      actor_id: "ann@example.com",
      source: "explicit",
    });
    expect(await who({ "x-tandem-org-id": "local", "x-tandem-workspace-id": "local" })).toEqual({
      org_id: "local",
      workspace_id: "local",
      source: "local_implicit",
    });
  });

  const malformed: [string, Record<string, string>, string][] = [
    ["a slash", { "x-tandem-org-id": "a/b" }, "x-tandem-org-id"],
    ["dots", { "x-tandem-workspace-id": ".." }, "x-tandem-workspace-id"],
    ["201 characters", { "x-tandem-org-id": "a".repeat(201) }, "x-tandem-org-id"],
    ["two values", { "x-tandem-org-id": "a, b" }, "x-tandem-org-id"],
    ["an actor with a blank", { "x-user-id": "a b" }, "x-tandem-actor-id"],
    ["an actor of 201 characters", { "x-tandem-actor-id": "a".repeat(201) }, "x-tandem-actor-id"],
  ];
  it.each(malformed)("%s: 400 names the header", async (_, headers, field) => {
    const answer = await callAs(ROOT, "GET", "/v1/whoami", undefined, headers);
    expect([answer.status, answer.body.code]).toEqual([400, "HEADER_INVALID"]);
    expect(answer.body.issues[0].field).toBe(field);
  });

  it("beside a token they must name its tenant, else 403 with the contract's text; its actor stays", async () => {
    const tenant = newTenant();
    const { token } = await mint({ scopes: ["operator"], tenant, actor_id: "ann" });
    const ask = (headers: Record<string, string>) =>
      callAs(token, "GET", "/context/runs", undefined, headers);
    expect((await ask({ "x-tandem-org-id": tenant.org_id })).status).toBe(200);
    expect((await ask({ "x-tenant-workspace-id": "main" })).status).toBe(200);
    const names: Record<string, string>[] = [
      { "x-tandem-org-id": "other" },
      { "x-tandem-workspace-id": "other" },
      { "x-tenant-org-id": "a/b" },
      { "x-tandem-org-id": `${tenant.org_id}, ${tenant.org_id}` },
    ];
    for (const headers of names) {
      const answer = await ask(headers);
      expect(answer.status).toBe(403);
      expect(answer.body).toEqual({
        error: "Unauthorized: tenant context denied",
        code: "TENANT_CONTEXT_DENIED",
      });
    }
    const { body } = await callAs(token, "GET", "/v1/whoami", undefined, { "x-user-id": "bob" });
    expect(body.tenant.actor_id).toBe("ann");
  });
});

function headersOf({ org_id, workspace_id }: { org_id: string; workspace_id: string }) {
  return { "x-tandem-org-id": org_id, "x-tandem-workspace-id": workspace_id };
}
