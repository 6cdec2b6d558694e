import { createHash } from "node:crypto";
import { runHolder } from "../artifacts/keys.ts";
import { type ArtifactStore, artifactStore } from "../artifacts/store.ts";
import { type Archiving, askArchiving, finishArchiving, renewArchiving } from "../directory/departures.ts";
import type { Refusal } from "../domain/refusals.ts";
import { runNotFound } from "../domain/refusals.ts";
import type { Env } from "../env.ts";
import { runObjectName } from "../identity/tenant.ts";
import type { Tenant } from "../protocol/run.ts";
import type { Arrived } from "../run/arrival.ts";
import type { ExportStart } from "../run/export-start.ts";
import { runClient } from "../run/run-client.ts";
import type { Result } from "../run/run-object.ts";
import type { CreatedCommand } from "../run/storage/run-row.ts";
import type { ArchiveRef } from "../run/tombstone.ts";
import { artifactBlobs } from "./blobs.ts";
import { exportText, streamOf } from "./export.ts";
import { archiveHolder, archivePrefix, deletePrefix, prefixesOf } from "./run-keys.ts";

/** R2 takes a multipart upload in parts of one size, the last one aside; at least 5 MB. */
const PART_BYTES = 8 * 1024 * 1024;

/** Cron ends a move that was last heard of longer ago than this. */
export const STALE_MOVE_MS = 15 * 60_000;
/** Whoever moves a run says so this often. */
const RENEW_MS = 60_000;

/** Where a run lies in the archive. */
export interface Archived {
  archived_at_ms: number;
  revision: number;
  archive: ArchiveRef;
}

/** Nothing can be archived. */
export const archiveMissing: Refusal = {
  code: "ARTIFACT_STORE_MISSING",
  error: "archives lie in R2, and this deployment has no bucket",
};

/**
 * Moves a run out of its object into the archive: its export goes to R2, is read back and compared, and only then the object
 * is wiped down to a tombstone that says where the archive lies. The run stays in the list.
 *
 * R1 The run goes only if it is still what was exported. Until then it is in its object and nothing has happened.
 * R2 The contents it refers to are held for the archive before the run gives them up.
 */
export async function archiveRun(env: Env, tenant: string, runId: string): Promise<Result<Archived>> {
  const bucket = env.ARTIFACTS;
  const store = artifactStore(env, tenant);
  if (bucket === undefined || store === null) return { ok: false, refusal: archiveMissing };
  const run = runClient(env.RUNS, runObjectName(tenant, runId));
  const presence = await run.presence();
  if (presence.kind === "archived") {
    const { at_ms: archived_at_ms, revision, archive } = presence;
    return { ok: true, value: { archived_at_ms, revision, archive } };
  }
  const start = await run.startExport();
  if (!start.ok) return start;
  if (start.value.is_leased) return { ok: false, refusal: busy("a task is leased") };
  const move = await Move.begin(env.DIRECTORY, tenant, runId);
  if (move === null) return onTheMove;
  try {
    const archive = await writeArchive(env, bucket, store, { tenant, runId, start: start.value }, move);
    // Another may have taken the move over, and with it what was written for the archive.
    if (!(await move.renew())) return onTheMove;
    const left = await run.leaveForArchive({ archive, ...start.value });
    return left.ok ? { ok: true, value: { ...left.value, archive } } : left;
  } finally {
    await settleArchive(env, move);
  }
}

/** A run on its way into the archive or out of it, as whoever moves it holds on to it: only one at a time does. */
class Move {
  readonly #db: D1Database;
  #archiving: Archiving;

  private constructor(db: D1Database, archiving: Archiving) {
    this.#db = db;
    this.#archiving = archiving;
  }

  /** Null when the run is on its way already. */
  static async begin(db: D1Database, tenant: string, runId: string): Promise<Move | null> {
    const archiving = { tenant, run_id: runId, asked_at_ms: Date.now() };
    return (await askArchiving(db, archiving)) ? new Move(db, archiving) : null;
  }

  /** A move that was begun by someone who is not heard of any more. */
  static of(db: D1Database, archiving: Archiving): Move {
    return new Move(db, archiving);
  }

  get archiving(): Archiving {
    return this.#archiving;
  }

  /** Says that the move goes on. False when it is no longer this one's. */
  async renew(): Promise<boolean> {
    const nowMs = Math.max(Date.now(), this.#archiving.asked_at_ms + 1);
    if (!(await renewArchiving(this.#db, this.#archiving, nowMs))) return false;
    this.#archiving = { ...this.#archiving, asked_at_ms: nowMs };
    return true;
  }

  /** Pieces as they come; as long as they do the move goes on. @throws when it is no longer this one's. */
  async *during<T>(pieces: AsyncIterable<T>): AsyncGenerator<T> {
    for await (const piece of pieces) {
      const isDue = Date.now() > this.#archiving.asked_at_ms + RENEW_MS;
      if (isDue && !(await this.renew())) throw new Error("another has taken this move over");
      yield piece;
    }
  }
}

/** Writes the archive, makes sure of it, and holds what it refers to. */
async function writeArchive(
  env: Env,
  bucket: R2Bucket,
  store: ArtifactStore,
  { tenant, runId, start }: { tenant: string; runId: string; start: ExportStart },
  move: Move,
): Promise<ArchiveRef> {
  const run = runClient(env.RUNS, runObjectName(tenant, runId));
  const blobs = artifactBlobs(env, tenant, runId);
  const key = `${archivePrefix(tenant, runId)}${crypto.randomUUID()}.ndjson`;
  const written = await writeText(bucket, key, move.during(exportText(run, start, { blobs, inline: false })));
  const archive = { key, ...written };
  await verify(bucket, archive);
  const hashes: string[] = [];
  for await (const { sha256 } of blobs?.list() ?? []) hashes.push(sha256);
  const missing = await store.hold(archiveHolder(runId), hashes);
  if (missing.length > 0) throw new Error(`contents of the run are gone: ${missing.slice(0, 5).join(", ")}`);
  await store.confirm(archiveHolder(runId), null);
  return archive;
}

/**
 * Brings an archived run back into its object, proved like every arrival, and lets go of the archive. A run that is there
 * already is left as it is; the command that brought it is answered as it was.
 */
export async function restoreRun(
  env: Env,
  tenant: Tenant,
  key: string,
  runId: string,
  command: CreatedCommand | null = null,
): Promise<Result<Arrived>> {
  const bucket = env.ARTIFACTS;
  if (bucket === undefined) return { ok: false, refusal: archiveMissing };
  const run = runClient(env.RUNS, runObjectName(key, runId));
  const request = { tenant, run_id: runId, command, restores: true };
  const presence = await run.presence();
  if (presence.kind !== "archived") {
    if (presence.kind !== "run") return { ok: false, refusal: runNotFound };
    return run.arrive(streamOf(nothing()), request);
  }
  const move = await Move.begin(env.DIRECTORY, key, runId);
  if (move === null) return onTheMove;
  try {
    const object = await bucket.get(presence.archive.key);
    if (object === null) throw new Error(`the archive ${presence.archive.key} is gone`);
    const lines = streamOf(move.during(object.body));
    return await run.arrive(lines, request);
  } finally {
    await settleArchive(env, move);
  }
}

async function* nothing(): AsyncGenerator<string> {}

/** Ends a move that was cut off, for cron. */
export async function endStaleMove(env: Env, archiving: Archiving): Promise<void> {
  await settleArchive(env, Move.of(env.DIRECTORY, archiving));
}

/**
 * Ends a move: brings list, references and R2 to where the run's object says the run is. Safe to repeat; while a run moves
 * only whoever moves it may do this, so that nobody takes away what another is about to need.
 */
async function settleArchive(env: Env, move: Move): Promise<void> {
  const { tenant, run_id: runId } = move.archiving;
  const bucket = env.ARTIFACTS;
  const store = artifactStore(env, tenant);
  if (bucket === undefined || store === null) return;
  const isOwn = await move.renew();
  const presence = await runClient(env.RUNS, runObjectName(tenant, runId)).presence();
  // A deleted run is moved by nobody else, and its deletion may have passed by before the last of this was written.
  if (!isOwn && presence.kind !== "deleted") return;
  if (presence.kind === "archived") {
    await store.release(runHolder(runId));
    for (const prefix of prefixesOf(tenant, runId)) await deletePrefix(bucket, prefix, presence.archive.key);
    await finishArchiving(env.DIRECTORY, move.archiving, presence.at_ms);
    return;
  }
  await store.release(archiveHolder(runId));
  await deletePrefix(bucket, archivePrefix(tenant, runId));
  await finishArchiving(env.DIRECTORY, move.archiving, null);
}

const onTheMove: { ok: false; refusal: Refusal } = {
  ok: false,
  refusal: busy("it is on its way into the archive, or out of it"),
};

function busy(why: string): Refusal {
  return { code: "RUN_BUSY", error: `the run cannot be moved now: ${why}` };
}

/** Writes a text of any length to R2; short ones at once, long ones in parts. */
async function writeText(
  bucket: R2Bucket,
  key: string,
  pieces: AsyncIterable<string>,
): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash("sha256");
  let bytes = 0;
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  let upload: R2MultipartUpload | null = null;
  const parts: R2UploadedPart[] = [];
  try {
    for await (const piece of pieces) {
      const chunk = Buffer.from(piece);
      hash.update(chunk);
      bytes += chunk.length;
      pending.push(chunk);
      pendingBytes += chunk.length;
      while (pendingBytes >= PART_BYTES) {
        const joined: Buffer = Buffer.concat(pending);
        upload ??= await bucket.createMultipartUpload(key);
        parts.push(await upload.uploadPart(parts.length + 1, joined.subarray(0, PART_BYTES)));
        pending = [joined.subarray(PART_BYTES)];
        pendingBytes = joined.length - PART_BYTES;
      }
    }
    const rest = Buffer.concat(pending);
    if (upload === null) await bucket.put(key, rest);
    else {
      if (rest.length > 0) parts.push(await upload.uploadPart(parts.length + 1, rest));
      await upload.complete(parts);
    }
  } catch (error) {
    await upload?.abort().catch(() => undefined);
    throw error;
  }
  return { sha256: hash.digest("hex"), bytes };
}

/** @throws when what lies in R2 is not what was written. */
async function verify(bucket: R2Bucket, { key, sha256, bytes }: ArchiveRef): Promise<void> {
  const object = await bucket.get(key);
  const hash = createHash("sha256");
  let length = 0;
  for await (const chunk of object?.body ?? []) {
    hash.update(chunk);
    length += chunk.length;
  }
  if (length !== bytes || hash.digest("hex") !== sha256) throw new Error(`the archive ${key} is damaged`);
}
