import type { Env } from "../env.ts";
import type { Principal } from "../identity/principal.ts";
import { tenantKey } from "../identity/tenant.ts";
import { RATES } from "../protocol/limits.ts";
import { RequestRefused } from "./problem.ts";

/** What requests are counted by. */
export type RateKind = keyof typeof RATES;

const BINDINGS = {
  token: "TOKEN_RATE",
  tenant: "TENANT_RATE",
  network: "NETWORK_RATE",
  hook: "HOOK_RATE",
} as const satisfies Record<RateKind, keyof Env>;

/**
 * Counts a request by a key, and refuses it when there were too many of late. The platform counts per location and without
 * making requests wait for each other, so a little more than the rate may pass. A deployment without the binding, or
 * whose binding fails, lets everything pass: a broken counter must not stop the work.
 *
 * @throws RequestRefused `RATE_LIMITED`, with `Retry-After`, `RateLimit` and `RateLimit-Policy`
 */
export async function limitRate(env: Env, kind: RateKind, key: string): Promise<void> {
  const binding = env[BINDINGS[kind]];
  if (binding === undefined) return;
  const isWithin = await binding.limit({ key }).then(
    ({ success }) => success,
    (error: unknown) => {
      console.error(JSON.stringify({ event: "rate_unknown", kind, error: String(error) }));
      return true;
    },
  );
  if (!isWithin) refuseRate(kind);
}

/** Counts a request by its token and its tenant. The root credential is not limited, and pays nothing for it. */
export async function limitPrincipal(env: Env, { kind, tenant, token_id }: Principal): Promise<void> {
  if (kind === "root") return;
  const key = tenantKey(tenant);
  await Promise.all([limitRate(env, "token", `${key}/${token_id}`), limitRate(env, "tenant", key)]);
}

/**
 * The network that a request comes from, as a key: an IPv4 address, or the /64 of an IPv6 one, which is what one customer
 * has. Where no proxy of the platform says it (on one machine), all requests share one key.
 */
export function networkOf({ headers }: Request): string {
  const address = headers.get("cf-connecting-ip") ?? "unknown";
  if (!address.includes(":") || address.includes(".")) return address;
  const [before = "", after] = address.split("::");
  const head = before === "" ? [] : before.split(":");
  const tail = after === undefined || after === "" ? [] : after.split(":");
  // Where no proxy stands in front, a client may send what is no address.
  const missing = after === undefined ? 0 : Math.max(0, 8 - head.length - tail.length);
  const zeros = Array<string>(missing).fill("0");
  return `${[...head, ...zeros, ...tail].slice(0, 4).join(":")}::/64`;
}

/** The platform does not tell when a period ends: a whole one is enough in any case. */
function refuseRate(kind: RateKind): never {
  const { requests, period_s } = RATES[kind];
  throw new RequestRefused(
    {
      code: "RATE_LIMITED",
      error: `too many requests: at most ${requests} in ${period_s} seconds for each ${kind}`,
      limit_name: kind,
      limit: requests,
      retry_after_ms: period_s * 1000,
    },
    {
      "retry-after": String(period_s),
      ratelimit: `"${kind}";r=0;t=${period_s}`,
      "ratelimit-policy": `"${kind}";q=${requests};w=${period_s}`,
    },
  );
}
