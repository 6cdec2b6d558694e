import { once } from "node:events";
import { createServer } from "node:net";
import type { Rng } from "../drill/rng.ts";

/**
 * A port that nobody listens on, below those that connections are given. While the server is away nobody else takes its
 * port then, and nobody who knocks at it is connected with himself.
 *
 * @throws Error when none is found
 */
export async function freePort(rng: Rng): Promise<number> {
  for (let attempt = 0; attempt < 50; attempt += 1) {
    const port = rng.between(20_000, 32_000);
    if (await isFree(port)) return port;
  }
  throw new Error("no free port between 20000 and 32000");
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
