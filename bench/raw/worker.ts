import { DurableObject } from "cloudflare:workers";
import { type FanOutObject, relay } from "./fan-out.ts";

export { FanOutObject } from "./fan-out.ts";

interface RawEnv {
  RAW: DurableObjectNamespace<RawObject>;
  FAN_OUT: DurableObjectNamespace<FanOutObject>;
}

/**
 * The platform with nothing on it: what Baton is measured against. Each path does one thing more than the one before.
 * All take the request that Baton is sent, body and headers alike.
 */
export class RawObject extends DurableObject<RawEnv> {
  readonly #sql: SqlStorage;

  constructor(ctx: DurableObjectState, env: RawEnv) {
    super(ctx, env);
    this.#sql = ctx.storage.sql;
    this.#sql.exec("CREATE TABLE IF NOT EXISTS log (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)");
  }

  echo(body: string): number {
    return body.length;
  }

  insert(body: string): number {
    return this.#sql.exec<{ seq: number }>("INSERT INTO log (body) VALUES (?) RETURNING seq", body).one().seq;
  }

  /** One insert here, then one more and the sends in the object that many like this one publish through. */
  async insertAndPublish(body: string, feed: string): Promise<number> {
    this.insert(body);
    return this.env.FAN_OUT.getByName(feed).publish(body);
  }
}

export default {
  async fetch(request: Request, env: RawEnv): Promise<Response> {
    const body = await request.text();
    switch (new URL(request.url).pathname) {
      case "/worker":
        return Response.json({ length: body.length });
      case "/echo":
        return Response.json({ length: await env.RAW.getByName("one").echo(body) });
      case "/insert":
        return Response.json({ seq: await env.RAW.getByName("one").insert(body) });
      default:
        return fanOut(request, body, env);
    }
  },
} satisfies ExportedHandler<RawEnv>;

/** Paths that name a feed, like `/feed/one/publish`; the one that publishes through a source names that too. */
async function fanOut(request: Request, body: string, env: RawEnv): Promise<Response> {
  const [, , feed = "", action, source = ""] = new URL(request.url).pathname.split("/");
  const object = env.FAN_OUT.getByName(feed);
  switch (action) {
    case "hibernating":
      return relay(object);
    case "awake":
      return object.fetch(request);
    case "publish":
      return Response.json({ seq: await object.publish(body) });
    case "source":
      return Response.json({
        seq: await env.RAW.getByName(`${feed}/${source}`).insertAndPublish(body, feed),
      });
    default:
      return new Response("not found", { status: 404 });
  }
}
