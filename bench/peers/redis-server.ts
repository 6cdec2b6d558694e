import { join } from "node:path";
import { Redis } from "ioredis";
import type { Children } from "./children.ts";
import { folderOnPath } from "./installed.ts";
import { freePort, host, untilReady } from "./network.ts";
import { type Job, Skipped } from "./peer.ts";

/** A Redis server made for one run. */
export interface RedisServer {
  port: number;
  version: string;
  durability: string;
}

/**
 * Serves an empty Redis that syncs its append-only file before it acknowledges a write.
 *
 * @throws Skipped when Redis is not installed.
 */
export async function startRedis(job: Job, children: Children): Promise<RedisServer> {
  const folder = folderOnPath(["redis-server"]);
  if (folder === undefined) throw new Skipped("no redis-server on PATH: apt-get install redis-server");
  const port = await freePort();
  const settings = {
    bind: host,
    port: String(port),
    dir: job.dataDir,
    appendonly: "yes",
    appendfsync: "always",
    // No snapshots beside the append-only file.
    save: "",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
  children.start(join(folder, "redis-server"), flags, { cwd: job.dataDir });

  const client = await untilReady(() => connect(port));
  try {
    const names = ["appendonly", "appendfsync"] as const;
    const read = await Promise.all(names.map((name) => client.config("GET", name)));
    const durability = read.map((pair) => (pair as string[]).join("=")).join(", ");
    const version = /redis_version:(\S+)/.exec(await client.info("server"))?.[1];
    return { port, version: `Redis ${version}`, durability };
  } finally {
    client.disconnect();
  }
}

async function connect(port: number): Promise<Redis> {
  const client = new Redis({ host, port, lazyConnect: true, retryStrategy: null });
  // Without a listener a refused connection is printed as well as thrown.
  client.on("error", () => undefined);
  await client.connect();
  return client;
}
