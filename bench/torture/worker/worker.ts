import type { Env } from "../../../src/env.ts";
import baton, {
  FeedObject as BatonFeedObject,
  RunObject as BatonRunObject,
  SubscriptionObject as BatonSubscriptionObject,
} from "../../../src/index.ts";
import { clockOffsetMs, moveAlarms, moveClockTo } from "./moved-clock.ts";

/*
 * Baton as it is, except that its clock can be moved: by the variable CLOCK_OFFSET_MS when the isolate starts, and by
 * `PUT /torture/clock` with `{"offset_ms": …}`, which says how far ahead of the real clock it shall be. `GET` tells.
 */

export class RunObject extends BatonRunObject {
  constructor(ctx: DurableObjectState, env: Env) {
    moveAlarms(ctx.storage);
    super(ctx, env);
  }
}

export class FeedObject extends BatonFeedObject {
  constructor(ctx: DurableObjectState, env: Env) {
    moveAlarms(ctx.storage);
    super(ctx, env);
  }
}

export class SubscriptionObject extends BatonSubscriptionObject {
  constructor(ctx: DurableObjectState, env: Env) {
    moveAlarms(ctx.storage);
    super(ctx, env);
  }
}

export default {
  ...baton,
  async fetch(request, env, context) {
    if (new URL(request.url).pathname !== "/torture/clock") return baton.fetch(request, env, context);
    if (request.method === "PUT") {
      const { offset_ms } = await request.json<{ offset_ms: number }>();
      moveClockTo(offset_ms);
    }
    return Response.json({ offset_ms: clockOffsetMs(), now_ms: Date.now() });
  },
} satisfies ExportedHandler<Env>;
