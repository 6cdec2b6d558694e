const LINE_FEED = 0x0a;

/**
 * The first line of a stream, and a stream of all of it. The line is null where there is none of at most so many bytes; the
 * stream is whole all the same.
 */
export async function firstLineOf(
  body: ReadableStream<Uint8Array> | null,
  maxBytes: number,
): Promise<{ text: string | null; stream: ReadableStream<Uint8Array> }> {
  const reader = (body ?? new Response("").body)?.getReader();
  const read: Uint8Array[] = [];
  let length = 0;
  let text: string | null = null;
  while (reader !== undefined && text === null && length <= maxBytes) {
    const { done, value } = await reader.read();
    if (done) break;
    const found = value.indexOf(LINE_FEED);
    const end = length + found;
    read.push(value);
    length += value.length;
    if (found !== -1 && end <= maxBytes)
      text = new TextDecoder().decode(Buffer.concat(read).subarray(0, end));
  }
  const stream = new ReadableStream({
    type: "bytes",
    async pull(controller) {
      const kept = read.shift();
      if (kept !== undefined) return controller.enqueue(kept);
      const next = await reader?.read();
      if (next === undefined || next.done) {
        controller.close();
        controller.byobRequest?.respond(0);
      } else controller.enqueue(next.value);
    },
    async cancel(reason) {
      await reader?.cancel(reason);
    },
  });
  return { text, stream };
}
