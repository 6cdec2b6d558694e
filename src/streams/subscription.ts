import { persistently, RETRY_DELAYS_MS } from "./retry.ts";
import { Waiter } from "./waiter.ts";

/** An object that can be followed over a WebSocket: a run's, or a feed's. */
export interface Followed {
  fetch(url: string, init: RequestInit): Promise<Response>;
}

/** An object that says nothing for so long is looked at again. */
const MAX_GREETING_MS = 60_000;

/**
 * A socket to an object, which is opened anew when it breaks: objects restart, and are replaced by a new release. What
 * was told meanwhile is lost with it; whoever follows looks into the log then.
 */
export class Subscription {
  readonly #followed: () => Followed;
  readonly #onMessage: (text: string) => void;
  readonly #news = new Waiter();
  #socket: WebSocket | null = null;
  #isGreeted = false;
  /** `gone`: there is no such object any more. `lost`: it cannot be reached. */
  #state: "open" | "gone" | "lost" | "closed" = "open";

  private constructor(followed: () => Followed, onMessage: (text: string) => void) {
    this.#followed = followed;
    this.#onMessage = onMessage;
  }

  /**
   * Follows an object, to which `followed` gives a new way for each try: an old one may lead nowhere after a failure.
   * Resolves when the object has said its first word, which is where it is. Null when there is nothing to follow.
   * @throws when the object cannot be reached.
   */
  static async open(
    followed: () => Followed,
    onMessage: (text: string) => void,
  ): Promise<Subscription | null> {
    const subscription = new Subscription(followed, onMessage);
    // A reader that is answered with a failure may give up for good, as EventSource does.
    const isThere = await persistently(
      () => subscription.#connect(),
      () => true,
    );
    if (!isThere) return null;
    while (!subscription.#isGreeted) {
      if (subscription.state !== "open") throw new Error(`the object is ${subscription.state}`);
      await subscription.wait(MAX_GREETING_MS);
    }
    return subscription;
  }

  get state(): "open" | "gone" | "lost" | "closed" {
    return this.#state;
  }

  /** Resolves with true when there was a message, or the state changed; with false after that time without either. */
  wait(ms: number): Promise<boolean> {
    return this.#news.wait(ms);
  }

  close(): void {
    this.#state = "closed";
    this.#socket?.close(1000);
    this.#socket = null;
    this.#news.signal();
    this.#news.dispose();
  }

  /** False when there is no such object. */
  async #connect(): Promise<boolean> {
    const response = await this.#followed().fetch("https://object/follow", {
      headers: { upgrade: "websocket" },
    });
    const socket = response.webSocket;
    if (socket === null) {
      if (response.status === 404) return false;
      throw new Error(`following was answered with ${response.status}`);
    }
    socket.accept();
    if (this.#state === "closed") {
      socket.close(1000);
      return true;
    }
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      if (this.#socket !== socket || typeof data !== "string") return;
      this.#onMessage(data);
      this.#isGreeted = true;
      this.#news.signal();
    });
    const onEnd = (): void => {
      if (this.#socket !== socket) return;
      this.#socket = null;
      void this.#reconnect();
    };
    socket.addEventListener("close", onEnd);
    socket.addEventListener("error", onEnd);
    return true;
  }

  async #reconnect(): Promise<void> {
    for (const delayMs of RETRY_DELAYS_MS) {
      if (delayMs > 0) await scheduler.wait(delayMs);
      if (this.#state !== "open") return;
      try {
        if (await this.#connect()) return;
        this.#state = "gone";
        this.#news.signal();
        return;
      } catch {
        // An object that is just restarting: the next try may find it.
      }
    }
    this.#state = "lost";
    this.#news.signal();
  }
}
