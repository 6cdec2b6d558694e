import {
  type ArtifactProblem,
  type ArtifactResult,
  digestMismatch,
  refused,
  tooLong,
  truncated,
} from "./problems.ts";
import type { ArtifactStore, Content, OpenObject } from "./store.ts";

/** What of a body of unknown length is held at once; R2 wants all parts of an object but the last to be of one size. */
const PART_BYTES = 8 * 1024 * 1024;

/** What a body is expected to be. */
export interface Expected {
  /** As the request declares it; null when it does not. */
  length: number | null;
  /** Digests that the content must have, hex. */
  sha256: string[];
  maxBytes: number;
  /** What `maxBytes` is called. */
  limitName: string;
}

/** Thrown through the writer, which gives up what it has written. */
class BodyRejected extends Error {
  readonly problem: ArtifactProblem;

  constructor(problem: ArtifactProblem) {
    super(problem.code);
    this.problem = problem;
  }
}

/** What became of a body; a body that was rejected left nothing behind. */
async function resultOf<T>(taking: Promise<T>): Promise<ArtifactResult<T>> {
  try {
    return { ok: true, value: await taking };
  } catch (error) {
    if (error instanceof BodyRejected) return refused(error.problem);
    throw error;
  }
}

/**
 * Takes in a body as a content for this holder, streaming: never more of it is in memory than one part. A content that the
 * tenant has already, by the digest that the client says, is read through but not stored again.
 * @throws Error for a fault of the storage; what was written is collected.
 */
export async function receive(
  store: ArtifactStore,
  holder: string,
  body: ReadableStream<Uint8Array> | null,
  expected: Expected,
): Promise<ArtifactResult<Content>> {
  const stream = body ?? emptyBody();
  const [claimed] = expected.sha256;
  const isKnown = claimed !== undefined && (await store.hold(holder, [claimed])).length === 0;
  return resultOf(isKnown ? readThrough(stream, expected) : storeNew(store, holder, stream, expected));
}

async function readThrough(stream: ReadableStream<Uint8Array>, expected: Expected): Promise<Content> {
  const content = await take(stream, expected, null);
  checkDigest(content, expected);
  return content;
}

async function storeNew(
  store: ArtifactStore,
  holder: string,
  stream: ReadableStream<Uint8Array>,
  expected: Expected,
): Promise<Content> {
  const object = await store.open();
  try {
    const content =
      expected.length === null
        ? await writeInParts(object, stream, expected)
        : await writeAtOnce(object, stream, expected.length, expected);
    checkDigest(content, expected);
    if ((await store.adopt(holder, object, content)) === null) {
      throw new Error("the object was written for so long that it has been collected");
    }
    return content;
  } catch (error) {
    // After a fault nobody knows whether R2 still writes: then the announcement stays, for collection to see to it.
    if (error instanceof BodyRejected) await store.discard(object).catch(() => undefined);
    throw error;
  }
}

function checkDigest({ sha256 }: Content, expected: Expected): void {
  if (expected.sha256.some((digest) => digest !== sha256)) throw new BodyRejected(digestMismatch(sha256));
}

async function writeAtOnce(
  { bucket, key }: OpenObject,
  stream: ReadableStream<Uint8Array>,
  length: number,
  expected: Expected,
): Promise<Content> {
  const { content } = await writeFixed(stream, length, expected, (readable) => bucket.put(key, readable));
  return content;
}

/** Streams a part of an upload into R2. */
export async function receivePart<T>(
  body: ReadableStream<Uint8Array> | null,
  length: number,
  expected: Expected,
  write: (readable: ReadableStream) => Promise<T>,
): Promise<ArtifactResult<{ content: Content; written: T }>> {
  const receiving = async () => {
    const part = await writeFixed(body ?? emptyBody(), length, expected, write);
    checkDigest(part.content, expected);
    return part;
  };
  return resultOf(receiving());
}

function emptyBody(): ReadableStream<Uint8Array> {
  return new Blob([]).stream();
}

/** Streams a body of known length into a writer of R2, and takes its digest on the way. */
async function writeFixed<T>(
  stream: ReadableStream<Uint8Array>,
  length: number,
  expected: Expected,
  write: (readable: ReadableStream) => Promise<T>,
): Promise<{ content: Content; written: T }> {
  const { readable, writable } = new FixedLengthStream(length);
  const writing = write(readable);
  const taking = take(stream, expected, { writable, broken: rejectionOf(writing) });
  // The first to fail is the reason; the other one then fails too.
  const [taken, written] = await Promise.allSettled([taking, writing]);
  if (taken.status === "rejected" && taken.reason instanceof BodyRejected) throw taken.reason;
  if (written.status === "rejected") throw written.reason;
  if (taken.status === "rejected") throw taken.reason;
  return { content: taken.value, written: written.value };
}

/** Where a body goes. `broken` rejects when nobody takes it any more, and never resolves. */
interface Sink {
  writable: WritableStream<Uint8Array>;
  broken: Promise<never>;
}

function rejectionOf(writing: Promise<unknown>): Promise<never> {
  const { promise, reject } = Promise.withResolvers<never>();
  writing.catch(reject);
  promise.catch(() => undefined);
  return promise;
}

/** Reads a body to its end, into a sink if there is one. @throws BodyRejected */
async function take(
  stream: ReadableStream<Uint8Array>,
  { length, maxBytes, limitName }: Expected,
  sink: Sink | null,
): Promise<Content> {
  const digest = new Digest();
  const writer = sink?.writable.getWriter() ?? null;
  // A reader of the sink that has failed may leave the rest untouched.
  const unlessBroken = <T>(step: Promise<T>) => (sink === null ? step : Promise.race([step, sink.broken]));
  let bytes = 0;
  try {
    for await (const chunk of chunksOf(stream)) {
      bytes += chunk.length;
      if (bytes > maxBytes) throw new BodyRejected(tooLong(limitName, maxBytes));
      await unlessBroken(Promise.all([writer?.write(chunk), digest.update(chunk)]));
    }
    if (length !== null && bytes !== length) throw new BodyRejected(truncated);
    if (writer !== null) await unlessBroken(writer.close());
  } catch (error) {
    await writer?.abort(error).catch(() => undefined);
    digest.abandon();
    throw error;
  }
  return { sha256: await digest.hex(), bytes };
}

/** Writes a body of unknown length: what fits one part at once, what does not in parts. */
async function writeInParts(
  object: OpenObject,
  stream: ReadableStream<Uint8Array>,
  { maxBytes, limitName }: Expected,
): Promise<Content> {
  const digest = new Digest();
  const buffer = new Uint8Array(PART_BYTES);
  let filled = 0;
  let bytes = 0;
  let multipart: R2MultipartUpload | null = null;
  const parts: R2UploadedPart[] = [];
  const writePart = async () => {
    // The buffer itself: it is filled again only when the part is written.
    multipart ??= await beginMultipart(object);
    parts.push(await multipart.uploadPart(parts.length + 1, buffer.subarray(0, filled)));
    filled = 0;
  };
  try {
    for await (const chunk of chunksOf(stream)) {
      bytes += chunk.length;
      if (bytes > maxBytes) throw new BodyRejected(tooLong(limitName, maxBytes));
      await digest.update(chunk);
      for (let rest = chunk; rest.length > 0; ) {
        if (filled === PART_BYTES) await writePart();
        const fitting = rest.subarray(0, PART_BYTES - filled);
        buffer.set(fitting, filled);
        filled += fitting.length;
        rest = rest.subarray(fitting.length);
      }
    }
    if (parts.length === 0) {
      await object.bucket.put(object.key, buffer.subarray(0, filled));
    } else {
      await writePart();
      await (multipart as R2MultipartUpload | null)?.complete(parts);
    }
    return { sha256: await digest.hex(), bytes };
  } catch (error) {
    digest.abandon();
    await (multipart as R2MultipartUpload | null)?.abort().catch(() => undefined);
    throw error;
  }
}

/** Begins to write an object in parts. */
export async function beginMultipart(object: OpenObject): Promise<R2MultipartUpload> {
  const multipart = await object.bucket.createMultipartUpload(object.key);
  await object.announceMultipart(multipart.uploadId);
  return multipart;
}

/** SHA-256 of a stream, hex. */
export async function digestOf(stream: ReadableStream<Uint8Array>): Promise<string> {
  const digest = new crypto.DigestStream("SHA-256");
  await stream.pipeTo(digest);
  return hexOf(await digest.digest);
}

/** What a client sends, until it ends. @throws BodyRejected when it breaks off. */
async function* chunksOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  let isDone = false;
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(() => {
        throw new BodyRejected(truncated);
      });
      isDone = done;
      if (done) return;
      yield value;
    }
  } finally {
    if (!isDone) await reader.cancel().catch(() => undefined);
  }
}

/** A digest that is fed piece by piece. */
class Digest {
  readonly #stream = new crypto.DigestStream("SHA-256");
  readonly #writer = this.#stream.getWriter();

  async update(chunk: Uint8Array): Promise<void> {
    await this.#writer.write(chunk);
  }

  async hex(): Promise<string> {
    await this.#writer.close();
    return hexOf(await this.#stream.digest);
  }

  /** Must be called when it is not wanted any more: an unread failure would be reported as a fault. */
  abandon(): void {
    this.#stream.digest.catch(() => undefined);
    this.#writer.abort().catch(() => undefined);
  }
}

function hexOf(hash: ArrayBuffer): string {
  return [...new Uint8Array(hash)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
