import { execFileSync } from "node:child_process";
import { chownSync, readdirSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import type { Account, Children } from "./children.ts";
import { folderOnPath, hasPrograms } from "./installed.ts";
import { freePort, host, untilReady } from "./network.ts";
import { type Job, Skipped } from "./peer.ts";

/** A PostgreSQL cluster made for one run. */
export interface PostgresServer {
  connectionString: string;
  version: string;
  durability: string;
}

const programs = ["initdb", "postgres"];
const durabilitySettings = ["fsync", "synchronous_commit", "full_page_writes", "wal_sync_method"];
const debianFolder = "/usr/lib/postgresql";

/**
 * Makes a cluster with the default settings in the job's folder and serves it.
 *
 * @throws Skipped when PostgreSQL is not installed.
 */
export async function startPostgres(job: Job, children: Children): Promise<PostgresServer> {
  const folder = programFolder();
  const account = serverAccount();
  const data = join(job.dataDir, "postgres");
  if (account !== undefined) chownSync(job.dataDir, account.uid, account.gid);
  const options = { cwd: job.dataDir, env: { LC_ALL: "C" }, account };
  const identity = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"];
  await children.run(join(folder, "initdb"), [`--pgdata=${data}`, ...identity], options);

  const port = await freePort();
  const settings = {
    listen_addresses: host,
    port,
    unix_socket_directories: "",
    // Each agent may hold two connections, and pg-boss and Graphile Worker need a few for themselves.
    max_connections: Math.max(100, 2 * job.agents + 20),
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  // SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for clients to leave.
  children.start(join(folder, "postgres"), ["-D", data, ...flags], { ...options, stopSignal: "SIGINT" });

  const connectionString = `postgres://postgres@${host}:${port}/postgres`;
  const client = await untilReady(() => connect(connectionString));
  try {
    const { rows } = await client.query<{ name: string; value: string }>(
      "select name, current_setting(name) as value from unnest($1::text[]) as name",
      [["server_version", ...durabilitySettings]],
    );
    const [version, ...durability] = rows;
    return {
      connectionString,
      version: `PostgreSQL ${version?.value}`,
      durability: durability.map(({ name, value }) => `${name}=${value}`).join(", "),
    };
  } finally {
    await client.end();
  }
}

/** For the errors of idle connections: one that is still being closed hears when the server ends after the job. */
export function reportIdleError(error: Error): void {
  const isServersEnd = error instanceof pg.DatabaseError && error.code === "57P01";
  if (!isServersEnd) console.error(error);
}

function programFolder(): string {
  const onPath = folderOnPath(programs);
  if (onPath !== undefined) return onPath;
  const folder = debianFolders().find((candidate) => hasPrograms(candidate, programs));
  if (folder === undefined) {
    throw new Skipped(
      `no PostgreSQL (initdb, postgres) on PATH or in ${debianFolder}: apt-get install postgresql`,
    );
  }
  return folder;
}

/** Debian keeps the server's programs off PATH, in a folder for each version; newest first. */
function debianFolders(): string[] {
  try {
    const versions = readdirSync(debianFolder).sort((a, b) => Number(b) - Number(a));
    return versions.map((version) => join(debianFolder, version, "bin"));
  } catch {
    return [];
  }
}

/** PostgreSQL refuses to run as root: then it runs as the account its package makes. */
function serverAccount(): Account | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const id = (flag: string): number => Number(execFileSync("id", [flag, "postgres"], { stdio: "pipe" }));
  try {
    return { uid: id("-u"), gid: id("-g") };
  } catch {
    throw new Skipped(
      "PostgreSQL does not run as root and there is no account postgres: apt-get install postgresql",
    );
  }
}

async function connect(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  return client;
}
