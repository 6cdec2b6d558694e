import { findSubscription, type SealedSecret, type Subscription } from "../../directory/subscriptions.ts";
import type { Env } from "../../env.ts";
import { keyringOf } from "../../identity/keyring.ts";

/** Why nothing can be sent when no secret can be opened: nothing goes out unsigned. */
export const SECRETS_CLOSED = "the deployment's keys open none of the subscription's secrets";

/** What the directory says of a subscription, with those of its secrets that could be opened, the newest first. */
export interface Settings {
  subscription: Subscription;
  secrets: { secret: string; retires_at_ms: number | null }[];
}

/** What a secret is sealed to. */
export function secretBound(
  { tenant, subscription_id }: Pick<Subscription, "tenant" | "subscription_id">,
  { secret_id }: Pick<SealedSecret, "secret_id">,
): string {
  return `subscription/${tenant}/${subscription_id}/${secret_id}`;
}

/**
 * Reads them; null when there is no such subscription.
 * @throws when the directory cannot be asked.
 */
export async function readSettings(
  env: Env,
  of: Pick<Subscription, "tenant" | "subscription_id">,
): Promise<Settings | null> {
  const found = await findSubscription(env.DIRECTORY, of.tenant, of.subscription_id);
  if (found === null) return null;
  const ring = keyringOf(env);
  const opened = await Promise.all(
    found.secrets.map(async (stored) => {
      const secret = (await ring?.open(stored.sealed, secretBound(of, stored))) ?? null;
      return secret === null ? [] : [{ secret, retires_at_ms: stored.retires_at_ms }];
    }),
  );
  return { subscription: found.subscription, secrets: opened.flat() };
}

/** The secrets that sign at a moment. */
export function activeSecrets({ secrets }: Settings, nowMs: number): string[] {
  return secrets
    .filter(({ retires_at_ms }) => retires_at_ms === null || retires_at_ms > nowMs)
    .map(({ secret }) => secret);
}
