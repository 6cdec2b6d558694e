import { DurableObject } from "cloudflare:workers";

/**
 * The platform with nothing on it: what Baton is measured against. Each path does one thing more than the one before.
 * All take the request that Baton is sent, body and headers alike.
 */
export class RawObject extends DurableObject {
  readonly #sql: SqlStorage;

  constructor(ctx: DurableObjectState, env: unknown) {
    super(ctx, env as never);
    this.#sql = ctx.storage.sql;
    this.#sql.exec("CREATE TABLE IF NOT EXISTS log (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)");
  }

  echo(body: string): number {
    return body.length;
  }

  insert(body: string): number {
    return this.#sql.exec<{ seq: number }>("INSERT INTO log (body) VALUES (?) RETURNING seq", body).one().seq;
  }
}

export default {
  async fetch(request: Request, env: { RAW: DurableObjectNamespace<RawObject> }): Promise<Response> {
    const body = await request.text();
    switch (new URL(request.url).pathname) {
      case "/worker":
        return Response.json({ length: body.length });
      case "/echo":
        return Response.json({ length: await env.RAW.getByName("one").echo(body) });
      case "/insert":
        return Response.json({ seq: await env.RAW.getByName("one").insert(body) });
      default:
        return new Response("not found", { status: 404 });
    }
  },
} satisfies ExportedHandler<{ RAW: DurableObjectNamespace<RawObject> }>;
