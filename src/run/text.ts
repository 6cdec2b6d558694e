/** JSON text too long to be held at once is streamed; the two read the same. */
export type Text = string | ReadableStream<Uint8Array>;

/** Up to here an answer is one string; past it, a stream of pieces of about this size. In UTF-16 units. */
const PIECE_LENGTH = 1024 * 1024;

/** Joins pieces of text, or streams them when there is too much. Pieces are taken from the iterator as they are needed. */
export function toText(pieces: Iterator<string>): Text {
  const first = nextPiece(pieces);
  if (first.done) return first.text;
  const utf8 = new TextEncoder();
  let pending = first.text;
  return new ReadableStream({
    type: "bytes",
    pull(controller) {
      controller.enqueue(utf8.encode(pending));
      const next = nextPiece(pieces);
      pending = next.text;
      if (!next.done) return;
      if (pending !== "") controller.enqueue(utf8.encode(pending));
      controller.close();
    },
  });
}

/** The same for pieces that have to be waited for. What fails after the first piece fails the stream. */
export async function streamedText(pieces: AsyncIterator<string>): Promise<Text> {
  const first = await nextPieceOf(pieces);
  if (first.done) return first.text;
  const utf8 = new TextEncoder();
  let pending = first.text;
  return new ReadableStream({
    type: "bytes",
    async pull(controller) {
      controller.enqueue(utf8.encode(pending));
      const next = await nextPieceOf(pieces);
      pending = next.text;
      if (!next.done) return;
      if (pending !== "") controller.enqueue(utf8.encode(pending));
      controller.close();
    },
  });
}

async function nextPieceOf(pieces: AsyncIterator<string>): Promise<{ text: string; done: boolean }> {
  const parts: string[] = [];
  for (let length = 0; length < PIECE_LENGTH; ) {
    const next = await pieces.next();
    if (next.done) return { text: parts.join(""), done: true };
    parts.push(next.value);
    length += next.value.length;
  }
  return { text: parts.join(""), done: false };
}

function nextPiece(pieces: Iterator<string>): { text: string; done: boolean } {
  const parts: string[] = [];
  for (let length = 0; length < PIECE_LENGTH; ) {
    const next = pieces.next();
    if (next.done) return { text: parts.join(""), done: true };
    parts.push(next.value);
    length += next.value.length;
  }
  return { text: parts.join(""), done: false };
}
