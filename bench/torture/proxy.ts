import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { Transform, type TransformCallback } from "node:stream";
import { createRng, type Rng } from "../drill/rng.ts";
import { drawMishap, type Mishap, type Way } from "./mishaps.ts";

/** A TCP proxy on loopback that treats connections as a bad network does. */
export interface BadNetwork {
  /** Stands for the server's URL, without a slash at the end. */
  readonly url: string;
  readonly counts: Readonly<NetworkCounts>;
  /** Ends every connection and gives the port free. */
  close(): Promise<void>;
}

export interface NetworkCounts {
  connections: number;
  /** Connections that found no server. */
  refused: number;
  cut: number;
  swallowed: number;
  /** Chunks that were held up. */
  delayed: number;
}

/**
 * Starts the proxy. It knows bytes only: a cut may fall into a head, a body or a character, and the other side has received
 * exactly the bytes before it.
 *
 * @param target URL of a server that speaks plain HTTP; it need not be there all the time
 * @param draw what befalls the next connection
 */
export async function startBadNetwork(
  target: string,
  seed: number,
  draw: (rng: Rng) => Mishap = drawMishap,
): Promise<BadNetwork> {
  const { hostname, port } = new URL(target);
  const open = new Set<Socket>();
  const counts: NetworkCounts = { connections: 0, refused: 0, cut: 0, swallowed: 0, delayed: 0 };

  const track = (socket: Socket): Socket => {
    open.add(socket);
    return socket.setNoDelay(true).on("close", () => open.delete(socket));
  };

  const listener = createServer((client) => {
    // Streams of their own: how much goes over one connection does not change what befalls the next.
    const rng = createRng(seed, counts.connections);
    counts.connections += 1;
    const mishap = draw(rng);
    track(client);
    const server = track(connect({ host: hostname, port: Number(port || 80) }));
    const end = (): void => {
      client.destroy();
      server.destroy();
    };
    const count = (what: "cut" | "swallowed" | "delayed"): void => {
      counts[what] += 1;
    };
    const join = (from: Socket, to: Socket, way: Way): void => {
      const leg = new Leg(mishap, way, rng, { count, end });
      from.pipe(leg).pipe(to);
      // Both sides end together, once what had arrived is on its way.
      leg.once("end", () => to.once("finish", end));
    };
    server.on("error", ({ code }: NodeJS.ErrnoException) => {
      if (code === "ECONNREFUSED") counts.refused += 1;
      end();
    });
    client.on("error", end);
    client.on("close", () => server.destroy());
    join(client, server, "up");
    join(server, client, "down");
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");

  return {
    url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    counts,
    close: async () => {
      const closed = once(listener, "close");
      listener.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}

interface Surroundings {
  count(what: "cut" | "swallowed" | "delayed"): void;
  /** Ends both sides at once. */
  end(): void;
}

/** One way of one connection. */
class Leg extends Transform {
  readonly #mishap: Mishap;
  readonly #rng: Rng;
  readonly #around: Surroundings;
  /** Until the mishap; Infinity when this way is spared. */
  #bytesLeft: number;
  #isSwallowing = false;

  constructor(mishap: Mishap, way: Way, rng: Rng, around: Surroundings) {
    super();
    this.#mishap = mishap;
    this.#rng = rng;
    this.#around = around;
    const { end } = mishap;
    const isHit = end !== undefined && (end.kind === "cut" ? end.way === way : way === "down");
    this.#bytesLeft = isHit ? end.afterBytes : Number.POSITIVE_INFINITY;
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    const { delayedShare, delayMs } = this.#mishap;
    if (this.#rng.chance(delayedShare)) {
      this.#around.count("delayed");
      setTimeout(() => this.#pass(chunk, done), this.#rng.between(delayMs.min, delayMs.max));
    } else {
      this.#pass(chunk, done);
    }
  }

  #pass(chunk: Buffer, done: TransformCallback): void {
    if (this.#isSwallowing) {
      done();
    } else if (chunk.length < this.#bytesLeft) {
      this.#bytesLeft -= chunk.length;
      done(null, chunk);
    } else {
      this.push(chunk.subarray(0, this.#bytesLeft));
      this.#strike(done);
    }
  }

  /** What ends the connection has come. */
  #strike(done: TransformCallback): void {
    const { end } = this.#mishap;
    if (end?.kind === "swallow") {
      this.#around.count("swallowed");
      this.#isSwallowing = true;
      setTimeout(() => this.#around.end(), end.closeAfterMs);
      done();
      return;
    }
    this.#around.count("cut");
    // `done` is not called: no chunk comes after this one.
    this.push(null);
  }
}
