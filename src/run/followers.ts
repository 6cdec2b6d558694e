/** Marks the sockets of followers, among others that an object may have. */
const FOLLOWER = "follower";

/**
 * The sockets of those who follow an object's stream from outside. They outlive its sleep: the platform keeps them while
 * nothing happens, and evicts an object that has none but idle followers.
 *
 * F1 A follower is told everything that happens after it was accepted, once it is durable, in order.
 * F2 Nothing is kept per follower: where it is, what it missed and how fast it reads is its own affair.
 */
export class Followers {
  readonly #ctx: DurableObjectState;

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
  }

  count(): number {
    return this.#ctx.getWebSockets(FOLLOWER).length;
  }

  /** Takes a follower in. The socket is for greeting it; the response hands the other end to the caller. */
  accept(): { socket: WebSocket; response: Response } {
    const { 0: client, 1: socket } = new WebSocketPair();
    this.#ctx.acceptWebSocket(socket, [FOLLOWER]);
    return { socket, response: new Response(null, { status: 101, webSocket: client }) };
  }

  /** Closes all sockets: who comes back learns what has become of the object. */
  dismiss(): void {
    for (const socket of this.#ctx.getWebSockets(FOLLOWER)) socket.close(1001, "gone");
  }

  /** Tells all followers, if there are any. One that cannot be told is cut off: it comes back and reads what it missed. */
  tell(textOf: () => string): void {
    // With many followers even this list takes its time: it is asked for once.
    const sockets = this.#ctx.getWebSockets(FOLLOWER);
    if (sockets.length === 0) return;
    const text = textOf();
    for (const socket of sockets) {
      try {
        socket.send(text);
      } catch {
        socket.close(1011);
      }
    }
  }
}
