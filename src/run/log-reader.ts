import { sha256Hex } from "../artifacts/sha256.ts";
import type { Commit } from "../domain/commit.ts";
import type { Refusal } from "../domain/refusals.ts";
import { MAX_PAGE_LENGTH } from "../protocol/limits.ts";
import type { LogRow } from "./chain.ts";
import { blocksWith, lastSeqOf, offsetOf, readRows } from "./segment-text.ts";
import type { CommitTable, CommitTextRow, LogColumn, Receipt } from "./storage/commits.ts";
import type { Segment, SegmentTable } from "./storage/segments.ts";

export type { LogRow } from "./chain.ts";

const MAX_PAGE_ROWS = 500;
/** Of sealed rows that are looked through for patches, at least about so much is read at once, in UTF-16 units. */
const MIN_PATCH_SCAN_LENGTH = 256 * 1024;

/** Bounds of a page: rows, and about how many UTF-16 units. */
export interface PageLimits {
  limit?: number;
  maxLength?: number;
}

/** One record of the log: the text that was stored. */
export interface LogText {
  seq: number;
  text: string;
}

/** Commits that are not where they should be, or not what they were. */
export class LogDamaged extends Error {
  readonly refusal: Refusal;

  constructor(fromSeq: number, uptoSeq: number, reason: string) {
    super(`the log is damaged between seq ${fromSeq} and ${uptoSeq}: ${reason}`);
    this.refusal = { code: "LOG_DAMAGED", error: this.message, from_seq: fromSeq, upto_seq: uptoSeq };
  }
}

/**
 * Reads a run's log wherever it lies: what is old in R2, the rest in SQL. Where a page comes from is decided in the turn
 * in which it is asked for, and it is read from that one place; so a reader that goes on page by page sees each commit
 * once, whatever is sealed between its pages.
 */
export class LogReader {
  readonly #commits: CommitTable;
  readonly #segments: SegmentTable;
  readonly #bucket: R2Bucket | null;

  constructor(commits: CommitTable, segments: SegmentTable, bucket: R2Bucket | null) {
    this.#commits = commits;
    this.#segments = segments;
    this.#bucket = bucket;
  }

  /**
   * Rows with `after < seq <= upto`, ascending, from the beginning: at least one if there is one, until `limit` or about
   * `maxLength` UTF-16 units. It may end earlier; only an empty page says that there are no more.
   *
   * @param unchecked for looking into damage: gives what can be read of a damaged block, from its beginning.
   * @throws LogDamaged
   */
  async page(after: number, upto: number, limits: PageLimits = {}, unchecked = false): Promise<LogRow[]> {
    const { limit = MAX_PAGE_ROWS, maxLength = MAX_PAGE_LENGTH } = limits;
    const rows = this.#isSealed(after)
      ? await this.#sealedRows(after, upto, limit, maxLength, unchecked)
      : this.#commits.rows(after, upto, Math.min(limit, MAX_PAGE_ROWS), maxLength);
    if (!unchecked) checkContinuity(after, rows);
    return rows;
  }

  /** Commits with `after < seq <= upto`, all of which there must be, ascending, read page by page; between pages the object serves others. @throws LogDamaged */
  async *commits(after: number, upto: number): AsyncGenerator<Commit> {
    for (let cursor = after; cursor < upto; ) {
      if (cursor > after) await scheduler.wait(0);
      const rows = await this.page(cursor, upto);
      for (const row of rows) yield commitOf(row);
      cursor = reached(cursor, upto, rows);
    }
  }

  /** The records of commits with `after < seq <= upto`, all of which there must be, from the beginning, like `page`. @throws LogDamaged */
  async records(
    after: number,
    upto: number,
    withPatches: boolean,
    maxLength: number,
  ): Promise<CommitTextRow[]> {
    if (!this.#isSealed(after)) {
      const rows = this.#commits.records(after, upto, withPatches, maxLength);
      checkContinuity(after, rows);
      reached(after, upto, rows);
      return rows;
    }
    const rows = await this.page(after, upto, { maxLength });
    return rows.map(({ seq, event, patch }) => ({ seq, event, patch: withPatches ? patch : null }));
  }

  /**
   * Records of one kind of commits with `after < seq <= upto`, all of which there must be, from the beginning, until `limit` or about `maxLength`.
   * @returns also up to which seq there are no others; when that is not `upto`, there may be more.
   * @throws LogDamaged
   */
  async texts(
    column: LogColumn,
    after: number,
    upto: number,
    { limit = MAX_PAGE_ROWS, maxLength = MAX_PAGE_LENGTH }: PageLimits = {},
  ): Promise<{ rows: LogText[]; uptoSeq: number }> {
    if (!this.#isSealed(after)) {
      const { rows, isCut } = this.#commits.someTexts(
        column,
        after,
        upto,
        Math.min(limit, MAX_PAGE_ROWS),
        maxLength,
      );
      if (column === "event") {
        checkContinuity(after, rows);
        return { rows, uptoSeq: reached(after, upto, rows) };
      }
      return { rows, uptoSeq: isCut ? (rows.at(-1)?.seq ?? upto) : upto };
    }
    if (column === "patch") return this.#sealedPatches(after, upto, limit, maxLength);
    const page = await this.page(after, upto, { limit, maxLength });
    return { rows: page.map(({ seq, event }) => ({ seq, text: event })), uptoSeq: page.at(-1)?.seq ?? upto };
  }

  /** All records of one kind with `after < seq <= upto`, ascending, page by page; at most `limit`. @throws LogDamaged */
  async *textPages(column: LogColumn, after: number, upto: number, limit: number): AsyncGenerator<LogText[]> {
    for (let cursor = after, left = limit; cursor < upto && left > 0; ) {
      const { rows, uptoSeq } = await this.texts(column, cursor, upto, { limit: left });
      if (rows.length > 0) yield rows;
      cursor = uptoSeq;
      left -= rows.length;
    }
  }

  /** The seq before the last `count` patches, looking back from `upto` but not beyond `after`. @throws LogDamaged */
  async beforeLastPatches(count: number, after: number, upto: number): Promise<number> {
    const sealedUpto = this.#segments.uptoSeq();
    const inTable = this.#commits.lastPatches(count, Math.max(after, sealedUpto), upto);
    let left = count - inTable.count;
    if (left <= 0) return inTable.firstSeq === null ? upto : inTable.firstSeq - 1;
    for (let seq = Math.min(upto, sealedUpto); seq > after; ) {
      const segment = this.#segmentOf(seq);
      for (let index = segment.blocks.length - 1; index >= 0; index -= 1) {
        const block = segment.blocks[index];
        if (block === undefined || block.patches === 0 || block.from_seq > seq) continue;
        if (lastSeqOf(segment, index) <= after) return after;
        const isWhole = lastSeqOf(segment, index) <= seq && block.from_seq > after;
        if (isWhole && block.patches < left) {
          left -= block.patches;
          continue;
        }
        const rows = await this.#blockRows(segment, index, index + 1, false);
        const patched = rows.filter((row) => row.patch !== null && row.seq > after && row.seq <= seq);
        const first = patched.at(-left);
        if (first !== undefined) return first.seq - 1;
        left -= patched.length;
      }
      seq = segment.from_seq - 1;
    }
    return after;
  }

  /** The receipt of a command whose commits are sealed, and the commits it made. @throws LogDamaged */
  async sealedCommand(commandId: string): Promise<{ receipt: Receipt; commits: Commit[] } | null> {
    const seq = this.#segments.seqOfCommand(commandId);
    if (seq === null) return null;
    const [first] = await this.page(seq - 1, seq);
    if (first?.command_id !== commandId || first.receipt === null) {
      throw new LogDamaged(seq, seq, "the commit is not the command's");
    }
    const receipt = JSON.parse(first.receipt) as Receipt;
    const commits: Commit[] = [];
    for await (const commit of this.commits(seq - 1, seq - 1 + receipt.commits)) commits.push(commit);
    return { receipt, commits };
  }

  #isSealed(after: number): boolean {
    return after < this.#segments.uptoSeq();
  }

  #segmentOf(seq: number): Segment {
    const segment = this.#segments.holding(seq);
    if (segment === null) throw new LogDamaged(seq, this.#segments.uptoSeq(), "no segment holds the commit");
    return segment;
  }

  /** Patches may lie far apart: blocks that have none are skipped, and of those that have some a good deal is read at once. */
  async #sealedPatches(
    after: number,
    upto: number,
    limit: number,
    maxLength: number,
  ): Promise<{ rows: LogText[]; uptoSeq: number }> {
    const segment = this.#segmentOf(after + 1);
    const block = segment.blocks.find(({ patches }, at) => patches > 0 && lastSeqOf(segment, at) > after);
    const start = block === undefined ? segment.upto_seq : Math.max(after, block.from_seq - 1);
    if (block === undefined || start >= upto) return { rows: [], uptoSeq: Math.min(start, upto) };
    const page = await this.page(start, upto, { maxLength: Math.max(maxLength, MIN_PATCH_SCAN_LENGTH) });
    const rows: LogText[] = [];
    let length = 0;
    for (const { seq, patch } of page) {
      if (patch === null) continue;
      rows.push({ seq, text: patch });
      length += patch.length;
      if (rows.length === limit || length > maxLength) return { rows, uptoSeq: seq };
    }
    return { rows, uptoSeq: page.at(-1)?.seq ?? upto };
  }

  async #sealedRows(
    after: number,
    upto: number,
    limit: number,
    maxLength: number,
    unchecked: boolean,
  ): Promise<LogRow[]> {
    const segment = this.#segmentOf(after + 1);
    const last = Math.min(upto, after + limit);
    if (last <= after) return [];
    const { first, end } = blocksWith(segment, after + 1, last, maxLength);
    const rows: LogRow[] = [];
    let length = 0;
    for (const row of await this.#blockRows(segment, first, end, unchecked)) {
      if (row.seq <= after) continue;
      if (row.seq > last || length > maxLength) break;
      rows.push(row);
      length += row.event.length + (row.patch?.length ?? 0) + (row.receipt?.length ?? 0);
    }
    return rows;
  }

  /** The rows of some blocks. */
  async #blockRows(segment: Segment, first: number, end: number, unchecked: boolean): Promise<LogRow[]> {
    const offset = offsetOf(segment, first);
    const length = offsetOf(segment, end) - offset;
    const object = await this.#fetch(segment, { offset, length });
    const damaged = (at: number, reason: string) =>
      new LogDamaged(segment.blocks[at]?.from_seq ?? 0, lastSeqOf(segment, at), reason);
    const bytes = new Uint8Array(await object.arrayBuffer());
    const rows: LogRow[] = [];
    for (let index = first; index < end; index += 1) {
      const block = segment.blocks[index];
      const part = bytes.subarray(offsetOf(segment, index) - offset, offsetOf(segment, index + 1) - offset);
      const isSound = block !== undefined && sha256Hex(part) === block.sha256;
      if (!isSound && !unchecked) throw damaged(index, "their segment is not what was written");
      rows.push(...readRows(part, block?.from_seq ?? 0));
      if (!isSound) break;
    }
    return rows;
  }

  async #fetch(segment: Segment, range: R2Range): Promise<R2ObjectBody> {
    const damaged = (reason: string) => new LogDamaged(segment.from_seq, segment.upto_seq, reason);
    if (this.#bucket === null) throw damaged("their segment is in a bucket that is no longer bound");
    const object = await this.#bucket.get(segment.key, { range }).catch(async (error: unknown) => {
      // A range past the end of an object fails like a bucket that is out of order.
      const found = await this.#bucket?.head(segment.key);
      if (found?.size === segment.bytes) throw error;
      return null;
    });
    if (object === null) throw damaged("their segment is missing, or cut off");
    return object;
  }
}

/** @throws LogDamaged when these are not the commits that follow a seq. */
function checkContinuity(after: number, rows: readonly { seq: number }[]): void {
  const gap = rows.findIndex((row, index) => row.seq !== after + 1 + index);
  if (gap === -1) return;
  throw new LogDamaged(after + 1 + gap, (rows[gap]?.seq ?? 0) - 1, "commits are missing");
}

/** Seq of the last one. @throws LogDamaged when there is none, though there must be. */
function reached(after: number, upto: number, rows: readonly { seq: number }[]): number {
  const seq = rows.at(-1)?.seq ?? after;
  if (seq === after && after < upto) throw new LogDamaged(after + 1, upto, "commits are missing");
  return seq;
}

/** The commit that a row stores. @throws LogDamaged when its records are no JSON. */
export function commitOf({ seq, event, patch }: Pick<LogRow, "seq" | "event" | "patch">): Commit {
  try {
    return { event: JSON.parse(event), patch: patch === null ? null : JSON.parse(patch) };
  } catch {
    throw new LogDamaged(seq, seq, "a record is not JSON");
  }
}
