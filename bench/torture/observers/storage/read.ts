import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import type { Alarm, Stored, StoredObject, StoredRun, StoredSubscription } from "./stored.ts";

/** How workerd keeps an object's own alarm in its file: nanoseconds, under this key of table `_cf_METADATA`. */
const ALARM_KEY = 1;
const NS_PER_MS = 1_000_000;

/**
 * Reads all that a closed server has left below `<stateDir>/storage`, as Miniflare lays it out: a file per object below
 * `do/<Worker>-<class>/`, with the scheduler's file beside them, and D1 and R2 the same way.
 *
 * @returns null where this Node has no SQLite.
 * @throws Error when the files are not as expected.
 */
export async function readStorage(stateDir: string): Promise<Stored | null> {
  // Not imported at the top: all other observers work without it.
  const sqlite = await import("node:sqlite").catch(() => null);
  if (sqlite === null) return null;
  const storage = join(stateDir, "storage");
  const integrity = new Map<string, string>();
  const open = <T>(file: string, read: (db: DatabaseSync) => T): T => {
    const db = new sqlite.DatabaseSync(join(storage, file), { readOnly: true });
    try {
      integrity.set(file, String(db.prepare("PRAGMA integrity_check").get()?.integrity_check));
      return read(db);
    } finally {
      db.close();
    }
  };
  const all = <T>(db: DatabaseSync, query: string): T[] => db.prepare(query).all() as T[];

  const objectsOf = <T>(folder: string, read: (db: DatabaseSync, alarm: Alarm) => T | null): T[] => {
    if (!existsSync(join(storage, folder))) return [];
    const files = readdirSync(join(storage, folder)).filter((name) => name.endsWith(".sqlite"));
    const scheduled = files.includes("metadata.sqlite")
      ? open(`${folder}/metadata.sqlite`, (db) =>
          all<{ id: string; ms: number }>(
            db,
            `SELECT actor_id AS id, scheduled_time / ${NS_PER_MS} AS ms FROM _cf_ALARM`,
          ),
        )
      : [];
    return files
      .filter((name) => name !== "metadata.sqlite")
      .flatMap((name) => {
        const scheduledMs = scheduled.find(({ id }) => id === basename(name, ".sqlite"))?.ms ?? null;
        const one = open(`${folder}/${name}`, (db) => read(db, { alarmMs: alarmOf(db), scheduledMs }));
        return one === null ? [] : [one];
      });
  };

  const alarmOf = (db: DatabaseSync): number | null => {
    if (!hasTable(db, "_cf_METADATA")) return null;
    const [row] = all<{ ms: number | null }>(
      db,
      `SELECT value / ${NS_PER_MS} AS ms FROM _cf_METADATA WHERE key = ${ALARM_KEY}`,
    );
    return row?.ms ?? null;
  };

  const folder = (kind: string): string => {
    const names = readdirSync(join(storage, "do")).filter((name) => name.endsWith(`-${kind}`));
    if (names.length !== 1) throw new Error(`${names.length} folders of ${kind} in ${storage}/do`);
    return `do/${names[0]}`;
  };

  const runs = objectsOf<StoredRun>(folder("RunObject"), (db, alarm) => {
    if (!hasTable(db, "run")) return null;
    const [run] = all<StoredRun["run"]>(db, "SELECT head, head_seq, task_counts, initial, log_hash FROM run");
    if (run === undefined) return null;
    const parts = all<{ text: string }>(db, "SELECT text FROM head_parts ORDER BY part");
    const sealed = all(db, "SELECT upto_seq FROM segments LIMIT 1");
    const genesis = all(db, "SELECT part FROM genesis_parts LIMIT 1");
    if (sealed.length + genesis.length > 0)
      throw new Error("a run that was sealed or forked is not for this check");
    return {
      ...alarm,
      run: { ...run, head: [run.head, ...parts.map(({ text }) => text)].join("") },
      commits: all(db, "SELECT seq, prev_hash, command_id, receipt, event, patch FROM commits ORDER BY seq"),
      tasks: all(db, "SELECT * FROM tasks ORDER BY pos"),
      edges: all(db, "SELECT dependency, dependent FROM task_edges"),
      notes: all(db, "SELECT list, doc FROM notes ORDER BY pos"),
      artifacts: all(db, "SELECT doc FROM artifacts ORDER BY pos"),
      files: all(db, "SELECT path, doc FROM files"),
      file_versions: all(db, "SELECT path, version, doc FROM file_versions"),
      effects: all(db, "SELECT kind, seq FROM effects"),
      checkpoints: all(db, "SELECT seq, lines, object_key FROM checkpoints"),
    };
  });

  const subscriptions = objectsOf<StoredSubscription>(folder("SubscriptionObject"), (db, alarm) => {
    if (!hasTable(db, "subscription")) return null;
    const [row] = all<Pick<StoredSubscription, "name" | "paused_until_ms">>(
      db,
      "SELECT name, paused_until_ms FROM subscription",
    );
    return row === undefined
      ? null
      : { ...alarm, ...row, lines: all(db, "SELECT line_id, due_at_ms FROM lines") };
  });
  // Feeds are read for their files' sake alone: they have no alarms.
  objectsOf(folder("FeedObject"), () => null);

  const [directory] = objectsOf("d1/miniflare-D1DatabaseObject", (db) => ({
    runs: all<Stored["directory"]["runs"][number]>(
      db,
      "SELECT tenant, run_id, last_event_seq, lease_due_at_ms FROM runs",
    ),
    subscriptions: all<Stored["directory"]["subscriptions"][number]>(
      db,
      "SELECT tenant, subscription_id, status, created_at_ms FROM subscriptions",
    ),
    blobs: all<Stored["directory"]["blobs"][number]>(db, "SELECT tenant, sha256, key, bytes FROM blobs"),
    blob_holders: all<Stored["directory"]["blob_holders"][number]>(
      db,
      "SELECT tenant, holder, sha256 FROM blob_holders",
    ),
  }));
  if (directory === undefined) throw new Error(`no directory in ${storage}/d1`);
  const bucket = objectsOf("r2/miniflare-R2BucketObject", (db) =>
    all<{ key: string; size: number; blob_id: string }>(db, "SELECT key, size, blob_id FROM _mf_objects"),
  )
    .flat()
    .map((object) => bucketObject(storage, object));
  return { runs, subscriptions, directory, bucket, integrity };
}

function bucketObject(
  storage: string,
  { key, size, blob_id }: { key: string; size: number; blob_id: string },
): StoredObject {
  const file = readdirSync(join(storage, "r2"))
    .map((bucket) => join(storage, "r2", bucket, "blobs", blob_id))
    .find((path) => existsSync(path));
  const bytes = file === undefined ? undefined : readFileSync(file);
  const sha256 = bytes && createHash("sha256").update(bytes).digest("hex");
  return { key, size, fileBytes: bytes?.length, sha256 };
}

function hasTable(db: DatabaseSync, name: string): boolean {
  return db.prepare("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?").get(name) !== undefined;
}
