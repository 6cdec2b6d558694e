import { createServer } from "node:net";

/** Where every server listens. */
export const host = "127.0.0.1";

const readyWithinMs = 60_000;

/** A port that nothing listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, host, resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no TCP port could be had");
  return address.port;
}

/** Repeats an attempt until it succeeds. Throws what the last one threw when none has for a while. */
export async function untilReady<T>(attempt: () => Promise<T>): Promise<T> {
  const deadline = performance.now() + readyWithinMs;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
