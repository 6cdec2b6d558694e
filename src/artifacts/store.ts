import {
  adoptObject,
  announceMultipart,
  announceObject,
  confirmAllHeld,
  confirmHeld,
  dropHolder,
  findBlob,
  forgetObjects,
  holdBlobs,
  loosenObject,
} from "../directory/blobs.ts";
import { removeUploadsOf } from "../directory/uploads.ts";
import type { Env } from "../env.ts";
import { ABANDONED_AFTER_MS } from "../protocol/limits.ts";
import { newContentKey, runOfHolder } from "./keys.ts";
import { sha256Hex } from "./sha256.ts";

/** References added or dropped by one statement. */
const HASHES_AT_ONCE = 1_000;

/** A content as runs refer to it. */
export interface Content {
  /** Lower-case hex. */
  sha256: string;
  bytes: number;
}

/** An object that is being written to R2, in one go or in parts. */
export interface OpenObject {
  key: string;
  bucket: R2Bucket;
  /** Must precede the first part, so that parts nobody wants are found. */
  announceMultipart(multipartId: string): Promise<void>;
}

/** The store of a tenant's contents; null when the deployment has no R2 bucket. */
export function artifactStore(
  env: Pick<Env, "ARTIFACTS" | "DIRECTORY">,
  tenant: string,
): ArtifactStore | null {
  return env.ARTIFACTS === undefined ? null : new ArtifactStore(env.ARTIFACTS, env.DIRECTORY, tenant);
}

/**
 * The contents of a tenant, each stored once, with who holds it. Contents lie in R2; which there are is in D1.
 *
 * A1 An object is announced in D1 before it is written to R2: whatever a crash leaves behind is found by
 *    collect-artifacts.ts.
 * A2 A reference is written before the commit that needs it, so no commit ever refers to what may be collected.
 * A3 A key is never used again: deleting an old object cannot hit a new content.
 */
export class ArtifactStore {
  readonly #bucket: R2Bucket;
  readonly #db: D1Database;
  readonly #tenant: string;

  /** @param tenant its key (identity/tenant.ts). */
  constructor(bucket: R2Bucket, db: D1Database, tenant: string) {
    this.#bucket = bucket;
    this.#db = db;
    this.#tenant = tenant;
  }

  /** Keeps a text or bytes for a holder. What the tenant has already is not stored again. */
  async keep(holder: string, content: string | Uint8Array): Promise<Content> {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    const sha256 = sha256Hex(bytes);
    const [missing] = await this.hold(holder, [sha256]);
    if (missing === undefined) return { sha256, bytes: bytes.length };
    const object = await this.open();
    await object.bucket.put(object.key, bytes);
    const kept = await this.adopt(holder, object, { sha256, bytes: bytes.length });
    if (kept === null) throw new Error("the object was collected before it was written");
    return kept;
  }

  /** Adds references of a holder to contents that exist. Returns the hashes that do not. */
  async hold(holder: string, sha256: string[]): Promise<string[]> {
    const missing: string[] = [];
    for (let start = 0; start < sha256.length; start += HASHES_AT_ONCE) {
      const hashes = sha256.slice(start, start + HASHES_AT_ONCE);
      const held = await holdBlobs(this.#db, this.#tenant, holder, hashes, Date.now());
      missing.push(...hashes.filter((hash) => !held.has(hash)));
    }
    return missing;
  }

  /**
   * Notes that the holder has these contents by now, or all that were held for it: without this, the holder is asked for
   * them once, by collection.
   */
  async confirm(holder: string, sha256: string[] | null): Promise<void> {
    if (sha256 === null) await confirmAllHeld(this.#db, this.#tenant, holder);
    else await confirmHeld(this.#db, this.#tenant, holder, sha256, Date.now());
  }

  /** Hash and length of a content; null when there is none. */
  async find(sha256: string): Promise<Content | null> {
    const blob = await findBlob(this.#db, this.#tenant, sha256);
    return blob === null ? null : { sha256, bytes: blob.bytes };
  }

  /** The content, or a range of it, as a stream; null when there is none. `bytes` is the length of the whole. */
  async read(sha256: string, range?: R2Range): Promise<{ body: ReadableStream; bytes: number } | null> {
    const blob = await findBlob(this.#db, this.#tenant, sha256);
    if (blob === null) return null;
    const object = await this.#bucket.get(blob.key, range === undefined ? {} : { range });
    return object === null ? null : { body: object.body, bytes: object.size };
  }

  /** Drops all references of a holder, and a run's unfinished uploads; what nobody holds is collected later. */
  async release(holder: string): Promise<void> {
    const runId = runOfHolder(holder);
    if (runId !== null) await removeUploadsOf(this.#db, this.#tenant, runId);
    while (await dropHolder(this.#db, this.#tenant, holder, HASHES_AT_ONCE, Date.now()));
  }

  /** An object to write a content to whose hash is not known yet. It must be adopted or discarded. */
  async open(): Promise<OpenObject> {
    const key = newContentKey(this.#tenant);
    await announceObject(this.#db, { key, multipartId: null }, Date.now() + ABANDONED_AFTER_MS);
    return {
      key,
      bucket: this.#bucket,
      announceMultipart: (multipartId) => announceMultipart(this.#db, key, multipartId),
    };
  }

  /**
   * Makes a written object the content of this hash, held by this holder. When the tenant has the content already, the
   * object is discarded. Null when there is none: the object was collected, or discarded, meanwhile.
   */
  async adopt(holder: string, object: Pick<OpenObject, "key">, content: Content): Promise<Content | null> {
    const blob = await adoptObject(
      this.#db,
      this.#tenant,
      holder,
      { ...content, key: object.key },
      Date.now(),
    );
    if (blob === null || blob.key !== object.key) await this.discard(object);
    return blob === null ? null : content;
  }

  /**
   * Deletes an object that was opened and is not wanted, unless a content has it: an adoption whose answer was lost may have
   * taken place. What fails here is done by collection.
   */
  async discard({ key }: Pick<OpenObject, "key">): Promise<void> {
    if (!(await loosenObject(this.#db, key))) return;
    await this.#bucket.delete(key);
    await forgetObjects(this.#db, [key]);
  }
}
