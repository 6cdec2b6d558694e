import type { FeedClient } from "../feed/feed-client.ts";
import { persistently } from "./retry.ts";

/** Held while a stream is open. */
export interface Seat {
  release(): void;
}

/** A feed that restarted has no seats: their holders take them again, spread over this time. */
const MAX_RETAKE_MS = 5_000;

/**
 * Takes one of the tenant's seats for streams, from a tenant's feed, to which `feed` gives a new way for each try.
 * @returns how many are taken when there is none left.
 * @throws when the feed cannot be reached.
 */
export async function takeSeat(feed: () => Pick<FeedClient, "fetch">, limit: number): Promise<Seat | number> {
  const socket = await persistently(
    () => ask(feed, limit),
    () => true,
  );
  return typeof socket === "number" ? socket : new HeldSeat(feed, socket);
}

async function ask(feed: () => Pick<FeedClient, "fetch">, limit: number): Promise<WebSocket | number> {
  const url = `https://object/seat?limit=${limit}`;
  const response = await feed().fetch(new Request(url, { headers: { upgrade: "websocket" } }));
  if (response.status === 429) return Number(await response.text());
  const socket = response.webSocket;
  if (socket === null) throw new Error(`a seat was answered with ${response.status}`);
  socket.accept();
  return socket;
}

/** Whoever has a seat keeps it: taken again after a restart, it is not refused. */
class HeldSeat implements Seat {
  readonly #feed: () => Pick<FeedClient, "fetch">;
  #socket: WebSocket | null = null;
  #isReleased = false;

  constructor(feed: () => Pick<FeedClient, "fetch">, socket: WebSocket) {
    this.#feed = feed;
    this.#hold(socket);
  }

  release(): void {
    this.#isReleased = true;
    this.#socket?.close(1000);
    this.#socket = null;
  }

  #hold(socket: WebSocket): void {
    if (this.#isReleased) {
      socket.close(1000);
      return;
    }
    this.#socket = socket;
    const onEnd = (): void => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      void this.#takeAgain().catch(() => undefined);
    };
    socket.addEventListener("close", onEnd);
    socket.addEventListener("error", onEnd);
  }

  async #takeAgain(): Promise<void> {
    await scheduler.wait(Math.random() * MAX_RETAKE_MS);
    if (this.#isReleased) return;
    const socket = await persistently(
      () => ask(this.#feed, Number.MAX_SAFE_INTEGER),
      () => !this.#isReleased,
    );
    if (typeof socket !== "number") this.#hold(socket);
  }
}
