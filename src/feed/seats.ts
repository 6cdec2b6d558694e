/** A socket of a seat; those of followers have another tag. */
const SEAT = "seat";

/**
 * The streams that a tenant's tokens have open, anywhere: each holds a socket to the tenant's feed. So a seat is free again
 * when its stream ends, or whoever holds it is gone, and nothing has to be written, counted back or cleaned up. The sockets
 * hibernate with the feed.
 */
export class Seats {
  readonly #ctx: DurableObjectState;

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
  }

  count(): number {
    return this.#ctx.getWebSockets(SEAT).length;
  }

  /** Gives a seat if fewer than `limit` are taken; else 429 with the count as its body. */
  take(limit: number): Response {
    const count = this.count();
    if (count >= limit) return new Response(String(count), { status: 429 });
    const { 0: client, 1: socket } = new WebSocketPair();
    this.#ctx.acceptWebSocket(socket, [SEAT]);
    return new Response(null, { status: 101, webSocket: client });
  }
}
