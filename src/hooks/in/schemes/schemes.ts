import type { SchemeConfig } from "../../../protocol/hooks.ts";
import type { Received } from "../received.ts";
import type { About, Checks, Failure, Scheme } from "../scheme.ts";
import { bearer } from "./bearer.ts";
import { github } from "./github.ts";
import { hmac, hmacKey } from "./hmac.ts";
import { linear } from "./linear.ts";
import { sharedSecret } from "./shared-secret.ts";
import { slack } from "./slack.ts";
import { standard, standardKey } from "./standard.ts";
import { stripe } from "./stripe.ts";

const SCHEMES: { [Kind in SchemeConfig["kind"]]: Scheme<Extract<SchemeConfig, { kind: Kind }>> } = {
  standard,
  github,
  slack,
  stripe,
  linear,
  hmac,
  shared_secret: sharedSecret,
  bearer,
};

const schemeOf = (config: SchemeConfig) => SCHEMES[config.kind] as Scheme<SchemeConfig>;

/** Whether a delivery may be believed; if not, why. */
export function verify(
  config: SchemeConfig,
  secrets: readonly string[],
  received: Received,
  checks: Checks,
): Promise<Failure | null> {
  return schemeOf(config).verify(config, secrets, received, checks);
}

/** What a delivery that was verified says about itself. */
export function about(config: SchemeConfig, received: Received): About {
  return schemeOf(config).about(config, received);
}

/** Whether a text can be a secret of this scheme. */
export function canBeSecret(config: SchemeConfig, secret: string): boolean {
  if (config.kind === "bearer") return false;
  if (config.kind === "standard") return standardKey(secret) !== null;
  // What a header cannot bring as it is, or what repeated headers look like.
  if (config.kind === "shared_secret") return /^(?! )[ -+\--~]+(?<! )$/.test(secret);
  if (config.kind === "hmac") return hmacKey(secret, config.secret_encoding) !== null;
  return true;
}

/**
 * Whether a hook that is made without a secret gets one made. Slack, Stripe and Linear make theirs themselves, when they
 * are told the hook's URL.
 */
export function makesSecret({ kind }: SchemeConfig): boolean {
  return !["slack", "stripe", "linear", "bearer"].includes(kind);
}
