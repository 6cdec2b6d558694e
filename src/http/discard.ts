const MAX_DISCARDED_BYTES = 64 * 1024 * 1024;

/** Reads a body and throws it away, up to a bound: a client that is still sending does not see an answer before it is done. */
export async function discard(body: ReadableStream<Uint8Array> | null): Promise<void> {
  let length = 0;
  try {
    for await (const chunk of body ?? []) {
      length += chunk.length;
      if (length > MAX_DISCARDED_BYTES) return;
    }
  } catch {
    // It broke off: there is nothing left.
  }
}
