import { Client } from "undici";
import type { Target } from "./measure.ts";

const newline = "\n".charCodeAt(0);
const nothing = Buffer.alloc(0);

/**
 * Opens that many streams of server-sent events, each on a connection of its own, runs `use` once all of them are
 * ready, and closes them. A stream is ready with the first event it sends.
 *
 * @param options.received is given what a watcher receives, in whole lines.
 * @throws Error when a stream is refused, or ends before `use` does.
 */
export async function withWatchers<T>(
  target: Target,
  options: { path: string; watchers: number; received(watcher: number, lines: Buffer): void },
  use: () => Promise<T>,
): Promise<T> {
  const { path, watchers, received } = options;
  const clients = Array.from({ length: watchers }, () => new Client(target.url));
  const streams = clients.map((client, watcher) =>
    watch(client, { path, token: target.token, received: (lines) => received(watcher, lines) }),
  );
  try {
    const used = Promise.all(streams.map(({ ready }) => ready)).then(use);
    return await Promise.race([used, ...streams.map(({ ended }) => ended)]);
  } finally {
    await Promise.all(clients.map((client) => client.destroy()));
  }
}

/** Opens one stream. `ready` resolves with its first event; `ended` rejects when it does not go on. */
function watch(
  client: Client,
  { path, token, received }: { path: string; token: string; received(lines: Buffer): void },
): { ready: Promise<void>; ended: Promise<never> } {
  const ready = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<never>();
  let rest: Buffer = nothing;
  client.dispatch(
    { method: "GET", path, headers: { authorization: `Bearer ${token}` } },
    {
      onRequestStart: () => undefined,
      onResponseStart: (_controller, status) => {
        if (status !== 200) ended.reject(new Error(`${path} was answered ${status}`));
      },
      onResponseData: (_controller, chunk) => {
        const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
        const end = bytes.lastIndexOf(newline) + 1;
        rest = end === bytes.length ? nothing : bytes.subarray(end);
        const lines = bytes.subarray(0, end);
        // Lines that begin with a colon only keep the connection alive.
        if (lines.includes("data:")) ready.resolve();
        received(lines);
      },
      onResponseEnd: () => ended.reject(new Error(`${path} ended while it was watched`)),
      onResponseError: (_controller, error) => ended.reject(error),
    },
  );
  return { ready: ready.promise, ended: ended.promise };
}
