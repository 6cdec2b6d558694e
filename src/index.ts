import type { Env } from "./env.ts";
import { serve } from "./http/server.ts";
import { collectArtifacts } from "./maintenance/collect-artifacts.ts";
import { finishDeliveries } from "./maintenance/finish-deliveries.ts";
import { forgetOldTokens } from "./maintenance/forget-tokens.ts";
import { nudgeSubscriptions } from "./maintenance/nudge-subscriptions.ts";
import { resumeMoves } from "./maintenance/resume-moves.ts";
import { retain } from "./maintenance/retain.ts";
import { sweepLeases } from "./maintenance/sweep-leases.ts";

export { FeedObject } from "./feed/feed-object.ts";
export { SubscriptionObject } from "./hooks/out/subscription-object.ts";
export { RunObject } from "./run/run-object.ts";

export default {
  fetch: (request, env, context) => serve(request, env, context),
  async scheduled(controller, env) {
    // A tick may be late. One that is told of a time to come must not take for old, and destroy, what is not.
    const nowMs = Math.min(controller.scheduledTime, Date.now());
    await attend("leases_swept", () => sweepLeases(env, nowMs));
    await attend("deliveries_finished", () => finishDeliveries(env, nowMs));
    await attend("artifacts_collected", () => collectArtifacts(env, nowMs));
    await attend("moves_resumed", () => resumeMoves(env, nowMs));
    await attend("runs_retained", () => retain(env, nowMs));
    await attend("subscriptions_nudged", () => nudgeSubscriptions(env, nowMs));
    await attend("tokens_forgotten", () => forgetOldTokens(env, nowMs));
  },
} satisfies ExportedHandler<Env>;

/** Attends to a duty and tells what it did, if anything. One that fails is left to the next tick and keeps no other from its turn. */
async function attend(event: string, duty: () => Promise<object>): Promise<void> {
  try {
    const done = await duty();
    if (Object.values(done).some((count) => count > 0)) console.log(JSON.stringify({ event, ...done }));
  } catch (error) {
    console.error(JSON.stringify({ event: "duty_failed", duty: event, error: String(error) }));
  }
}
