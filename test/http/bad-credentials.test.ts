import { env } from "cloudflare:workers";
import { SignJWT } from "jose/jwt/sign";
import { generateKeyPair } from "jose/key/generate/keypair";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { Env } from "../../src/env.ts";
import { Keyring } from "../../src/identity/keyring.ts";
import { serve } from "../support/serve.ts";
import {
  answered,
  callAs,
  goodClaims,
  mint,
  newTenant,
  ROOT,
  requestAs,
  signedWith,
} from "../support/tokens.ts";

const WHOAMI = "/v1/whoami";
const now = () => Math.floor(Date.now() / 1000);
const base64url = (value: object) =>
  btoa(JSON.stringify(value)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

/** The token with its last character but one changed: the last one may hold bits that do not count. */
function forged(token: string): string {
  const at = token.length - 2;
  return token.slice(0, at) + (token[at] === "A" ? "B" : "A") + token.slice(at + 1);
}

/** The token with other claims under the signature it has. */
function withClaims(token: string, claims: object): string {
  const [header, , signature] = token.split(".");
  return `${header}.${base64url(claims)}.${signature}`;
}

const BAD: [string, () => Promise<string> | string][] = [
  ["expired", () => signedWith(goodClaims({ exp: now() - 1 }))],
  ["expiring this second", () => signedWith(goodClaims({ exp: now() }))],
  ["not yet valid", () => signedWith(goodClaims({ nbf: now() + 60 }))],
  ["without an expiry", () => signedWith(goodClaims({ exp: undefined }))],
  ["without an id", () => signedWith(goodClaims({ jti: undefined }))],
  ["without a tenant", () => signedWith(goodClaims({ org_id: undefined }))],
  ["without scopes", () => signedWith(goodClaims({ scopes: undefined }))],
  ["with scopes that are no list", () => signedWith(goodClaims({ scopes: "operator" }))],
  ...["run_id", "agent_id", "actor_id", "task_types", "anc"].map((name): (typeof BAD)[number] => [
    `with a bound of a form that is not known: ${name}`,
    () => signedWith(goodClaims({ [name]: { any: "of these" } })),
  ]),
  ["forged: one character of the signature", async () => forged(await signedWith(goodClaims()))],
  [
    "forged: other claims under a good signature",
    async () => withClaims(await signedWith(goodClaims()), goodClaims({ scopes: ["operator"] })),
  ],
  ["truncated: no signature", async () => (await signedWith(goodClaims())).replace(/[^.]*$/, "")],
  ["truncated: half a signature", async () => (await signedWith(goodClaims())).slice(0, -20)],
  ["truncated: two parts", async () => (await signedWith(goodClaims())).replace(/\.[^.]*$/, "")],
  ["with a fourth part", async () => `${await signedWith(goodClaims())}.AAAA`],
  [
    "re-signed with another key under our kid",
    () => signedWith(goodClaims(), {}, new TextEncoder().encode("another-key-of-thirty-two-characters")),
  ],
  [
    "of a ring that is not ours",
    async () => {
      const [key] = await new Keyring(["some-other-secret-0123456789-abcdef"]).keys("tokens");
      if (key === undefined) throw new Error("a ring has keys");
      return signedWith(goodClaims(), { kid: key.kid }, key.key);
    },
  ],
  [
    "signed with a key of the same secret that is for something else",
    () => signedWith(goodClaims(), {}, new TextEncoder().encode(env.BATON_KEYS ?? "")),
  ],
  [
    "signed with the root credential",
    () => signedWith(goodClaims(), {}, new TextEncoder().encode(ROOT.repeat(4))),
  ],
  ["alg none", () => `${base64url({ alg: "none", typ: "JWT" })}.${base64url(goodClaims())}.`],
  ["alg none with a signature", () => `${base64url({ alg: "none" })}.${base64url(goodClaims())}.AAAA`],
  [
    "alg none over a good token",
    async () => (await signedWith(goodClaims())).replace(/^[^.]*/, base64url({ alg: "none" })),
  ],
  [
    "RS256 with our kid: the public half as a secret, or a private key of its own",
    async () => {
      const { privateKey } = await generateKeyPair("RS256");
      const [header = ""] = (await signedWith(goodClaims())).split(".");
      const { kid: ours } = JSON.parse(atob(header)) as { kid: string };
      return new SignJWT(goodClaims()).setProtectedHeader({ alg: "RS256", kid: ours }).sign(privateKey);
    },
  ],
  [
    "a header that says RS256 over our HMAC",
    async () => {
      const [header = "", claims, signature] = (await signedWith(goodClaims())).split(".");
      const { kid } = JSON.parse(atob(header)) as { kid: string };
      return `${base64url({ alg: "RS256", kid })}.${claims}.${signature}`;
    },
  ],
  ["another audience", () => signedWith(goodClaims({ aud: "other" }))],
  ["no audience", () => signedWith(goodClaims({ aud: undefined }))],
  ["another issuer", () => signedWith(goodClaims({ iss: "https://baton.example" }))],
  ["no issuer", () => signedWith(goodClaims({ iss: undefined }))],
  ["an unknown kid", () => signedWith(goodClaims(), { kid: "0000000000000000" })],
  ["no kid", () => signedWith(goodClaims(), { kid: undefined })],
  ["a kid of another type", () => signedWith(goodClaims(), { kid: ["x"] })],
  [
    "a critical header that nobody knows",
    async () => {
      const [header = "", claims, signature] = (await signedWith(goodClaims())).split(".");
      return `${base64url({ ...JSON.parse(atob(header)), crit: ["x"], x: 1 })}.${claims}.${signature}`;
    },
  ],
  [
    "huge: good, and longer than a credential may be",
    () => signedWith(goodClaims({ pad: "x".repeat(8_192) })),
  ],
  ["huge: no token at all", () => "x".repeat(100_000)],
  ["twice in one header", async () => `${await signedWith(goodClaims())}, ${await signedWith(goodClaims())}`],
  ["the root credential twice", () => `${ROOT}, ${ROOT}`],
  ["the root credential and more", () => `${ROOT}x`],
  ["the start of the root credential", () => ROOT.slice(0, -1)],
  ["not a token", () => "baton"],
  ["dots", () => "..."],
  ["three empty objects", () => "e30.e30.e30"],
  ["claims that are no object", async () => withClaims(await signedWith(goodClaims()), [1])],
];

afterEach(() => {
  vi.restoreAllMocks();
});

describe("a credential that is none of ours is 401, and the answer does not say why", () => {
  it("a good one passes, so that the table below shows what it says", async () => {
    expect((await callAs(await signedWith(goodClaims()), "GET", WHOAMI)).status).toBe(200);
  });

  it.each(BAD)("%s", async (_, make) => {
    const credential = await make();
    const told = vi.spyOn(console, "log").mockImplementation(() => undefined);
    const logged = { ...env, REQUEST_LOG: "all" };
    const answer = await answered(await serve(requestAs(credential, "GET", WHOAMI), logged));
    const missing = await callAs(null, "GET", WHOAMI);
    expect(answer.status).toBe(401);
    expect(answer.headers.get("www-authenticate")).toBe("Bearer");
    const { request_id: _one, ...body } = answer.body;
    const { request_id: _other, ...without } = missing.body;
    expect(body).toEqual(without);
    // The log has a reason, and nothing of the credential.
    const lines = told.mock.calls.map(([line]) => String(line));
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      expect.objectContaining({ status: 401, code: "AUTH_REQUIRED", reason: expect.any(String) }),
    ]);
    for (const part of credential.split(".").filter((text) => text.length > 8)) {
      expect(lines.join()).not.toContain(part);
    }
  });

  it.each(BAD)("%s, at the other door", async (_, make) => {
    const answer = await callAs(await make(), "GET", "/context/runs");
    expect(answer.status).toBe(401);
    expect(answer.body).toEqual({
      error: "Unauthorized: missing or invalid API token",
      code: "AUTH_REQUIRED",
    });
  });

  it("a token that was verified once is refused as soon as it has expired", async () => {
    const clock = vi.spyOn(Date, "now");
    const token = await signedWith(goodClaims());
    expect((await callAs(token, "GET", WHOAMI)).status).toBe(200);
    const expiry = (goodClaims().exp as number) * 1000;
    clock.mockReturnValue(expiry + 1_000);
    expect((await callAs(token, "GET", WHOAMI)).status).toBe(401);
    clock.mockReturnValue(expiry - 60_000);
    expect((await callAs(token, "GET", WHOAMI)).status).toBe(200);
  });

  it("the first header that is not blank counts; no other is tried when it is wrong", async () => {
    const token = await signedWith(goodClaims());
    const ask = async (headers: Record<string, string>) =>
      (await callAs(null, "GET", WHOAMI, undefined, headers)).status;
    expect(await ask({ "x-agent-token": token, "x-tandem-token": "wrong" })).toBe(200);
    expect(await ask({ "x-agent-token": " ", "x-tandem-token": token })).toBe(200);
    expect(await ask({ "x-agent-token": "wrong", authorization: `Bearer ${token}` })).toBe(401);
    expect(await ask({ authorization: `Basic ${token}` })).toBe(401);
    const twice = new Headers({ "x-agent-token": token });
    twice.append("x-agent-token", token);
    expect((await serve(new Request("http://host/v1/whoami", { headers: twice }), env)).status).toBe(401);
  });

  it("a token counts only under the keys that signed it, also when it is known already", async () => {
    const token = await signedWith(goodClaims());
    expect((await callAs(token, "GET", WHOAMI)).status).toBe(200);
    const ask = async (changes: Partial<Env>) =>
      (await serve(requestAs(token, "GET", WHOAMI), { ...env, ...changes })).status;
    expect(await ask({ BATON_KEYS: "other-keys-of-the-tests-0123456789" })).toBe(401);
    expect(await ask({ BATON_KEYS: "short" })).toBe(401);
    expect(await ask({ BATON_KEYS: `new-keys-of-the-tests-0123456789-ab ${env.BATON_KEYS}` })).toBe(200);
  });
});

describe("revocation", () => {
  it("ends a token, and every token that comes from it, and no other", async () => {
    const tenant = newTenant();
    const parent = await mint({ scopes: ["operator"], tenant });
    const child = await mint({ scopes: ["agent"] }, parent.token);
    const grandchild = await mint({ scopes: ["viewer"] }, child.token);
    const sibling = await mint({ scopes: ["agent"] }, parent.token);
    const status = async ({ token }: { token: string }) => (await callAs(token, "GET", WHOAMI)).status;
    for (const token of [parent, child, grandchild, sibling]) expect(await status(token)).toBe(200);
    expect((await callAs(parent.token, "POST", `/v1/tokens/${child.token_id}/revoke`)).body.active).toBe(
      false,
    );
    expect(await Promise.all([parent, child, grandchild, sibling].map(status))).toEqual([200, 401, 401, 200]);
    expect((await callAs(parent.token, "GET", `/v1/tokens/${grandchild.token_id}`)).body).toMatchObject({
      active: false,
      revoked_at_ms: null,
    });
  });
});

describe("setup", () => {
  it("without BATON_TOKEN every credential is refused, a good token too", async () => {
    const token = await signedWith(goodClaims());
    const answer = await answered(await serve(requestAs(token, "GET", WHOAMI), { ...env, BATON_TOKEN: "" }));
    expect([answer.status, answer.body.code]).toEqual([503, "SETUP_REQUIRED"]);
  });

  it("without keys nothing is minted, and what to do is said", async () => {
    const answer = await answered(
      await serve(requestAs(ROOT, "POST", "/v1/tokens", { scopes: ["viewer"] }), { ...env, BATON_KEYS: "" }),
    );
    expect([answer.status, answer.body.code]).toEqual([503, "KEYS_REQUIRED"]);
    expect(answer.body.hint).toContain("BATON_KEYS");
  });
});
