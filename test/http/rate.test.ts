/// <reference types="vite/types/importMeta.d.ts" />
import { env } from "cloudflare:workers";
import { parse } from "smol-toml";
import { describe, expect, it } from "vitest";
import type { Env } from "../../src/env.ts";
import { RequestRefused } from "../../src/http/problem.ts";
import { limitPrincipal, limitRate, networkOf, type RateKind } from "../../src/http/rate.ts";
import { rootPrincipal } from "../../src/identity/principal.ts";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import { RATES } from "../../src/protocol/limits.ts";

const [wranglerToml = ""] = Object.values(
  import.meta.glob<string>("../../wrangler.toml", { query: "?raw", import: "default", eager: true }),
);

const KINDS = Object.keys(RATES) as RateKind[];

/** The real counters, which count to two only. */
function narrow(bindings: Env): Env {
  const counting = (rate?: RateLimit): RateLimit => ({
    limit: async ({ key }) => (await rate?.limit({ key, limit: 2 } as RateLimitOptions)) ?? { success: true },
  });
  return {
    ...bindings,
    TOKEN_RATE: counting(bindings.TOKEN_RATE),
    TENANT_RATE: counting(bindings.TENANT_RATE),
    NETWORK_RATE: counting(bindings.NETWORK_RATE),
    HOOK_RATE: counting(bindings.HOOK_RATE),
  };
}

/** How often a key passes before it is refused. A period may end meanwhile, so that twice as many pass. */
async function refusedAfter(
  passing: () => Promise<void>,
): Promise<{ passed: number; refused: RequestRefused }> {
  for (let passed = 0; passed < 5; passed += 1) {
    try {
      await passing();
    } catch (error) {
      if (error instanceof RequestRefused) return { passed, refused: error };
      throw error;
    }
  }
  throw new Error("nothing was refused");
}

describe("rates", () => {
  it("are the same in wrangler.toml and in the code, each with a counter of its own", () => {
    const { ratelimits } = parse(wranglerToml) as unknown as {
      ratelimits: { name: string; namespace_id: string; simple: { limit: number; period: number } }[];
    };
    const told = ratelimits.map(({ name, simple }) => [name, simple.limit, simple.period]);
    expect(told).toEqual(
      KINDS.map((kind) => [`${kind.toUpperCase()}_RATE`, RATES[kind].requests, RATES[kind].period_s]),
    );
    expect(new Set(ratelimits.map(({ namespace_id }) => namespace_id)).size).toBe(KINDS.length);
  });

  it.each(KINDS)(
    "%s: what is over the rate is refused with the time to wait; other keys pass",
    async (kind) => {
      const key = crypto.randomUUID();
      const { passed, refused } = await refusedAfter(() => limitRate(narrow(env), kind, key));
      expect(passed).toBeGreaterThanOrEqual(2);
      const { requests, period_s } = RATES[kind];
      expect(refused.problem).toMatchObject({
        code: "RATE_LIMITED",
        limit_name: kind,
        limit: requests,
        retry_after_ms: period_s * 1000,
      });
      expect(refused.headers).toEqual({
        "retry-after": String(period_s),
        ratelimit: `"${kind}";r=0;t=${period_s}`,
        "ratelimit-policy": `"${kind}";q=${requests};w=${period_s}`,
      });
      await limitRate(narrow(env), kind, crypto.randomUUID());
    },
  );

  it("a token uses up its own rate, its tenant the tenant's, the root credential none", async () => {
    const workspace_id = crypto.randomUUID();
    const principal = { ...rootPrincipal({ ...LOCAL_TENANT, workspace_id }), token_id: "tok_1" };
    const token = { ...principal, kind: "token" as const };
    const { refused } = await refusedAfter(() => limitPrincipal(narrow(env), token));
    expect(refused.problem).toMatchObject({ code: "RATE_LIMITED" });
    for (let count = 0; count < 5; count += 1) await limitPrincipal(narrow(env), principal);
    // Other tokens of that tenant share what is left of the tenant's.
    let others = 0;
    const { refused: tenantRefused } = await refusedAfter(() => {
      others += 1;
      return limitPrincipal(narrow(env), { ...token, token_id: `tok_other_${others}` });
    });
    expect(tenantRefused.problem).toMatchObject({ limit_name: "tenant" });
  });

  it("a deployment without the bindings, or whose counter fails, lets requests pass", async () => {
    const { TOKEN_RATE, TENANT_RATE, NETWORK_RATE, HOOK_RATE, ...without } = env as Env;
    await limitRate(without, "hook", "any");
    const failing = { ...without, HOOK_RATE: { limit: () => Promise.reject(new Error("no counter")) } };
    await limitRate(failing, "hook", "any");
  });

  it.each([
    ["203.0.113.7", "203.0.113.7"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["::ffff:203.0.113.7", "::ffff:203.0.113.7"],
    ["1:2:3:4::5:6:7:8:9", "1:2:3:4::/64"],
    [null, "unknown"],
  ])("the network of %s is %s", (address, network) => {
    const headers = address === null ? {} : { "cf-connecting-ip": address };
    expect(networkOf(new Request("https://baton.example/", { headers }))).toBe(network);
  });
});
