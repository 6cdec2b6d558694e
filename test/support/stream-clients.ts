import { setTimeout as delay } from "node:timers/promises";
import { EventSource as NpmEventSource } from "eventsource";
import { createParser } from "eventsource-parser";
import { Agent, EventSource as UndiciEventSource } from "undici";
import { WebSocket } from "ws";
import type { EventRecord } from "../../src/protocol/event.ts";

/** The JSON of one frame; of every kind of frame the members that tests look at. */
export interface Frame {
  type?: string;
  kind?: string;
  status?: string;
  reason?: string;
  run_id?: string;
  runID?: string;
  stream?: string;
  subscribed_run_ids?: string[];
  properties?: EventRecord;
  payload?: EventRecord;
  cursor?: string;
}

/** A client that follows one stream, resuming by itself where a connection was cut. */
export interface StreamClient {
  /** Every frame it was given, in the order of arrival. */
  readonly frames: readonly Frame[];
  /** Why it follows no longer; undefined while it does. */
  readonly ended: string | undefined;
  /** Ends it; it can still be asked for its frames. */
  stop(): void | Promise<void>;
}

/** How long a client that resumes at once waits all the same when it was not answered. */
const UNANSWERED_MS = 50;

/** Opens a stream with one of the clients. */
export type Follow = (url: string, token: string) => StreamClient | Promise<StreamClient>;

/** The events of the frames, as the log has them. */
export function eventsIn(frames: readonly Frame[]): EventRecord[] {
  return frames.flatMap((frame) => {
    const event = frame.type === "run.event" ? frame.properties : undefined;
    const ofMany = frame.kind === "context_run_event" ? frame.payload : undefined;
    return event ?? ofMany ?? [];
  });
}

/** What the EventSource classes have in common. */
interface AnyEventSource {
  readonly readyState: number;
  addEventListener(type: "message" | "end" | "error", listener: (event: { data?: unknown }) => void): void;
  close(): void;
}

const CLOSED = 2;

function listenTo(source: AnyEventSource): StreamClient {
  const frames: Frame[] = [];
  for (const type of ["message", "end"] as const) {
    source.addEventListener(type, ({ data }) => void frames.push(JSON.parse(String(data))));
  }
  return {
    frames,
    get ended() {
      return source.readyState === CLOSED ? "closed" : undefined;
    },
    stop: () => source.close(),
  };
}

/** The npm package `eventsource`. */
export const followWithEventSource: Follow = (url, token) =>
  listenTo(
    new NpmEventSource(url, {
      fetch: (input, init) =>
        fetch(input, { ...init, headers: { ...init.headers, authorization: `Bearer ${token}` } }),
    }),
  );

/** The EventSource of undici, which can be given headers by its dispatcher only. */
export const followWithUndici: Follow = (url, token) => {
  const dispatcher = new Agent().compose((dispatch) => (options, handler) => {
    const headers = { ...(options.headers as Record<string, string>), authorization: `Bearer ${token}` };
    return dispatch({ ...options, headers }, handler);
  });
  return listenTo(new UndiciEventSource(url, { node: { dispatcher } }));
};

/** A loop over `fetch` and the npm package `eventsource-parser`, as an SDK would have it. */
export const followWithFetch: Follow = (url, token) => {
  const frames: Frame[] = [];
  let reading = new AbortController();
  let ended: string | undefined;
  let lastId: string | undefined;

  /** Reads until the connection breaks or the answer ends. */
  const readOnce = async (): Promise<void> => {
    const headers = {
      authorization: `Bearer ${token}`,
      ...(lastId !== undefined && { "last-event-id": lastId }),
    };
    reading = new AbortController();
    const response = await fetch(url, { headers, signal: reading.signal }).catch(() => undefined);
    if (response === undefined) return delay(UNANSWERED_MS);
    if (response.status !== 200 || response.body === null) {
      ended = `answered ${response.status}`;
      return;
    }
    const parser = createParser({
      onEvent: ({ data }) => void frames.push(JSON.parse(data)),
      // A keep-alive may have one too, without data.
      onId: (id) => {
        lastId = id;
      },
    });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const read = await reader.read().catch(() => undefined);
      if (read?.value === undefined) return;
      parser.feed(read.value);
    }
  };

  void (async () => {
    while (ended === undefined) await readOnce();
  })().catch((error: unknown) => {
    ended = String(error);
  });
  return {
    frames,
    get ended() {
      return ended;
    },
    stop: () => {
      ended ??= "stopped";
      reading.abort();
    },
  };
};

/** The npm package `ws`: it confirms what it received and resumes by the newest cursor. */
export const followWithWs: Follow = (url, token) => followSockets(url, token, { confirms: true });

/** The same, but it never confirms anything. */
export const followWithSilentWs: Follow = (url, token) => followSockets(url, token, { confirms: false });

function followSockets(url: string, token: string, { confirms }: { confirms: boolean }): StreamClient {
  const frames: Frame[] = [];
  let ended: string | undefined;
  let cursor: string | undefined;
  let socket: WebSocket;

  const open = (): void => {
    const address = new URL(url);
    if (cursor !== undefined) address.searchParams.set("cursor", cursor);
    let received = 0;
    socket = new WebSocket(address.href, {
      headers: { authorization: `Bearer ${token}` },
      // So that texts are on the wire as they are, and cuts fall into them.
      perMessageDeflate: false,
    });
    socket.on("message", (data) => {
      const frame: Frame = JSON.parse(String(data));
      frames.push(frame);
      cursor = frame.cursor ?? cursor;
      received++;
      if (confirms) socket.send(JSON.stringify({ received }));
      if (frame.type === "end") ended = "end";
    });
    socket.on("unexpected-response", (_request, response) => {
      ended = `answered ${response.statusCode}`;
      response.destroy();
    });
    socket.on("error", () => undefined);
    socket.on("close", () => {
      setTimeout(() => ended ?? open(), received > 0 ? 0 : UNANSWERED_MS);
    });
  };

  open();
  return {
    frames,
    get ended() {
      return ended;
    },
    stop: () => {
      ended ??= "stopped";
      socket.terminate();
    },
  };
}
