import type { Env } from "../../../src/env.ts";
import { ROUTES } from "../../../src/http/routes.ts";
import baton, {
  FeedObject as BatonFeedObject,
  RunObject as BatonRunObject,
  SubscriptionObject as BatonSubscriptionObject,
} from "../../../src/index.ts";
import { watchEnv, watchStorage } from "./watch.ts";
import { Writes } from "./writes.ts";

/**
 * Baton, and what it writes told with every answer. The Worker and its objects share one isolate here. A lane of the fuzz sends one
 * request after the other, says its number in a header, and its runs are those of tenants of its own: so what their objects write
 * while a request is under way is that request's, or what time and the engine bring by themselves.
 */
const LANE = "x-fuzz-lane";
/** Of an answer: what was written while it was made, as percent-encoded JSON; absent when nothing was. */
const WRITTEN = "x-fuzz-written";

/** What the request that is under way has written, by lane. */
const current = new Map<string, Writes>();
/** What each object has written while no request of its lane was under way, by its name, since that was last asked for. */
let idle = new Map<string, Writes>();
/** What the engine has said is wrong since that was last asked for, and what its alarms have thrown. */
let faults: string[] = [];

const printError = console.error.bind(console);
console.error = (...said: unknown[]) => {
  faults.push(said.map(String).join(" ").slice(0, 2_000));
  printError(...said);
};

/** The lane that a tenant belongs to, by the name of one of its objects: the organisation is `fuzz-<lane>` or `fuzz-<lane>-…`. */
function laneOf(ctx: DurableObjectState): string | undefined {
  return /^fuzz-(\d+)/.exec(ctx.id.name ?? "")?.[1];
}

function writesOf(ctx: DurableObjectState): Writes {
  const asked = current.get(laneOf(ctx) ?? "");
  if (asked !== undefined) return asked;
  const name = ctx.id.name ?? "";
  const writes = idle.get(name) ?? new Writes();
  idle.set(name, writes);
  return writes;
}

async function alarmOf(kind: string, alarm: () => Promise<void>): Promise<void> {
  try {
    await alarm();
  } catch (error) {
    faults.push(`alarm of a ${kind}: ${error instanceof Error ? error.stack : error}`);
    throw error;
  }
}

export class RunObject extends BatonRunObject {
  constructor(ctx: DurableObjectState, env: Env) {
    watchStorage(ctx, "run", () => writesOf(ctx));
    super(
      ctx,
      watchEnv(env, "run>", () => writesOf(ctx)),
    );
  }

  override alarm(): Promise<void> {
    return alarmOf("run", () => super.alarm());
  }
}

export class FeedObject extends BatonFeedObject {
  constructor(ctx: DurableObjectState, env: Env) {
    watchStorage(ctx, "feed", () => writesOf(ctx));
    super(
      ctx,
      watchEnv(env, "feed>", () => writesOf(ctx)),
    );
  }
}

export class SubscriptionObject extends BatonSubscriptionObject {
  constructor(ctx: DurableObjectState, env: Env) {
    watchStorage(ctx, "subscription", () => writesOf(ctx));
    super(
      ctx,
      watchEnv(env, "subscription>", () => writesOf(ctx)),
    );
  }

  override alarm(): Promise<void> {
    return alarmOf("subscription", () => super.alarm());
  }
}

type Handler = Required<Pick<ExportedHandler<Env>, "fetch">>["fetch"];

/** A Worker's answer, with what was written for it. What goes on behind a refusal is waited for, and told with it. */
async function answerWatched(
  handler: Handler,
  lane: string,
  ...[request, env, context]: Parameters<Handler>
): Promise<Response> {
  const writes = new Writes();
  current.set(lane, writes);
  const behind: Promise<unknown>[] = [];
  const watchedContext = new Proxy(context, {
    get(target, name) {
      if (name === "waitUntil") {
        return (promise: Promise<unknown>) => {
          behind.push(promise);
          target.waitUntil(promise);
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const watchedEnv = watchEnv(env, "", () => writes);
  const response = await handler(request, watchedEnv, watchedContext);
  if (response.status >= 400) await Promise.allSettled(behind);
  if (current.get(lane) === writes) current.delete(lane);
  if (response.status !== 101 && writes.length > 0) {
    // Types of events are the client's, in any script.
    response.headers.set(WRITTEN, encodeURIComponent(JSON.stringify(writes.counts()).toWellFormed()));
  }
  return response;
}

/** A Worker whose writes are told, and what the fuzz asks beside: its routes, and what went on while nobody asked. */
export function watched(handler: Handler): ExportedHandler<Env> {
  return {
    scheduled: baton.scheduled,
    async fetch(request, env, context) {
      const { pathname } = URL.canParse(request.url) ? new URL(request.url) : { pathname: "" };
      if (pathname === "/fuzz/routes") {
        return Response.json(ROUTES.map(({ method, path, door, needs }) => ({ method, path, door, needs })));
      }
      if (pathname === "/fuzz/background") {
        const written = Object.fromEntries([...idle].map(([name, writes]) => [name, writes.counts()]));
        const told = { written, faults };
        idle = new Map();
        faults = [];
        return Response.json(told);
      }
      const lane = request.headers.get(LANE);
      return lane === null
        ? handler(request, env, context)
        : answerWatched(handler, lane, request, env, context);
    },
  };
}

export default watched(baton.fetch);
