import { subscriptionObjectName } from "../identity/tenant.ts";

/** A run that has something new, perhaps: its log goes up to `seq` at least. */
export interface Nudge {
  run_id: string;
  seq: number;
}

/** The objects of subscriptions, by name. */
export interface Subscriptions {
  getByName(name: string): { nudge(nudges: Nudge[]): Promise<void> };
}

/** An object that is restarting fails what it is asked meanwhile. */
const RETRY_DELAYS_MS = [50, 200, 800];

/**
 * Tells subscriptions that a run has something new. Nobody waits for it, and it may fail: what one of them has not heard it
 * learns with the run's next commit, because it reads on from where it was, or from cron
 * (maintenance/nudge-subscriptions.ts).
 */
export function nudgeAll(
  subscriptions: Subscriptions,
  tenant: string,
  subscriptionIds: readonly string[],
  nudge: Nudge,
): void {
  for (const id of subscriptionIds) {
    // A new way to the object for each try: after a failure an old one may lead nowhere.
    const tell = () => subscriptions.getByName(subscriptionObjectName(tenant, id)).nudge([nudge]);
    void tryPatiently(tell).catch((error: unknown) => {
      const { run_id } = nudge;
      console.error(
        JSON.stringify({ event: "nudge_failed", subscription_id: id, run_id, error: String(error) }),
      );
    });
  }
}

async function tryPatiently(tell: () => Promise<void>): Promise<void> {
  for (const delayMs of RETRY_DELAYS_MS) {
    try {
      return await tell();
    } catch {
      await scheduler.wait(delayMs);
    }
  }
  return tell();
}
