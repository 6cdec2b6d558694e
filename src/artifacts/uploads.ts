import {
  addUpload,
  findUpload,
  finishUpload,
  giveUpUpload,
  partsOf,
  putPart,
  removeUpload,
  reservePart,
  setDigest,
  type Upload,
  type UploadId,
  type UploadPart,
} from "../directory/uploads.ts";
import type { CommandOf } from "../domain/command.ts";
import { limitExceeded } from "../domain/refusals.ts";
import type { Issue } from "../protocol/issue.ts";
import {
  MAX_ARTIFACT_BYTES,
  MAX_OPEN_UPLOADS_PER_RUN,
  MAX_PART_BYTES,
  MAX_PARTS,
  MIN_PART_BYTES,
} from "../protocol/limits.ts";
import {
  type ArtifactProblem,
  type ArtifactResult,
  digestMismatch,
  refused,
  uploadCompleted,
  uploadNotFound,
} from "./problems.ts";
import { beginMultipart, digestOf, receivePart } from "./receive.ts";
import type { ArtifactStore, Content } from "./store.ts";

/** What an upload shall become, as its beginning said. Lease tokens are not kept: who completes it proves the lease. */
export interface UploadPlan
  extends Pick<CommandOf<"put_artifact">, "path" | "content_type" | "artifact" | "expected" | "task_id"> {
  sha256?: string | undefined;
  /** Digest of the request that began it, where that had an idempotency key. */
  fingerprint?: string | undefined;
}

/** A part as its sender knows it. */
export interface NamedPart {
  part: number;
  sha256: string;
}

/** Where a deployment keeps contents and what is under way to them. */
export interface UploadPlace {
  bucket: R2Bucket;
  db: D1Database;
  store: ArtifactStore;
}

/**
 * Uploads in parts, for contents that are too large for one request.
 *
 * U1 An upload's object is announced like any other (store.ts, A1): an upload that is never completed is collected.
 * U2 Its digest is written before it becomes a content: a completion that was cut off goes on from there.
 */
export class Uploads {
  readonly #bucket: R2Bucket;
  readonly #db: D1Database;
  readonly #store: ArtifactStore;
  readonly #run: Pick<UploadId, "tenant" | "run_id">;

  constructor({ bucket, db, store }: UploadPlace, run: Pick<UploadId, "tenant" | "run_id">) {
    this.#bucket = bucket;
    this.#db = db;
    this.#store = store;
    this.#run = run;
  }

  /** Begins an upload of an id that has none. False when it has one all the same, begun at this very moment. */
  async start(plan: UploadPlan, upload_id: string): Promise<ArtifactResult<boolean>> {
    const object = await this.#store.open();
    const { uploadId: multipart_id } = await beginMultipart(object);
    const upload = {
      ...this.#run,
      upload_id,
      key: object.key,
      multipart_id,
      asked: JSON.stringify(plan),
    };
    const limit = MAX_OPEN_UPLOADS_PER_RUN;
    if (await addUpload(this.#db, upload, limit, Date.now())) return { ok: true, value: true };
    await this.#discard(upload);
    if ((await this.begun(upload_id)) !== null) return { ok: true, value: false };
    return refused(limitExceeded("open_uploads_per_run", limit, limit + 1) as ArtifactProblem);
  }

  /** The upload of that id and what it shall become; null when there is none. */
  async find(uploadId: string): Promise<{ upload: Upload; plan: UploadPlan } | null> {
    const begun = await this.begun(uploadId);
    return begun === null || begun.isGivenUp ? null : begun;
  }

  /** The same, those that were given up included. */
  async begun(uploadId: string): Promise<{ upload: Upload; plan: UploadPlan; isGivenUp: boolean } | null> {
    const found = await findUpload(this.#db, { ...this.#run, upload_id: uploadId });
    if (found === null) return null;
    const { isGivenUp, ...upload } = found;
    return { upload, plan: JSON.parse(upload.asked) as UploadPlan, isGivenUp };
  }

  /** Takes in one part; a part that was there before is replaced. */
  async putPart(
    uploadId: string,
    part: number,
    body: ReadableStream<Uint8Array> | null,
    length: number,
    sha256: string[],
  ): Promise<ArtifactResult<UploadPart>> {
    const found = await this.find(uploadId);
    if (found === null) return refused(uploadNotFound);
    const { key, multipart_id, sha256: whole } = found.upload;
    if (whole !== null) return refused(uploadCompleted);
    if (!(await reservePart(this.#db, found.upload, part, length))) return refused(uploadNotFound);
    const multipart = this.#bucket.resumeMultipartUpload(key, multipart_id);
    const expected = { length, sha256, maxBytes: MAX_PART_BYTES, limitName: "part_bytes" };
    try {
      const received = await receivePart(body, length, expected, (readable) =>
        multipart.uploadPart(part, readable),
      );
      if (!received.ok) return received;
      const { content, written } = received.value;
      const stored = { part, etag: written.etag, ...content };
      if (!(await putPart(this.#db, uploadId, stored))) throw new Error("the upload is gone");
      return { ok: true, value: stored };
    } catch (error) {
      // Completed or given up meanwhile.
      const now = await this.find(uploadId);
      if (now === null) return refused(uploadNotFound);
      if (now.upload.sha256 !== null || (await this.#bucket.head(key)) !== null)
        return refused(uploadCompleted);
      throw error;
    }
  }

  /**
   * Makes the parts a content that the holder holds. To repeat this changes nothing.
   * @param named the parts it shall have, if the caller says.
   * @param sha256 what the whole shall have, hex.
   */
  async assemble(
    upload: Upload,
    holder: string,
    named: NamedPart[] | undefined,
    sha256: string[],
  ): Promise<ArtifactResult<Content>> {
    const assembled = await this.#assembled(upload, named);
    if (!assembled.ok) return assembled;
    const content = assembled.value;
    if (sha256.some((digest) => digest !== content.sha256)) {
      if (upload.sha256 === null) await this.#forget(upload);
      return refused(digestMismatch(content.sha256));
    }
    if (upload.sha256 === null) await setDigest(this.#db, upload, content.sha256);
    const kept = await this.#store.adopt(holder, upload, content);
    return kept === null ? refused(uploadNotFound) : { ok: true, value: kept };
  }

  /** Notes that the upload is in its run. */
  async finish(upload: Upload): Promise<void> {
    await finishUpload(this.#db, upload);
  }

  /** Gives up an upload that is not completed; one that was given up is so again. */
  async abort(uploadId: string): Promise<ArtifactResult<null>> {
    const begun = await this.begun(uploadId);
    if (begun === null) return refused(uploadNotFound);
    if (begun.isGivenUp) return { ok: true, value: null };
    if (begun.upload.sha256 !== null) return refused(uploadCompleted);
    await giveUpUpload(this.#db, begun.upload);
    await this.#discard(begun.upload);
    return { ok: true, value: null };
  }

  /** The object that the parts have become, with its digest. */
  async #assembled(upload: Upload, named: NamedPart[] | undefined): Promise<ArtifactResult<Content>> {
    const { key, multipart_id } = upload;
    if (upload.sha256 !== null) {
      const kept = await this.#store.find(upload.sha256);
      if (kept !== null) return { ok: true, value: kept };
    }
    const parts = await partsOf(this.#db, upload.upload_id);
    const before = await this.#bucket.head(key);
    if (before === null && upload.sha256 !== null) return refused(uploadNotFound);
    // Only for whoever puts the listed parts together are they what the object consists of.
    let isOfListed = false;
    if (before === null) {
      const issues = issuesOf(parts, named);
      if (issues.length > 0) {
        const error = issues.map(({ message }) => message).join("; ");
        return refused({ code: "UPLOAD_INCOMPLETE", error, issues });
      }
      const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
      if (bytes > MAX_ARTIFACT_BYTES) {
        return refused(limitExceeded("artifact_bytes", MAX_ARTIFACT_BYTES, bytes) as ArtifactProblem);
      }
      const multipart = this.#bucket.resumeMultipartUpload(key, multipart_id);
      const uploaded = parts.map(({ part, etag }) => ({ partNumber: part, etag }));
      try {
        await multipart.complete(uploaded);
        isOfListed = true;
      } catch (error) {
        // A repeat that runs beside this one may have done it.
        if ((await this.#bucket.head(key)) === null) {
          if (isInvalidPart(error)) return refused(partsDiffer);
          throw error;
        }
      }
    }
    const [only, ...others] = parts;
    if (isOfListed && only !== undefined && others.length === 0) {
      return { ok: true, value: { sha256: only.sha256, bytes: only.bytes } };
    }
    const object = await this.#bucket.get(key);
    if (object === null) return refused(uploadNotFound);
    return { ok: true, value: { sha256: await digestOf(object.body), bytes: object.size } };
  }

  async #forget(upload: Upload): Promise<void> {
    await removeUpload(this.#db, upload);
    await this.#discard(upload);
  }

  async #discard({ key, multipart_id }: Pick<Upload, "key" | "multipart_id">): Promise<void> {
    // Completed meanwhile: then there is no multipart upload any more, but an object.
    await this.#bucket
      .resumeMultipartUpload(key, multipart_id)
      .abort()
      .catch(() => undefined);
    await this.#store.discard({ key });
  }
}

/** Whether R2 has another part than the one asked for, under its number. */
function isInvalidPart(error: unknown): boolean {
  return error instanceof Error && error.message.includes("(10025)");
}

/** Two requests for one part: R2 has the content of one, the list that of the other. */
const partsDiffer: ArtifactProblem = {
  code: "UPLOAD_INCOMPLETE",
  error: "a part was sent twice at the same time, and which one it is, is not known: send it again",
  issues: [{ field: "parts", rule: "sent_once", message: "a part that was sent twice must be sent again" }],
};

/** What keeps parts from being put together. */
function issuesOf(parts: UploadPart[], named: NamedPart[] | undefined): Issue[] {
  const [first] = parts;
  if (first === undefined) {
    return [{ field: "parts", rule: "non_empty", message: "no part has arrived" }];
  }
  const issues: Issue[] = [];
  const issue = (part: number, rule: string, message: string) =>
    issues.push({ field: `parts[${part}]`, rule, message: `part ${part} ${message}` });
  for (const [index, { part, bytes }] of parts.entries()) {
    const isLast = index === parts.length - 1;
    if (part !== index + 1) {
      issue(index + 1, "missing", "has not arrived");
      break;
    }
    if (!isLast && bytes < MIN_PART_BYTES) {
      issue(part, "min_bytes", `has less than ${MIN_PART_BYTES} bytes and is not the last`);
    }
    if (isLast ? bytes > first.bytes : bytes !== first.bytes) {
      issue(part, "same_bytes", "has another length than the first; only the last may be shorter");
    }
  }
  if (named !== undefined) {
    const told = new Map(named.map(({ part, sha256 }) => [part, sha256]));
    for (const { part, sha256 } of parts) {
      if (told.get(part) !== sha256) issue(part, "same_sha256", "is not the one that `parts` names");
      told.delete(part);
    }
    for (const part of told.keys()) issue(part, "missing", "has not arrived");
  }
  return issues.slice(0, MAX_ISSUES);
}

/** Of thousands of parts, the first faulty ones tell enough. */
const MAX_ISSUES = 50;

/** What a client needs to cut a content into parts. */
export const PART_LIMITS = {
  min_part_bytes: MIN_PART_BYTES,
  max_part_bytes: MAX_PART_BYTES,
  max_parts: MAX_PARTS,
  max_bytes: MAX_ARTIFACT_BYTES,
};
