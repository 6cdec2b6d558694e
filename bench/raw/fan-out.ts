import { DurableObject } from "cloudflare:workers";

const ready = frame("ready");

/**
 * The platform's fan-out with nothing on it: publishing is one insert, then a send to whoever watches. There are the
 * two ways to be watched that the platform has.
 */
export class FanOutObject extends DurableObject {
  readonly #sql: SqlStorage;
  readonly #responses = new Set<ReadableStreamDefaultController<Uint8Array>>();

  constructor(ctx: DurableObjectState, env: unknown) {
    super(ctx, env as never);
    this.#sql = ctx.storage.sql;
    this.#sql.exec("CREATE TABLE IF NOT EXISTS log (seq INTEGER PRIMARY KEY, body TEXT NOT NULL)");
  }

  /** Hibernating: a socket per watcher, each held by the platform. Awake: a response that the object writes itself. */
  override fetch(request: Request): Response {
    return request.headers.get("upgrade") === "websocket" ? this.#hibernating() : this.#awake();
  }

  publish(body: string): number {
    const { seq } = this.#sql
      .exec<{ seq: number }>("INSERT INTO log (body) VALUES (?) RETURNING seq", body)
      .one();
    const bytes = frame(body);
    for (const socket of this.ctx.getWebSockets()) socket.send(bytes);
    for (const response of this.#responses) response.enqueue(bytes);
    return seq;
  }

  #hibernating(): Response {
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server);
    server.send(ready);
    return new Response(null, { status: 101, webSocket: client });
  }

  #awake(): Response {
    let response: ReadableStreamDefaultController<Uint8Array>;
    const stream = new ReadableStream<Uint8Array>({
      start: (controller) => {
        response = controller;
        response.enqueue(ready);
        this.#responses.add(response);
      },
      cancel: () => {
        this.#responses.delete(response);
      },
    });
    return new Response(stream, { headers: { "content-type": "text/event-stream" } });
  }
}

/** Holds a watcher's response in the Worker, and passes on to it what the object sends to its socket. */
export async function relay(object: DurableObjectStub<FanOutObject>): Promise<Response> {
  const { webSocket } = await object.fetch("https://object/", { headers: { upgrade: "websocket" } });
  if (webSocket === null) throw new Error("the object gave no socket");
  const { readable, writable } = new IdentityTransformStream();
  const writer = writable.getWriter();
  webSocket.binaryType = "arraybuffer";
  webSocket.addEventListener("message", ({ data }) => {
    writer.write(data as ArrayBuffer).catch(() => webSocket.close());
  });
  webSocket.accept();
  return new Response(readable, { headers: { "content-type": "text/event-stream" } });
}

function frame(data: string): Uint8Array {
  return new TextEncoder().encode(`data: ${data}\n\n`);
}
