import { type Batch, Pump } from "../streams/pump.ts";
import { controlFrame } from "../streams/run-stream.ts";
import { type Sink, SseSink, WebSocketSink } from "../streams/sinks.ts";
import { whileValid } from "../streams/while-valid.ts";
import type { Call } from "./call.ts";
import type { HttpAnswer } from "./http-answer.ts";
import { seatFor } from "./seat.ts";
import { endOfCredential } from "./standing.ts";

/** What a stream's frames are named by: `type` in a run's stream, `kind` in one of many runs. */
export type FrameName = "type" | "kind";

/** Where a stream's content comes from; closed when its reader has left. */
interface Closable {
  close(): void;
}

/**
 * An answer that is a stream: an event stream, or a WebSocket where the request asks to be upgraded. `open` makes the source,
 * which tells `onArrival` the length of what it is told.
 */
export async function streamAnswer<Source extends Closable>(
  call: Call,
  frameName: FrameName,
  open: (onArrival: (length: number) => void) => Promise<Source>,
  batchesOf: (source: Source) => Promise<AsyncGenerator<Batch> | null>,
): Promise<HttpAnswer> {
  let pump: Pump | null = null;
  const seat = await seatFor(call);
  let source: Source | null = null;
  let batches: AsyncGenerator<Batch> | null = null;
  const close = (): void => {
    source?.close();
    seat?.release();
  };
  try {
    source = await open((length) => pump?.arrived(length));
    batches = await batchesOf(source);
  } finally {
    if (batches === null) close();
  }
  // Nothing is left, and a client that comes back by itself shall stop (HTML, server-sent events).
  if (batches === null) return { status: 204, headers: {}, body: null };
  const { sink, answer } = sinkFor(call, frameName, close);
  if (call.request.method === "HEAD") {
    close();
    return answer;
  }
  pump = new Pump(sink, ({ id, resume }) =>
    controlFrame("overrun", { [frameName]: "overrun", ...resume }, id),
  );
  void pump
    .run(forCredential(call, frameName, batches))
    .catch((error: unknown) => {
      console.error(JSON.stringify({ event: "stream_failed", error: String(error) }));
      // Without a cursor: the reader has the one of its last frame.
      const gap = {
        data: JSON.stringify({ [frameName]: "gap", reason: "unavailable" }),
        event: "gap" as const,
      };
      sink.end([call.door === "native" ? gap : { data: "", comment: `gap ${gap.data}` }], false);
    })
    .finally(close);
  return answer;
}

/** The batches for as long as the call's credential counts. The root credential's always does. */
function forCredential(
  call: Call,
  frameName: FrameName,
  batches: AsyncGenerator<Batch>,
): AsyncIterable<Batch> {
  if (call.principal.kind === "root") return batches;
  return whileValid(
    batches,
    () => endOfCredential(call),
    (why, { id, resume }) =>
      controlFrame("end", { [frameName]: "end", reason: `credential_${why}`, ...resume }, id),
  );
}

function sinkFor(call: Call, frameName: FrameName, onLeft: () => void): { sink: Sink; answer: HttpAnswer } {
  // There is nothing to upgrade in a request for the headers.
  const isHead = call.request.method === "HEAD";
  if (!isHead && call.request.headers.get("upgrade")?.toLowerCase() === "websocket") {
    const sink = new WebSocketSink(JSON.stringify({ [frameName]: "keep_alive" }), onLeft);
    return { sink, answer: { status: 101, headers: {}, body: null, webSocket: sink.client } };
  }
  const sink = new SseSink(onLeft);
  if (call.door === "native") sink.sendRetry();
  const headers = { "content-type": "text/event-stream", "cache-control": "no-cache" };
  return { sink, answer: { status: 200, headers, body: sink.body } };
}
