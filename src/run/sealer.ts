import type { LogRow } from "./chain.ts";
import type { RunState } from "./run-state.ts";
import { packSegment } from "./segment-text.ts";
import type { Segment } from "./storage/segments.ts";

/** How much of a log stays in SQL, and how large a segment becomes. */
export interface SealBounds {
  /** Newest commits that stay. */
  keep: number;
  /** Commits of a segment; fewer when they are long. */
  commits: number;
  /** Of a segment, about, in UTF-16 units: it is made in memory. */
  length: number;
}

export const SEAL_BOUNDS: SealBounds = { keep: 50_000, commits: 5_000, length: 4 * 1024 * 1024 };

/** Past so many bytes of storage fewer commits stay: it ends at 10 GB, and 50,000 long ones may be more. */
const CROWDED_BYTES = 4 * 1024 ** 3;
/** The longest commits there are take 4 GB until the first of them are sealed. */
const CROWDED_BOUNDS: SealBounds = { ...SEAL_BOUNDS, keep: 1_000, commits: 1_000 };

/** What is due waits this long, so that the alarm which saves the head serves it too. */
const DELAY_MS = 1_000;
/** After a failure. */
const RETRY_MS = 60_000;

/**
 * Moves the oldest commits to R2, a segment at a time, and never on the commit path.
 *
 * S1 A commit leaves SQL in the transaction that enters the segment which holds it, and only after R2 was seen to have
 *    every byte of that. Segments are never changed, and follow each other from seq 1 on.
 * S2 Each attempt has a key of its own, which is stored before anything is written: what a crash leaves behind is
 *    deleted by the next attempt, and can never be taken for a segment.
 * S3 Only what the saved head knows is sealed: what a waking object catches up with lies in SQL.
 * S4 Without a bucket nothing is ever sealed.
 */
export class Sealer {
  readonly #storage: DurableObjectStorage;
  readonly #state: RunState;
  readonly #bucket: R2Bucket | null;
  readonly #prefix: string;
  /** As of the last alarm: asking storage for its size is too dear for each commit. */
  #bounds: SealBounds;
  #dueAtMs: number | null = null;
  #running: Promise<Segment | null> | null = null;
  #isClosed = false;

  /** @param prefix of all keys of this run's segments. */
  constructor(storage: DurableObjectStorage, state: RunState, bucket: R2Bucket | null, prefix: string) {
    this.#storage = storage;
    this.#state = state;
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#bounds = this.#boundsNow();
  }

  /** The moment the alarm must not miss, epoch ms; null when there is nothing to seal, or that is going on. */
  dueAtMs(nowMs: number): number | null {
    if (this.#running !== null || this.#end(this.#bounds) === null) return null;
    this.#dueAtMs ??= nowMs + DELAY_MS;
    return this.#dueAtMs;
  }

  /** For the alarm: seals one segment if that is due. A failure leaves it due, for later. */
  async sealDue(nowMs: number): Promise<void> {
    this.#bounds = this.#boundsNow();
    const dueAtMs = this.dueAtMs(nowMs);
    if (dueAtMs === null || dueAtMs > nowMs) return;
    this.#dueAtMs = null;
    try {
      await this.seal(this.#bounds);
    } catch (error) {
      this.#dueAtMs = Date.now() + RETRY_MS;
      const run_id = this.#state.row.initial.run_id;
      console.error(JSON.stringify({ event: "segment_seal_failed", run_id, error: String(error) }));
    }
  }

  /** The run is about to go: nothing more is sealed. Resolves when what is on its way to R2 has come to an end. */
  async close(): Promise<void> {
    this.#isClosed = true;
    while (this.#running !== null) await this.#running.catch(() => undefined);
  }

  /** Seals the oldest commits, if there are enough of them. Returns the segment, or null when there was none to make. */
  async seal(bounds: SealBounds): Promise<Segment | null> {
    while (this.#running !== null) await this.#running.catch(() => undefined);
    this.#running = this.#seal(bounds).finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  async #seal(bounds: SealBounds): Promise<Segment | null> {
    const { segments, commits } = this.#state;
    const end = this.#end(bounds);
    if (this.#bucket === null || end === null) return null;
    const leftover = segments.sealing();
    if (leftover !== null) {
      await this.#bucket.delete(leftover);
      // What is stored here now may be another run's.
      if (segments.sealing() !== leftover) return null;
    }
    const after = segments.uptoSeq();
    const rows = commits.rows(after, end, bounds.commits, bounds.length);
    checkContinuity(after, rows);
    const key = `${this.#prefix}${after + 1}-${rows.at(-1)?.seq}-${crypto.randomUUID()}`;
    const { bytes, segment } = packSegment(key, rows);
    segments.setSealing(key);
    await this.#storage.sync();
    await this.#bucket.put(key, bytes, { sha256: segment.sha256 });
    await checkStored(this.#bucket, segment);
    if (segments.sealing() !== key) {
      // The run was wiped meanwhile: nobody will ask for this any more.
      await this.#bucket.delete(key);
      return null;
    }
    segments.seal(segment);
    return segment;
  }

  #boundsNow(): SealBounds {
    return this.#storage.sql.databaseSize > CROWDED_BYTES ? CROWDED_BOUNDS : SEAL_BOUNDS;
  }

  /** Seq of the last commit of the next segment, if it is full; null when there are too few for one. */
  #end({ keep, commits }: SealBounds): number | null {
    if (this.#bucket === null || this.#isClosed) return null;
    const end = this.#state.segments.uptoSeq() + commits;
    const lastSeq = this.#state.head().run.last_event_seq;
    return end <= Math.min(this.#state.savedSeq(), lastSeq - keep) ? end : null;
  }
}

/** @throws Error when these are not the commits that follow: what is missing must not be sealed over. */
function checkContinuity(after: number, rows: readonly LogRow[]): void {
  const gap = rows.findIndex((row, index) => row.seq !== after + 1 + index);
  if (gap !== -1 || rows.length === 0) throw new Error(`commit ${after + 1 + Math.max(0, gap)} is missing`);
}

/** @throws Error when the bucket has something else. */
async function checkStored(bucket: R2Bucket, { key, bytes, sha256 }: Segment): Promise<void> {
  const stored = await bucket.head(key);
  const digest = stored?.checksums.sha256;
  const hex =
    digest && [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (stored?.size !== bytes || hex !== sha256) throw new Error(`the bucket does not hold ${key} as written`);
}
