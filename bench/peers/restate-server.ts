import { createRequire } from "node:module";
import { join } from "node:path";
import type { Children } from "./children.ts";
import { notInstalled } from "./installed.ts";
import { freePort, host, untilReady } from "./network.ts";
import type { Job } from "./peer.ts";

/** A Restate server made for one run, with the queue's service registered. */
export interface RestateServer {
  ingressPort: number;
  version: string;
  /** How often the server has synced its log so far. */
  countLogSyncs(): Promise<number>;
  /** Runs SQL over what the server has stored. */
  query<Row>(sql: string): Promise<Row[]>;
}

/**
 * Serves one Restate node with the default settings and the queue's service beside it, each in a process of its own.
 *
 * @throws Skipped when there is no server binary for this platform.
 */
export async function startRestate(job: Job, children: Children): Promise<RestateServer> {
  const program = serverProgram();
  const [ingressPort, adminPort, nodePort] = [await freePort(), await freePort(), await freePort()];
  children.start(program, ["--base-dir", join(job.dataDir, "restate"), "--node-name", "peer", "--no-logo"], {
    cwd: job.dataDir,
    env: {
      RESTATE_LISTEN_MODE: "tcp",
      RESTATE_BIND_ADDRESS: `${host}:${nodePort}`,
      RESTATE_INGRESS__BIND_ADDRESS: `${host}:${ingressPort}`,
      RESTATE_ADMIN__BIND_ADDRESS: `${host}:${adminPort}`,
      RESTATE_DISABLE_TELEMETRY: "true",
      RESTATE_LOG_FILTER: "warn",
      RESTATE_LOG_DISABLE_ANSI_CODES: "true",
    },
  });
  const address = await children.startModule(join(import.meta.dirname, "restate-service.ts"), {
    // Where this process was started: its loader of TypeScript is found from there.
    cwd: process.cwd(),
    env: { RESTATE_LOGGING: "ERROR", NODE_ENV: "production" },
  });
  const admin = `http://${host}:${adminPort}`;
  const { port } = address as { port: number };
  await untilReady(() => post(`${admin}/deployments`, { uri: `http://${host}:${port}` }));
  const { version } = (await (await fetch(`${admin}/version`)).json()) as { version: string };
  return {
    ingressPort,
    version: `restate-server ${version}`,
    countLogSyncs: async () => {
      const metrics = await (await fetch(`http://${host}:${nodePort}/metrics`)).text();
      return Number(/^restate_rocksdb_wal_synced_total\{.*db="log-server".*\} (\d+)$/m.exec(metrics)?.[1]);
    },
    query: async <Row>(sql: string) => {
      const { rows } = (await post(`${admin}/query`, { query: sql })) as { rows: Row[] };
      return rows;
    },
  };
}

function serverProgram(): string {
  const name = `@restatedev/restate-server-${process.platform}-${process.arch}`;
  try {
    return createRequire(import.meta.url).resolve(`${name}/bin/restate-server`);
  } catch {
    throw notInstalled(name);
  }
}

async function post(url: string, body: unknown): Promise<unknown> {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return response.json();
}
