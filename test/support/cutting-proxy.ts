import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { createRng } from "../../bench/drill/rng.ts";

/** A TCP proxy on loopback that cuts connections at exact bytes of what the server answers. */
export interface CuttingProxy {
  /** Stands for the server's URL, without a slash at the end. */
  readonly url: string;
  /** Connections accepted so far. */
  readonly connections: number;
  /** Connections cut so far. */
  readonly cuts: number;
  /** Ends every connection and gives the port free. */
  close(): Promise<void>;
}

/** How connections are cut. */
export interface Cuts {
  /** How many there are; connections after the last one are left alone. */
  count: number;
  /**
   * Asked once for each connection, when the server begins to answer on it: how many bytes reach the client before both
   * sides are cut, heads of answers included.
   */
  afterBytes(): number;
}

/** Cuts after random numbers of bytes (both bounds included). */
export function randomCuts(options: {
  seed: number;
  count: number;
  minBytes: number;
  maxBytes: number;
}): Cuts {
  const rng = createRng(options.seed, 0);
  return { count: options.count, afterBytes: () => rng.between(options.minBytes, options.maxBytes) };
}

/**
 * Starts a proxy in front of a server that speaks plain HTTP. It knows bytes only: a cut may fall into a head, a frame or
 * a character, and the client has received exactly the bytes before it.
 */
export async function startCuttingProxy(target: string, cuts: Cuts): Promise<CuttingProxy> {
  const { protocol, hostname, port } = new URL(target);
  if (protocol !== "http:") throw new Error(`the proxy needs a plain HTTP server, not ${target}`);
  const open = new Set<Socket>();
  const counts = { connections: 0, cuts: 0 };

  const track = (socket: Socket): Socket => {
    open.add(socket);
    // A connection may break at any time: that is the point. What matters is that it is over.
    return socket.on("error", () => undefined).on("close", () => open.delete(socket));
  };

  const listener = createServer((client) => {
    counts.connections++;
    track(client);
    const server = track(connect({ host: hostname, port: Number(port || 80) }));
    let bytesLeft: number | undefined;
    client.pipe(server);
    server.on("data", (bytes: Buffer) => {
      bytesLeft ??= cuts.afterBytes();
      if (bytes.length >= bytesLeft && counts.cuts < cuts.count) {
        counts.cuts++;
        server.destroy();
        client.end(bytes.subarray(0, bytesLeft), () => client.destroy());
        return;
      }
      bytesLeft -= bytes.length;
      if (!client.write(bytes)) server.pause();
    });
    client.on("drain", () => server.resume());
    client.on("close", () => server.destroy());
    server.on("close", () => client.end());
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");

  return {
    url: `http://127.0.0.1:${(listener.address() as AddressInfo).port}`,
    get connections() {
      return counts.connections;
    },
    get cuts() {
      return counts.cuts;
    },
    close: async () => {
      const closed = once(listener, "close");
      listener.close();
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
