import type { Env } from "../../src/env.ts";
import { LOCAL_TENANT, runObjectName, tenantKey } from "../../src/identity/tenant.ts";
import baton, { RunObject as BatonRunObject } from "../../src/index.ts";

// The other objects as they are; what is exported below takes the place of its namesake.
export * from "../../src/index.ts";

/** By the object's id. The Worker and its objects share one isolate where the bench runs. */
const constructions = new Map<string, number>();

/** Baton's own, except that its constructions are counted: an object that was evicted is constructed again. */
export class RunObject extends BatonRunObject {
  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    const id = ctx.id.toString();
    constructions.set(id, (constructions.get(id) ?? 0) + 1);
  }
}

const path = "/bench/constructions/";

/** Baton, and one more path that tells how often the object of the run named last in it was constructed. */
export default {
  ...baton,
  async fetch(request, env, context) {
    const { pathname } = new URL(request.url);
    if (!pathname.startsWith(path)) return baton.fetch(request, env, context);
    const name = runObjectName(tenantKey(LOCAL_TENANT), pathname.slice(path.length));
    return Response.json(constructions.get(env.RUNS.idFromName(name).toString()) ?? 0);
  },
} satisfies ExportedHandler<Env>;
