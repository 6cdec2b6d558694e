import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Env } from "../../src/env.ts";
import { issuersOf } from "../../src/identity/issuers.ts";
import { Keyring, keyringOf } from "../../src/identity/keyring.ts";
import { looksLikeToken, signToken, verifyToken } from "../../src/identity/minted-tokens.ts";
import { type Principal, rootPrincipal } from "../../src/identity/principal.ts";
import { tenantOf } from "../../src/identity/tenant.ts";
import { isValidActor } from "../../src/protocol/actor.ts";
import { isValidId } from "../../src/protocol/ids.ts";
import { SCOPES } from "../../src/protocol/scope.ts";
import { anyJson, anyText, around, nearly, nearlyJson } from "./support/any.ts";
import { check, checkAsync, expectPrototypesUntouched } from "./support/check.ts";

const NOW = 1_800_000_000_000;
const ring = new Keyring(["a secret of the tests, long enough"]);
const id = fc.stringMatching(/^[A-Za-z0-9._:-]{1,20}$/).filter(isValidId);
const label = anyText.filter((text) => text.length <= 100 && text.isWellFormed());

const principal: fc.Arbitrary<Principal> = fc
  .record({
    org: id,
    workspace: id,
    actor: fc.option(fc.stringMatching(/^[!-~]{1,20}$/).filter(isValidActor)),
    scopes: fc.uniqueArray(fc.constantFrom(...SCOPES), { minLength: 1 }),
    token_id: id,
    ancestors: fc.array(id, { maxLength: 3 }),
    run_id: fc.option(id),
    agent_id: fc.option(label),
    task_types: fc.option(fc.array(label, { minLength: 1, maxLength: 3 })),
    lifetime: fc.integer({ min: 1, max: 10 ** 9 }),
  })
  .map(({ org, workspace, actor, lifetime, ...rest }) => ({
    kind: "token" as const,
    tenant: tenantOf(org, workspace, actor),
    ...rest,
    expires_at_ms: NOW + lifetime * 1000,
  }));

describe("tokens", () => {
  it("say whose they are as it was said when they were signed, until they expire", async () => {
    await checkAsync(
      fc.asyncProperty(principal, async (given) => {
        const token = await signToken(ring, given, NOW);
        expect(await verifyToken(ring, token, NOW)).toEqual({ ok: true, principal: given });
        expect(await verifyToken(ring, token, given.expires_at_ms ?? 0)).toEqual({
          ok: false,
          reason: "expired",
        });
      }),
      50,
    );
  });

  it("of any other text are nobody's", async () => {
    const good = await signToken(
      ring,
      { ...rootPrincipal(tenantOf("o", "w", null)), kind: "token", expires_at_ms: NOW * 2 },
      NOW,
    );
    const part = anyJson.map((value) =>
      btoa(unescape(encodeURIComponent(JSON.stringify(value).toWellFormed()))),
    );
    const parts = fc.array(part, { minLength: 3, maxLength: 3 });
    const asToken = parts.map((all) =>
      all.map((text) => text.replace(/=+$/, "").replaceAll("+", "-").replaceAll("/", "_")).join("."),
    );
    // The last character of a signature has bits that stand for nothing, and may be another.
    const changed = fc
      .oneof(nearly(fc.constant(good)), asToken, anyText)
      .filter((text) => text.slice(0, -1) !== good.slice(0, -1));
    await checkAsync(
      fc.asyncProperty(changed, async (text) => {
        expect((await verifyToken(ring, text, NOW)).ok).toBe(false);
        expect(looksLikeToken(text)).toBe(text.length <= 8 * 1024 && /^[\w-]+\.[\w-]+\.[\w-]+$/.test(text));
      }),
    );
  });
});

describe("issuers", () => {
  const issuer = {
    issuer: "https://id.example",
    audience: "baton",
    jwks_url: "https://id.example/keys",
    tenant: { org_id: "acme", workspace_id: { claim: ["https://x/y", "workspace"] } },
    scopes: { claim: "scope", map: { "baton:read": ["viewer"] }, default: ["viewer"] },
  };

  it("any text of the variable is issuers, or says what is wrong with it", () => {
    const value = fc.constant<unknown>([issuer]);
    const json = fc.oneof(value, nearlyJson(value), anyJson).map((given) => JSON.stringify(given));
    check(
      fc.property(fc.oneof(json, around(fc.constant(JSON.stringify([issuer])))), (text) => {
        const read = issuersOf(text);
        if (!read.ok) expect(read.fault).toMatch(/^BATON_ISSUERS/);
        else expect(read.issuers.length > 0).toBe(text.trim() !== "");
      }),
    );
    expectPrototypesUntouched();
  });

  it("any text is a token of an issuer only where its claims name it", () => {
    const read = issuersOf(JSON.stringify([issuer]));
    const [known] = read.ok ? read.issuers : [];
    if (known === undefined) throw new Error("the issuer is good");
    const claims = fc.oneof(
      anyJson,
      fc.record({ iss: fc.oneof(anyJson, fc.constant(issuer.issuer)) }),
      fc.constant(null),
    );
    check(
      fc.property(claims, anyText, (payload, text) => {
        const bytes = new TextEncoder().encode(JSON.stringify(payload));
        const base64 = Buffer.from(bytes).toString("base64url");
        const isNamed = (payload as { iss?: unknown } | null)?.iss === issuer.issuer;
        expect(known.claims(`e30.${base64}.AA`)).toBe(isNamed && base64.length < 8_000);
        expect(known.claims(text)).toBe(false);
        expect(known.claims(`a.${text}.b`)).toBe(false);
      }),
    );
  });
});

describe("keys", () => {
  it("of a deployment are its secrets, whatever blanks lie between, or none where one is short", () => {
    const secret = fc.stringMatching(/^[!-~]{20,50}$/);
    const blank = fc.constantFrom(" ", "\n", "\t ", "\u00a0");
    check(
      fc.property(fc.array(secret, { minLength: 1, maxLength: 3 }), blank, (secrets, between) => {
        const of = (text: string) => keyringOf({ BATON_KEYS: text } as Env);
        const ring = of(`${between}${secrets.join(between)}${between}`);
        expect(ring === null).toBe(secrets.some(({ length }) => length < 32));
        expect(of(secrets.join(between))).toBe(ring);
      }),
    );
    check(fc.property(anyText, (text) => void keyringOf({ BATON_KEYS: text } as Env)));
  });

  it("open what they sealed and belongs there, and no other text", async () => {
    await checkAsync(
      fc.asyncProperty(anyText, anyText, async (text, bound) => {
        const sealed = await ring.seal(text, bound);
        expect(await ring.open(sealed, bound)).toBe(text.toWellFormed());
        expect(await ring.open(sealed, `${bound}.`)).toBeNull();
        expect(await ring.open(`${sealed.slice(0, -6)}AAAAAA`, bound)).toBeNull();
      }),
      30,
    );
    const sealed = await ring.seal("x", "y");
    await checkAsync(
      fc.asyncProperty(nearly(fc.constant(sealed)), async (text) => {
        const opened = await ring.open(text, "y");
        expect(opened === null || opened === "x").toBe(true);
      }),
    );
  });
});
