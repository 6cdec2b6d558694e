import { createHash } from "node:crypto";
import { runHolder } from "../artifacts/keys.ts";
import { type ArtifactStore, artifactStore } from "../artifacts/store.ts";
import { askArchiving, finishArchiving } from "../directory/departures.ts";
import type { Refusal } from "../domain/refusals.ts";
import { runNotFound } from "../domain/refusals.ts";
import type { Env } from "../env.ts";
import { runObjectName } from "../identity/tenant.ts";
import type { Tenant } from "../protocol/run.ts";
import type { Arrived } from "../run/arrival.ts";
import type { ExportStart } from "../run/export-start.ts";
import { runClient } from "../run/run-client.ts";
import type { Result } from "../run/run-object.ts";
import type { ArchiveRef } from "../run/tombstone.ts";
import { artifactBlobs } from "./blobs.ts";
import { exportText } from "./export.ts";
import { archiveHolder, archivePrefix, deletePrefix, prefixesOf } from "./run-keys.ts";

/** R2 takes a multipart upload in parts of one size, the last one aside; at least 5 MB. */
const PART_BYTES = 8 * 1024 * 1024;

/** Cron ends a move that was begun longer ago than this. */
export const STALE_MOVE_MS = 15 * 60_000;
/** And no run leaves its object that late. */
const MOVE_DEADLINE_MS = 10 * 60_000;

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
  const asked_at_ms = Date.now();
  if (!(await askArchiving(env.DIRECTORY, { tenant, run_id: runId, asked_at_ms }))) return onTheMove;
  try {
    const archive = await writeArchive(env, bucket, store, { tenant, runId, start: start.value });
    // Cron takes back what has not come so far in time.
    if (Date.now() > asked_at_ms + MOVE_DEADLINE_MS) throw new Error("archiving took too long");
    const left = await run.leaveForArchive({ archive, ...start.value });
    return left.ok ? { ok: true, value: { ...left.value, archive } } : left;
  } finally {
    await settleArchive(env, tenant, runId);
  }
}

/** Writes the archive, makes sure of it, and holds what it refers to. */
async function writeArchive(
  env: Env,
  bucket: R2Bucket,
  store: ArtifactStore,
  { tenant, runId, start }: { tenant: string; runId: string; start: ExportStart },
): Promise<ArchiveRef> {
  const run = runClient(env.RUNS, runObjectName(tenant, runId));
  const blobs = artifactBlobs(env, tenant, runId);
  const key = `${archivePrefix(tenant, runId)}${crypto.randomUUID()}.ndjson`;
  const written = await writeText(bucket, key, exportText(run, start, { blobs, inline: false }));
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
 * already is left as it is.
 */
export async function restoreRun(
  env: Env,
  tenant: Tenant,
  key: string,
  runId: string,
): Promise<Result<Arrived>> {
  const bucket = env.ARTIFACTS;
  if (bucket === undefined) return { ok: false, refusal: archiveMissing };
  const run = runClient(env.RUNS, runObjectName(key, runId));
  const presence = await run.presence();
  if (presence.kind !== "archived") {
    if (presence.kind !== "run") return { ok: false, refusal: runNotFound };
    const overview = await run.readOverview();
    return overview.ok
      ? { ok: true, value: { run: overview.value, repeated: true, checks: null } }
      : overview;
  }
  const asked_at_ms = Date.now();
  if (!(await askArchiving(env.DIRECTORY, { tenant: key, run_id: runId, asked_at_ms }))) return onTheMove;
  try {
    const object = await bucket.get(presence.archive.key);
    if (object === null) throw new Error(`the archive ${presence.archive.key} is gone`);
    return await run.arrive(object.body, { tenant, run_id: runId, command: null, restores: true });
  } finally {
    await settleArchive(env, key, runId);
  }
}

/**
 * Ends a move: brings list, references and R2 to where the run's object says the run is. Safe to repeat; while a run moves
 * only whoever moves it may do this.
 */
export async function settleArchive(env: Env, tenant: string, runId: string): Promise<void> {
  const bucket = env.ARTIFACTS;
  const store = artifactStore(env, tenant);
  if (bucket === undefined || store === null) return;
  const presence = await runClient(env.RUNS, runObjectName(tenant, runId)).presence();
  if (presence.kind === "archived") {
    await store.release(runHolder(runId));
    for (const prefix of prefixesOf(tenant, runId)) await deletePrefix(bucket, prefix, presence.archive.key);
    await finishArchiving(env.DIRECTORY, tenant, runId, presence.at_ms);
    return;
  }
  await store.release(archiveHolder(runId));
  await deletePrefix(bucket, archivePrefix(tenant, runId));
  await finishArchiving(env.DIRECTORY, tenant, runId, null);
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
