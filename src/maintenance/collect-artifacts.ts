import { runOfHolder } from "../artifacts/keys.ts";
import {
  type AskedReference,
  confirmAllHeld,
  confirmHeld,
  dropReferences,
  dueObjects,
  forgetObjects,
  type LooseObject,
  loosenUnheld,
  postponeAsking,
  postponeObjects,
  referencesToAsk,
} from "../directory/blobs.ts";
import { oldUploads, removeUpload } from "../directory/uploads.ts";
import type { Env } from "../env.ts";
import { runObjectName } from "../identity/tenant.ts";
import { ABANDONED_AFTER_MS } from "../protocol/limits.ts";
import { runClient } from "../run/run-client.ts";

/** Most rows of each kind per tick: what is left over is next tick's first. */
const MAX_PER_TICK = 1_000;
/** Objects called, and multipart uploads given up, at once. */
const AT_ONCE = 25;

/** What a collection did away with. */
export interface Collection {
  uploads: number;
  references: number;
  contents: number;
  objects: number;
  failed: number;
}

/**
 * Collects what uploads left behind and what nobody holds any more, once it is a day old. Each row that is dealt with
 * leaves its list, so that stopping anywhere and running this twice changes nothing.
 *
 * C1 A content is taken off D1 only while no reference to it exists, in the same transaction: whoever asks to hold it is
 *    told that there is none, or keeps it from being taken.
 * C2 An object that may still be written is deleted twice, a day apart: a write that outlived its announcement leaves
 *    nothing behind.
 */
export async function collectArtifacts(env: Env, nowMs: number): Promise<Collection> {
  const collection: Collection = { uploads: 0, references: 0, contents: 0, objects: 0, failed: 0 };
  if (env.ARTIFACTS === undefined) return collection;
  const db = env.DIRECTORY;
  for (const upload of await oldUploads(db, nowMs - ABANDONED_AFTER_MS, MAX_PER_TICK)) {
    await removeUpload(db, upload);
    collection.uploads += 1;
  }
  await askHolders(env, nowMs, collection);
  collection.contents = await loosenUnheld(db, MAX_PER_TICK, nowMs);
  await deleteObjects(env.ARTIFACTS, db, nowMs, collection);
  return collection;
}

/** Asks the runs of old references whether they have what was held for them. */
async function askHolders(env: Env, nowMs: number, collection: Collection): Promise<void> {
  const untilMs = nowMs - ABANDONED_AFTER_MS;
  const references = await referencesToAsk(env.DIRECTORY, untilMs, MAX_PER_TICK);
  const groups = [...Map.groupBy(references, ({ tenant, holder }) => `${tenant} ${holder}`).values()];
  for (let start = 0; start < groups.length; start += AT_ONCE) {
    await Promise.all(
      groups.slice(start, start + AT_ONCE).map(async (group) => {
        const [first] = group;
        if (first === undefined) return;
        const { tenant, holder } = first;
        try {
          const dropped = await askHolder(env, tenant, holder, group, nowMs);
          // Read after the wait: other groups add to it meanwhile.
          collection.references += dropped;
        } catch (error) {
          collection.failed += 1;
          console.error(JSON.stringify({ event: "collection_failed", holder, error: String(error) }));
          await postponeAsking(env.DIRECTORY, tenant, holder, untilMs, nowMs);
        }
      }),
    );
  }
}

async function askHolder(
  env: Env,
  tenant: string,
  holder: string,
  references: AskedReference[],
  nowMs: number,
): Promise<number> {
  const hashes = references.map(({ sha256 }) => sha256);
  const runId = runOfHolder(holder);
  if (runId === null) {
    // No run: whoever keeps it releases it.
    await confirmAllHeld(env.DIRECTORY, tenant, holder);
    return 0;
  }
  const answer = await runClient(env.RUNS, runObjectName(tenant, runId)).holdsFiles(hashes);
  // A run that is not there has nothing; what it left for an archive, the archive holds.
  const held = new Set(answer.ok ? answer.value : []);
  if (held.size > 0) await confirmHeld(env.DIRECTORY, tenant, holder, [...held], nowMs);
  const unheld = references.filter(({ sha256 }) => !held.has(sha256));
  await dropReferences(env.DIRECTORY, tenant, holder, unheld, nowMs);
  return unheld.length;
}

async function deleteObjects(
  bucket: R2Bucket,
  db: D1Database,
  nowMs: number,
  collection: Collection,
): Promise<void> {
  const due = await dueObjects(db, nowMs, MAX_PER_TICK);
  const inWriting = due.filter(({ unwanted }) => unwanted === 0);
  // From here on no content takes them; those that one has taken just now are out of the list.
  const abandoned = await postponeObjects(db, inWriting, nowMs, nowMs + ABANDONED_AFTER_MS);
  const unwanted = due.filter((object) => object.unwanted === 1);
  const multiparts = [...abandoned, ...unwanted].filter(({ multipartId }) => multipartId !== null);
  for (let start = 0; start < multiparts.length; start += AT_ONCE) {
    await Promise.all(multiparts.slice(start, start + AT_ONCE).map((object) => giveUp(bucket, object)));
  }
  const keys = [...abandoned, ...unwanted].map(({ key }) => key);
  if (keys.length > 0) await bucket.delete(keys);
  await forgetObjects(
    db,
    unwanted.map(({ key }) => key),
  );
  collection.objects += keys.length;
}

async function giveUp(bucket: R2Bucket, { key, multipartId }: LooseObject): Promise<void> {
  if (multipartId === null) return;
  // It may be completed, or given up before.
  await bucket
    .resumeMultipartUpload(key, multipartId)
    .abort()
    .catch(() => undefined);
}
