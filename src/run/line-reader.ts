/** One line of a stream, without its line break. */
export interface Line {
  /** From 1. */
  number: number;
  text: string;
  /** With its line break. */
  bytes: Uint8Array;
}

/** Why a stream could not be cut into lines. */
export class LineFault extends Error {
  readonly line: number;
  readonly rule: "complete" | "terminated" | "max_length" | "utf8";

  constructor(line: number, rule: LineFault["rule"], message: string) {
    super(message);
    this.line = line;
    this.rule = rule;
  }
}

const LINE_FEED = 0x0a;
const MAX_DRAINED_BYTES = 16 * 1024 * 1024;

/**
 * The lines of a stream, one at a time: what is held is a line and the chunk it ends in. Every line ends with a line break.
 * @throws LineFault, also when the stream fails.
 */
export async function* linesOf(
  stream: ReadableStream<Uint8Array>,
  maxLineBytes: number,
): AsyncGenerator<Line> {
  const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  let number = 1;
  for await (const chunk of chunksOf(stream, () => number)) {
    for (let start = 0; start < chunk.length; ) {
      const found = chunk.indexOf(LINE_FEED, start);
      const end = found === -1 ? chunk.length : found + 1;
      pending.push(chunk.subarray(start, end));
      pendingBytes += end - start;
      if (pendingBytes > maxLineBytes) {
        throw new LineFault(number, "max_length", `a line has at most ${maxLineBytes} bytes`);
      }
      start = end;
      if (found === -1) continue;
      const bytes = joined(pending, pendingBytes);
      pending = [];
      pendingBytes = 0;
      yield { number, text: decoded(utf8, bytes, number), bytes };
      number += 1;
    }
  }
  if (pendingBytes > 0) throw new LineFault(number, "terminated", "the last line has no line break");
}

/** A sender that is still sending does not see an answer: some of what is left is read, and thrown away. */
async function drain(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  try {
    for (let bytes = 0; bytes < MAX_DRAINED_BYTES; ) {
      const { done, value } = await reader.read();
      if (done) return;
      bytes += value.length;
    }
    await reader.cancel();
  } catch {
    // It broke off: there is nothing left.
  }
}

async function* chunksOf(stream: ReadableStream<Uint8Array>, line: () => number): AsyncGenerator<Uint8Array> {
  const reader = stream.getReader();
  reader.closed.catch(() => undefined);
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        throw new LineFault(line(), "complete", `the stream broke off: ${String(error)}`);
      });
      if (done) return;
      yield value;
    }
  } finally {
    await drain(reader);
  }
}

function joined(pieces: Uint8Array[], length: number): Uint8Array {
  const [first] = pieces;
  if (pieces.length === 1 && first !== undefined) return first;
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const piece of pieces) {
    bytes.set(piece, offset);
    offset += piece.length;
  }
  return bytes;
}

function decoded(utf8: TextDecoder, bytes: Uint8Array, number: number): string {
  try {
    return utf8.decode(bytes.subarray(0, -1));
  } catch {
    throw new LineFault(number, "utf8", "is not UTF-8");
  }
}
