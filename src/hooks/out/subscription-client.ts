import type { Subscription } from "../../directory/subscriptions.ts";
import { subscriptionObjectName } from "../../identity/tenant.ts";
import type { SubscriptionObject } from "./subscription-object.ts";

/** A subscription's object as callers see it: its RPC methods, typed as they are declared. */
export type SubscriptionClient = Pick<
  SubscriptionObject,
  | "nudge"
  | "changed"
  | "keepStarts"
  | "erase"
  | "ping"
  | "readState"
  | "readAttempts"
  | "readLetters"
  | "redeliver"
  | "replay"
>;

/** The object of a subscription. It stores nothing before it is first called. */
export function subscriptionClient(
  subscriptions: DurableObjectNamespace<SubscriptionObject>,
  { tenant, subscription_id }: Pick<Subscription, "tenant" | "subscription_id">,
): SubscriptionClient {
  return subscriptions.getByName(
    subscriptionObjectName(tenant, subscription_id),
  ) as unknown as SubscriptionClient;
}
