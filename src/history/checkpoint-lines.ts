import { memoryStateLines } from "../domain/state-lines.ts";
import { openContent } from "../run/checkpoint-content.ts";
import type { WholeCheckpoint } from "../run/checkpoint-keeper.ts";
import { type HistorySource, stateAt } from "./state-at.ts";

/**
 * Reads the lines of a checkpoint, as often as it is called. What cannot be read (an object was taken away) is made anew
 * from the log: a checkpoint is the state at its seq and nothing else.
 */
export function checkpointLines(
  source: HistorySource,
  { head: { seq }, content }: WholeCheckpoint,
): () => Promise<AsyncIterable<string>> {
  let isFresh = true;
  return async () => {
    let place = content;
    // A stream can be read once.
    if (!isFresh && "text" in content && typeof content.text !== "string") {
      const again = await source.run.readCheckpoint(String(seq));
      if (!again.ok || again.value === null) throw new Error("the checkpoint has gone");
      place = again.value.content;
    }
    isFresh = false;
    return (await openContent(place, source.bucket)) ?? anew(source, seq);
  };
}

async function* anew(source: HistorySource, seq: number): AsyncGenerator<string> {
  const found = await stateAt(source, seq);
  if (!found.ok) throw new Error(found.refusal.error);
  yield* memoryStateLines(found.value.state);
}
