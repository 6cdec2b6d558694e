import { env } from "cloudflare:workers";
import { SignJWT } from "jose/jwt/sign";
import { exportJWK } from "jose/key/export";
import { generateKeyPair } from "jose/key/generate/keypair";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { serve } from "../support/serve.ts";
import { type Answered, answered, mint, newTenant, ROOT } from "../support/tokens.ts";

const ISSUER = "https://issuer.test";
const AUDIENCE = "baton-aud";

interface Signer {
  kid: string;
  alg: string;
  privateKey: CryptoKey;
  jwk: object;
}

async function newSigner(alg: string, kid: string = crypto.randomUUID()): Promise<Signer> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return { kid, alg, privateKey, jwk: { ...(await exportJWK(publicKey)), kid, alg, use: "sig" } };
}

let rsa: Signer;
let ec: Signer;
beforeAll(async () => {
  [rsa, ec] = await Promise.all([newSigner("RS256"), newSigner("ES256")]);
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** A URL that answers these keys, and other keys from the second time on; every one has its own cache. */
function keysUrl(
  signers: Signer[],
  options: { id?: string; status?: number; body?: string; later?: Signer[] } = {},
): string {
  const keys = (list: Signer[]) => JSON.stringify({ keys: list.map(({ jwk }) => jwk) });
  const query = new URLSearchParams({
    id: options.id ?? crypto.randomUUID(),
    body: options.body ?? keys(signers),
  });
  if (options.status !== undefined) query.set("status", String(options.status));
  if (options.later !== undefined) query.set("later", keys(options.later));
  return `${ISSUER}/keys?${query}`;
}

interface Config {
  [member: string]: unknown;
}

const config = (changes: Config = {}): Config => ({
  issuer: ISSUER,
  audience: AUDIENCE,
  jwks_url: keysUrl([rsa, ec]),
  tenant: { org_id: "ext", workspace_id: "main" },
  scopes: {
    claim: "groups",
    map: { admins: ["operator"], workers: ["agent", "ingest"] },
    default: ["viewer"],
  },
  actor_claim: "email",
  ...changes,
});

const now = () => Math.floor(Date.now() / 1000);

function sign(
  signer: Signer,
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = {},
): Promise<string> {
  const good = { iss: ISSUER, aud: AUDIENCE, iat: now(), exp: now() + 600, email: "ann@example.com" };
  return new SignJWT({ ...good, ...claims })
    .setProtectedHeader({ alg: signer.alg, kid: signer.kid, ...header })
    .sign(signer.privateKey);
}

async function ask(
  issuers: unknown,
  headers: Record<string, string>,
  path = "/v1/whoami",
  method = "GET",
): Promise<Answered> {
  const text = typeof issuers === "string" ? issuers : JSON.stringify(issuers);
  const request = new Request(`http://host${path}`, { method, headers });
  return answered(await serve(request, { ...env, BATON_ISSUERS: text }));
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

describe("tokens of a trusted issuer", () => {
  it.each(["RS256", "ES256"])(
    "%s: are accepted, with tenant, actor and scopes by the mapping",
    async (alg) => {
      const signer = alg === "RS256" ? rsa : ec;
      const token = await sign(signer, { groups: ["workers", "strangers"] });
      const { status, body } = await ask([config()], bearer(token));
      expect(status).toBe(200);
      expect(body).toMatchObject({
        kind: "external",
        token_id: expect.stringMatching(/^ext_[0-9a-f]{32}$/),
        tenant: { org_id: "ext", workspace_id: "main", actor_id: "ann@example.com", source: "explicit" },
        scopes: ["viewer", "agent", "ingest"],
      });
    },
  );

  const mappings: [string, Config, Record<string, unknown>, object][] = [
    [
      "scopes in a text with blanks",
      { scopes: { claim: "scope", map: { a: ["viewer"], b: ["agent"] } } },
      { scope: "a b c" },
      { scopes: ["viewer", "agent"] },
    ],
    ["no claim, no scopes", { scopes: { claim: "scope", map: { a: ["viewer"] } } }, {}, { scopes: [] }],
    [
      "a word that every object has",
      { scopes: { claim: "scope", map: { a: ["viewer"] } } },
      { scope: "constructor" },
      { scopes: [] },
    ],
    [
      "a claim in a claim",
      { tenant: { org_id: { claim: ["custom", "org"] }, workspace_id: "w" } },
      { custom: { org: "deep" } },
      { tenant: { org_id: "deep", workspace_id: "w", actor_id: "ann@example.com", source: "explicit" } },
    ],
    [
      "no actor",
      {},
      { email: undefined },
      { tenant: { org_id: "ext", workspace_id: "main", source: "explicit" } },
    ],
    [
      "one of several audiences",
      { audience: ["other", AUDIENCE] },
      { aud: ["x", AUDIENCE] },
      { kind: "external" },
    ],
  ];
  it.each(mappings)("mapping: %s", async (_, changes, claims, expected) => {
    const { body } = await ask([config(changes)], bearer(await sign(rsa, claims)));
    expect(body).toMatchObject(expected);
  });

  const denied: [string, Config, Record<string, unknown>][] = [
    ["no tenant in the claim", { tenant: { org_id: { claim: "org" }, workspace_id: "w" } }, {}],
    ["a tenant that is no id", { tenant: { org_id: { claim: "org" }, workspace_id: "w" } }, { org: "a/b" }],
    ["a tenant that is a list", { tenant: { org_id: { claim: "org" }, workspace_id: "w" } }, { org: ["a"] }],
    [
      "a tenant by the name of what every object has",
      { tenant: { org_id: { claim: "toString" }, workspace_id: "w" } },
      {},
    ],
    ["an actor that is none", {}, { email: "a b" }],
  ];
  it.each(denied)("%s: 403, the token is good but nobody's", async (_, changes, claims) => {
    const { status, body } = await ask([config(changes)], bearer(await sign(rsa, claims)));
    expect([status, body.code]).toEqual([403, "TENANT_CONTEXT_DENIED"]);
  });

  const refused: [string, () => Promise<string>][] = [
    ["expired", () => sign(rsa, { exp: now() - 1 })],
    ["without an expiry", () => sign(rsa, { exp: undefined })],
    ["not yet valid", () => sign(rsa, { nbf: now() + 60 })],
    ["another audience", () => sign(rsa, { aud: "other" })],
    ["no audience", () => sign(rsa, { aud: undefined })],
    ["another issuer", () => sign(rsa, { iss: "https://evil.test" })],
    ["an unknown key", async () => sign(await newSigner("RS256"))],
    ["another key under a known kid", async () => sign(await newSigner("RS256", rsa.kid))],
    ["the kid of a key of another kind", () => sign(rsa, {}, { kid: ec.kid })],
    [
      "no kid, and more than one key of that kind would be a guess",
      async () => sign(await newSigner("RS256"), {}, { kid: undefined }),
    ],
    [
      "HS256 with the public key as the secret",
      async () => {
        const secret = new TextEncoder().encode(JSON.stringify(rsa.jwk));
        const claims = { iss: ISSUER, aud: AUDIENCE, exp: now() + 600 };
        return new SignJWT(claims).setProtectedHeader({ alg: "HS256", kid: rsa.kid }).sign(secret);
      },
    ],
    [
      "alg none",
      async () =>
        (await sign(rsa)).replace(/^[^.]*/, btoa(`{"alg":"none","kid":"${rsa.kid}"}`).replaceAll("=", "")),
    ],
    ["a forged signature", async () => (await sign(rsa)).replace(/.{12}$/, "AAAAAAAAAAAA")],
    ["cut off", async () => (await sign(rsa)).slice(0, -10)],
    ["huge", () => sign(rsa, { pad: "x".repeat(8_192) })],
  ];
  it.each(refused)("%s: 401 like any other", async (_, make) => {
    const { status, body } = await ask([config()], bearer(await make()));
    expect([status, body.code, body.error]).toEqual([
      401,
      "AUTH_REQUIRED",
      "Unauthorized: missing or invalid API token",
    ]);
  });

  it("whoever minted with it can see and revoke that, and nothing else", async () => {
    const issuers = JSON.stringify([config()]);
    const token = await sign(rsa, { groups: ["workers"], jti: "a" });
    const request = new Request("http://host/v1/tokens", {
      method: "POST",
      headers: { ...bearer(token), "content-type": "application/json" },
      body: JSON.stringify({ scopes: ["agent"] }),
    });
    const { body } = await answered(await serve(request, { ...env, BATON_ISSUERS: issuers }));
    const path = `/v1/tokens/${body.token_id}`;
    const other = await sign(rsa, { groups: ["workers"], jti: "b" });
    expect((await ask(issuers, bearer(other), path)).status).toBe(404);
    expect((await ask(issuers, bearer(token), path)).status).toBe(200);
    expect((await ask(issuers, bearer(token), `${path}/revoke`, "POST")).status).toBe(200);
    expect((await ask(issuers, bearer(body.token))).status).toBe(401);
  });

  it("one issuer may be there several times, for several audiences", async () => {
    const tenant = { org_id: "ext2", workspace_id: "main" };
    const issuers = [config(), config({ audience: "second", tenant })];
    expect((await ask(issuers, bearer(await sign(rsa)))).body.tenant.org_id).toBe("ext");
    const second = await ask(issuers, bearer(await sign(rsa, { aud: "second" })));
    expect(second.body.tenant.org_id).toBe("ext2");
    expect((await ask(issuers, bearer(await sign(rsa, { aud: "third" })))).status).toBe(401);
  });

  it("an issuer cannot speak for this deployment, nor one for another", async () => {
    const other = config({ issuer: "https://other.test", jwks_url: keysUrl([ec]) });
    const asOther = await sign(rsa, { iss: "https://other.test" });
    expect((await ask([config(), other], bearer(asOther))).status).toBe(401);
    const asBaton = await sign(rsa, {
      iss: "baton",
      aud: "baton",
      jti: "tok_1",
      org_id: "o",
      workspace_id: "w",
      scopes: ["operator"],
    });
    expect((await ask([config()], bearer(asBaton))).status).toBe(401);
  });

  it("one that was verified is refused as soon as it has expired", async () => {
    const clock = vi.spyOn(Date, "now");
    const issuers = [config()];
    const token = await sign(rsa);
    expect((await ask(issuers, bearer(token))).status).toBe(200);
    clock.mockReturnValue((now() + 601) * 1000);
    expect((await ask(issuers, bearer(token))).status).toBe(401);
  });

  it("mints tokens that live no longer than itself, and is asked beside minted and root credentials", async () => {
    const issuers = JSON.stringify([config()]);
    const token = await sign(rsa, { groups: ["admins"] });
    const request = new Request("http://host/v1/tokens", {
      method: "POST",
      headers: { ...bearer(token), "content-type": "application/json" },
      body: JSON.stringify({ scopes: ["agent"] }),
    });
    const minted = await answered(await serve(request, { ...env, BATON_ISSUERS: issuers }));
    expect(minted.status).toBe(201);
    expect(minted.body.expires_at_ms).toBeLessThanOrEqual((now() + 600) * 1000);
    const { body: own } = await ask(issuers, bearer(token));
    expect((await ask(issuers, bearer(minted.body.token))).body).toMatchObject({
      kind: "token",
      ancestors: [own.token_id],
    });
    expect((await ask(issuers, bearer(ROOT))).body.kind).toBe("root");
  });
});

describe("idempotency keys of who is known by another issuer's tokens", () => {
  it("claims: whose token is renewed may repeat; another, or the same name at another issuer, may not", async () => {
    const other = "https://other-issuer.test";
    const issuers = JSON.stringify(
      [config(), config({ issuer: other })].map((each) => ({ ...each, actor_claim: undefined })),
    );
    const post = async (path: string, body: object, claims: object, key: string) => {
      const token = await sign(rsa, { groups: ["admins"], jti: crypto.randomUUID(), ...claims });
      const headers = { ...bearer(token), "content-type": "application/json", "idempotency-key": key };
      const request = new Request(`http://host${path}`, {
        method: "POST",
        headers,
        body: JSON.stringify(body),
      });
      return answered(await serve(request, { ...env, BATON_ISSUERS: issuers }));
    };
    const made = await post("/v1/runs", { objective: "o" }, { sub: "ann" }, "run");
    const again = await post("/v1/runs", { objective: "o" }, { sub: "ann" }, "run");
    expect([made.status, again.status, again.body]).toEqual([201, 201, made.body]);
    const path = `/v1/runs/${made.body.run.run_id}/events`;
    const note = (claims: object) => post(path, { type: "note", status: "running" }, claims, "note");
    const first = await note({ sub: "ann" });
    expect(first.status).toBe(201);
    expect((await note({ sub: "ann" })).body).toEqual(first.body);
    for (const claims of [{ sub: "bob" }, { sub: "ann", iss: other }, {}]) {
      expect((await note(claims)).body.code).toBe("COMMAND_ID_CONFLICT");
    }
  });
});

describe("an issuer's own header", () => {
  const header = "cf-access-jwt-assertion";

  it("counts where no other credential is there, and only then", async () => {
    const issuers = [config({ header })];
    const token = await sign(rsa);
    expect((await ask(issuers, { [header]: token })).status).toBe(200);
    // Where it is not said, the token is none of ours.
    expect((await ask(issuers, bearer(token))).status).toBe(401);
    expect((await ask([config()], { [header]: token })).status).toBe(401);
    expect((await ask(issuers, { [header]: token, ...bearer("wrong") })).status).toBe(401);
    const minted = await mint({ scopes: ["viewer"], tenant: newTenant() });
    expect((await ask(issuers, { [header]: token, ...bearer(minted.token) })).body.kind).toBe("token");
    expect((await ask(issuers, { [header]: "garbage" })).status).toBe(401);
    expect((await ask(issuers, { [header]: `${token}, ${token}` })).status).toBe(401);
  });

  it("does not count for pages of another origin, which could ride on a cookie", async () => {
    const issuers = [config({ header })];
    const token = await sign(rsa);
    const from = async (origin: string) => (await ask(issuers, { [header]: token, origin })).status;
    expect(await from("http://host")).toBe(200);
    expect(await from("https://evil.test")).toBe(401);
    expect(await from("null")).toBe(401);
    expect((await ask([config()], { ...bearer(token), origin: "https://app.test" })).status).toBe(200);
  });
});

describe("keys", () => {
  const count = async (id: string): Promise<number> => (await fetch(`${ISSUER}/count?id=${id}`)).json();

  it("are fetched once for many tokens", async () => {
    const id = crypto.randomUUID();
    const issuers = [config({ jwks_url: keysUrl([rsa], { id }) })];
    for (let index = 0; index < 5; index += 1) {
      expect((await ask(issuers, bearer(await sign(rsa, { jti: `t${index}` })))).status).toBe(200);
    }
    expect(await count(id)).toBe(1);
  });

  it("that are new are found by fetching again, but not by every token with an unknown one", async () => {
    const id = crypto.randomUUID();
    const fresh = await newSigner("RS256");
    const issuers = [config({ jwks_url: keysUrl([rsa], { id, later: [rsa, fresh] }) })];
    const clock = vi.spyOn(Date, "now");
    const startMs = Date.now();
    expect((await ask(issuers, bearer(await sign(rsa)))).status).toBe(200);
    for (let index = 0; index < 3; index += 1) {
      expect((await ask(issuers, bearer(await sign(fresh, { jti: `u${index}` })))).status).toBe(401);
    }
    expect(await count(id)).toBe(1);
    clock.mockReturnValue(startMs + 31_000);
    expect((await ask(issuers, bearer(await sign(fresh)))).status).toBe(200);
    expect(await count(id)).toBe(2);
  });

  it.each<[string, Parameters<typeof keysUrl>[1]]>([
    ["answers 500", { status: 500 }],
    ["answers something else", { body: "<html>" }],
    ["answers JSON that is no set of keys", { body: `{"keys":1}` }],
  ])(
    "whose server %s: 503, root and minted tokens work, and it is not asked by every request",
    async (_, options) => {
      const id = crypto.randomUUID();
      const issuers = [config({ jwks_url: keysUrl([rsa], { id, ...options }) })];
      for (let index = 0; index < 3; index += 1) {
        const answer = await ask(issuers, bearer(await sign(rsa, { jti: `v${index}` })));
        expect([answer.status, answer.body.code]).toEqual([503, "IDENTITY_UNAVAILABLE"]);
        expect(answer.headers.get("retry-after")).toBe("5");
      }
      expect(await count(id)).toBe(1);
      expect((await ask(issuers, bearer(ROOT))).status).toBe(200);
      const { token } = await mint({ scopes: ["viewer"], tenant: newTenant() });
      expect((await ask(issuers, bearer(token))).status).toBe(200);
    },
  );

  it("on a host that does not answer: 503", async () => {
    const issuers = [config({ jwks_url: "https://nobody.test/keys" })];
    const answer = await ask(issuers, bearer(await sign(rsa)));
    expect([answer.status, answer.body.code]).toEqual([503, "IDENTITY_UNAVAILABLE"]);
  });
});

describe("a variable that cannot be used refuses everything but health, and says what is wrong", () => {
  const faults: [string, () => string, RegExp][] = [
    ["no JSON", () => "{", /BATON_ISSUERS is not JSON/],
    ["no list", () => "{}", /^BATON_ISSUERS: /],
    ["an empty list", () => "[]", /too_small/],
    [
      "no issuer",
      () => JSON.stringify([config({ issuer: undefined })]),
      /BATON_ISSUERS\[0\]\.issuer: .*required/,
    ],
    ["ourselves", () => JSON.stringify([config({ issuer: "baton" })]), /BATON_ISSUERS\[0\]\.issuer/],
    [
      "http",
      () => JSON.stringify([config({ jwks_url: "http://issuer.test/keys" })]),
      /jwks_url: must be an https URL/,
    ],
    ["no URL", () => JSON.stringify([config({ jwks_url: "keys" })]), /jwks_url/],
    [
      "an unknown scope",
      () => JSON.stringify([config({ scopes: { default: ["admin"] } })]),
      /scopes\.default\[0\]/,
    ],
    ["an unknown member", () => JSON.stringify([config({ audiences: "x" })]), /audiences: .*unknown_field/],
    ["half a tenant", () => JSON.stringify([config({ tenant: { org_id: "a" } })]), /tenant\.workspace_id/],
    ["a header that is none", () => JSON.stringify([config({ header: "A b" })]), /header/],
    ["a name that comes twice", () => `[{"issuer":"a","issuer":"b"}]`, /BATON_ISSUERS/],
  ];
  it.each(faults)("%s", async (_, text, message) => {
    for (const headers of [bearer(ROOT), bearer("other"), {}]) {
      const answer = await ask(text(), headers);
      expect([answer.status, answer.body.code]).toEqual([503, "SETUP_REQUIRED"]);
      expect(answer.body.error).toMatch(message);
    }
    expect((await ask(text(), {}, "/hooks/x", "POST")).status).toBe(503);
    expect((await ask(text(), {}, "/global/health")).status).toBe(200);
  });
});
