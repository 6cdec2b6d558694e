import type { Env } from "./env.ts";
import { serve } from "./http/server.ts";
import { collectArtifacts } from "./maintenance/collect-artifacts.ts";
import { sweepLeases } from "./maintenance/sweep-leases.ts";

export { FeedObject } from "./feed/feed-object.ts";
export { RunObject } from "./run/run-object.ts";

export default {
  fetch: (request, env) => serve(request, env),
  async scheduled(controller, env) {
    const sweep = await sweepLeases(env, controller.scheduledTime);
    if (sweep.runs > 0) console.log(JSON.stringify({ event: "leases_swept", ...sweep }));
    const collection = await collectArtifacts(env, controller.scheduledTime);
    if (Object.values(collection).some((count) => count > 0)) {
      console.log(JSON.stringify({ event: "artifacts_collected", ...collection }));
    }
  },
} satisfies ExportedHandler<Env>;
