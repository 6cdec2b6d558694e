import type { Frame } from "../protocol/stream-frames.ts";
import type { Batch } from "./pump.ts";

/**
 * A stream's batches for as long as its reader's credential counts. That is asked before each batch, so at least once in the
 * time of a keep-alive; the last frame says that it is over, and where the reader is.
 * @param ended why the credential counts no longer; null while it does.
 * @param frame the frame that says so to a reader who has the batch and all before.
 */
export async function* whileValid<Why extends string>(
  batches: AsyncIterable<Batch>,
  ended: () => Promise<Why | null>,
  frame: (why: Why, had: Batch) => Frame,
): AsyncGenerator<Batch> {
  let had: Batch | null = null;
  for await (const batch of batches) {
    const why = await ended();
    if (why !== null) {
      const { id, resume } = had ?? batch;
      const last = frame(why, had ?? batch);
      return yield {
        frames: [last],
        id,
        ...(resume !== undefined && { resume }),
        end: { isComplete: false },
      };
    }
    yield batch;
    had = batch;
  }
}
