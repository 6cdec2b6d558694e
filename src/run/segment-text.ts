import { sha256Hex } from "../artifacts/sha256.ts";
import { commitHash, type LogRow } from "./chain.ts";
import type { Segment, SegmentBlock } from "./storage/segments.ts";

/** A block ends after so many commits, or so many UTF-16 units: a page of a few commits need not fetch more. */
const BLOCK_COMMITS = 100;
const BLOCK_LENGTH = 512 * 1024;

/** A row as a line of a segment, without its line break; always the same text for the same row. */
export function rowLine({ seq, prev_hash, command_id, receipt, event, patch }: LogRow): string {
  return JSON.stringify({ seq, prev_hash, command_id, receipt, event, patch });
}

/**
 * Rows that follow each other, as the bytes of a segment and what is remembered of it.
 * @throws RangeError when there are none.
 */
export function packSegment(key: string, rows: readonly LogRow[]): { bytes: Uint8Array; segment: Segment } {
  const [first, last] = [rows[0], rows.at(-1)];
  if (first === undefined || last === undefined) throw new RangeError("a segment has rows");
  const parts: Uint8Array[] = [];
  const blocks: SegmentBlock[] = [];
  let offset = 0;
  for (const block of inBlocks(rows)) {
    const bytes = new TextEncoder().encode(block.text);
    blocks.push({ from_seq: block.fromSeq, offset, sha256: sha256Hex(bytes), patches: block.patches });
    parts.push(bytes);
    offset += bytes.length;
  }
  const bytes = new Uint8Array(offset);
  for (const [index, part] of parts.entries()) bytes.set(part, blocks[index]?.offset);
  const segment: Segment = {
    from_seq: first.seq,
    upto_seq: last.seq,
    key,
    bytes: offset,
    sha256: sha256Hex(bytes),
    prev_hash: first.prev_hash,
    log_hash: commitHash(last),
    blocks,
  };
  return { bytes, segment };
}

function* inBlocks(rows: readonly LogRow[]): Generator<{ fromSeq: number; text: string; patches: number }> {
  let text = "";
  let count = 0;
  let patches = 0;
  for (const row of rows) {
    text += `${rowLine(row)}\n`;
    count += 1;
    if (row.patch !== null) patches += 1;
    if (count < BLOCK_COMMITS && text.length < BLOCK_LENGTH && row !== rows.at(-1)) continue;
    yield { fromSeq: row.seq - count + 1, text, patches };
    text = "";
    count = 0;
    patches = 0;
  }
}

/** The blocks that hold the commits of these seqs, as indices: one at least, more until they are long enough. */
export function blocksWith(
  { blocks }: Segment,
  from: number,
  upto: number,
  maxLength: number,
): { first: number; end: number } {
  const following = blocks.findIndex((block) => block.from_seq > from);
  const first = following === -1 ? blocks.length - 1 : following - 1;
  const start = blocks[first]?.offset ?? 0;
  let end = first + 1;
  for (let next = blocks[end]; next !== undefined; next = blocks[end]) {
    if (next.from_seq > upto || next.offset - start > maxLength) break;
    end += 1;
  }
  return { first, end };
}

/** Where a block's bytes begin; the end of the segment for the index after the last one. */
export function offsetOf({ blocks, bytes }: Segment, index: number): number {
  return blocks[index]?.offset ?? bytes;
}

/** Seq of the last commit of a block. */
export function lastSeqOf({ blocks, upto_seq }: Segment, index: number): number {
  return (blocks[index + 1]?.from_seq ?? upto_seq + 1) - 1;
}

/** The rows that the lines of a block tell, up to the first line that is not as `rowLine` writes it. */
export function readRows(bytes: Uint8Array, fromSeq: number): LogRow[] {
  const rows: LogRow[] = [];
  for (const line of new TextDecoder("utf-8", { fatal: false, ignoreBOM: true }).decode(bytes).split("\n")) {
    const row = readRow(line);
    if (row === null || row.seq !== fromSeq + rows.length) break;
    rows.push(row);
  }
  return rows;
}

function readRow(line: string): LogRow | null {
  try {
    const row = JSON.parse(line) as LogRow;
    return rowLine(row) === line ? row : null;
  } catch {
    return null;
  }
}
