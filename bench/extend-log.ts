import { randomUUID } from "node:crypto";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { setImmediate as turn } from "node:timers/promises";
import type { RunHead } from "../src/domain/head.ts";
import type { EventRecord } from "../src/protocol/event.ts";
import type { RunHeader } from "../src/protocol/run.ts";
import { commitHash } from "../src/run/chain.ts";

/** Commits per transaction: a second's work at most, so that an interrupted bench ends soon. */
const chunk = 50_000;

/**
 * Lengthens a run's log without its server: writes appended events like its last one into the object's storage, and
 * brings the saved head along, as if the engine had saved it after the last of them.
 *
 * @param options.stateDir of a server that is not running.
 * @param options.lastSeq the seq of the last commit afterwards.
 * @throws Error when this Node has no SQLite, or the run is not stored as expected.
 */
export async function extendLog(options: {
  stateDir: string;
  runId: string;
  lastSeq: number;
  signal: AbortSignal;
}): Promise<void> {
  const db = await openStorage(options.stateDir, options.runId);
  try {
    // A crash of this machine would lose a bench's storage, which nobody keeps.
    db.exec("PRAGMA synchronous = OFF");
    const { event: template, hash } = lastCommit(db);
    const insert = db.prepare("INSERT INTO commits (seq, event, prev_hash) VALUES (?, ?, ?)");
    let prevHash = hash;
    for (let from = template.seq + 1; from <= options.lastSeq; from += chunk) {
      await turn();
      options.signal.throwIfAborted();
      db.exec("BEGIN");
      for (let seq = from; seq < from + chunk && seq <= options.lastSeq; seq += 1) {
        const event = JSON.stringify(eventLike(template, seq));
        insert.run(seq, event, prevHash);
        prevHash = commitHash({ prev_hash: prevHash, command_id: null, receipt: null, event, patch: null });
      }
      db.exec("COMMIT");
    }
    saveHead(db, eventLike(template, options.lastSeq), prevHash);
  } finally {
    db.close();
  }
}

/** A thousand events in a millisecond: none may lie in the future, where the run's clock would follow. */
function eventLike(template: EventRecord, seq: number): EventRecord {
  return {
    ...template,
    event_id: `evt-${randomUUID()}`,
    seq,
    ts_ms: template.ts_ms + Math.floor((seq - template.seq) / 1_000),
    revision: template.revision + seq - template.seq,
  };
}

/** The run's last commit, and its hash. */
function lastCommit(db: DatabaseSync): { event: EventRecord; hash: string } {
  const row = db
    .prepare("SELECT seq, event, receipt, patch, prev_hash FROM commits ORDER BY seq DESC LIMIT 1")
    .get();
  const text = String(row?.event);
  const event = JSON.parse(text) as EventRecord;
  if (row?.seq === event.seq && row.receipt === null && row.patch === null) {
    const prev_hash = String(row.prev_hash);
    const hash = commitHash({ prev_hash, command_id: null, receipt: null, event: text, patch: null });
    return { event, hash };
  }
  throw new Error("the run's last commit is not an event that was appended without a key");
}

/** The directory's row is left behind: the object brings it up to date when it next wakes, as always. */
function saveHead(db: DatabaseSync, { seq, revision, ts_ms }: EventRecord, logHash: string): void {
  const row = db.prepare("SELECT head, (SELECT count(*) FROM head_parts) AS parts FROM run").get();
  if (row?.parts !== 0) throw new Error("the run's head does not lie in one row");
  const head = JSON.parse(String(row.head)) as RunHead;
  const saved: RunHead = {
    ...head,
    run: { ...head.run, last_event_seq: seq, revision, updated_at_ms: ts_ms },
  };
  db.prepare("UPDATE run SET head = ?, head_seq = ?, log_hash = ?").run(JSON.stringify(saved), seq, logHash);
}

/** The database of the object that holds the run. */
async function openStorage(stateDir: string, runId: string): Promise<DatabaseSync> {
  // Not imported at the top: without it all other measures still run.
  const { DatabaseSync } = await import("node:sqlite").catch(() => {
    throw new Error("this measure needs node:sqlite, which Node has from 22.13 on");
  });
  const objects = join(stateDir, "storage", "do");
  for (const name of readdirSync(objects, { recursive: true, encoding: "utf8" })) {
    if (!name.endsWith(".sqlite")) continue;
    const db = new DatabaseSync(join(objects, name));
    if (storedRunId(db) === runId) return db;
    db.close();
  }
  throw new Error(`no object in ${objects} holds the run ${runId}`);
}

function storedRunId(db: DatabaseSync): string | null {
  const table = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name = 'run'").get();
  const row = table && db.prepare("SELECT initial FROM run").get();
  return row === undefined ? null : (JSON.parse(String(row.initial)) as RunHeader).run_id;
}
