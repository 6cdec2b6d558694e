import { setTimeout as sleep } from "node:timers/promises";
import { createParser } from "eventsource-parser";
import { WebSocket } from "ws";
import { stringAt } from "../../drill/fields.ts";
import { type Told, toldIn } from "./records.ts";

/** A reader of one stream that resumes by itself, for as long as it takes. */
export interface Follower {
  /** What it was told, in the order of arrival. */
  readonly told: readonly Told[];
  /** Why it follows no longer; undefined while it does. */
  readonly ended: string | undefined;
  /** How often it has come back. */
  readonly resumed: number;
  /** Resolves with the first frame. */
  readonly ready: Promise<void>;
  stop(): void;
}

/** A reader that was not answered, or not with a stream, waits so long. */
const retryMs = 100;
/** Streams say something every ten seconds: one that is silent for longer is dead. */
const silenceMs = 25_000;

/** What both kinds of reader keep. */
class Notes {
  readonly told: Told[] = [];
  ended: string | undefined;
  resumed = -1;
  /** The newest cursor. */
  cursor: string | undefined;
  readonly #ready = Promise.withResolvers<void>();
  readonly ready = this.#ready.promise;

  /** Takes in the data of one frame. */
  take(text: string): void {
    const frame: unknown = JSON.parse(text);
    const one = toldIn(frame);
    if (one !== null) this.told.push(one);
    const type = stringAt(frame, "type") ?? stringAt(frame, "kind");
    const reason = stringAt(frame, "reason");
    if (type === "end" || reason === "expired") this.ended ??= `${type} ${reason}`;
    this.#ready.resolve();
  }

  /** Takes in the status of an answer that is no stream. The run may be about to be made, and the server to wake. */
  refused(status: number): void {
    if (status === 204) this.ended ??= "end terminal";
    else if (status !== 404 && status !== 429 && status < 500) this.ended ??= `answered ${status}`;
  }
}

/** Follows by server-sent events, as docs/streams.md has it: `id:` comes back as `Last-Event-ID`. */
export function followEvents(url: string, token: string): Follower {
  const notes = new Notes();
  let reading = new AbortController();

  async function readOnce(): Promise<void> {
    reading = new AbortController();
    const { signal } = reading;
    let watchdog = setTimeout(() => reading.abort(), silenceMs);
    try {
      const response = await fetch(url, {
        headers: {
          authorization: `Bearer ${token}`,
          ...(notes.cursor !== undefined && { "last-event-id": notes.cursor }),
        },
        signal,
      });
      if (response.status !== 200 || response.body === null) return notes.refused(response.status);
      notes.resumed += 1;
      const parser = createParser({
        onEvent: ({ data }) => notes.take(data),
        onId: (id) => {
          notes.cursor = id;
        },
      });
      for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => reading.abort(), silenceMs);
        parser.feed(text);
      }
    } finally {
      clearTimeout(watchdog);
    }
  }

  void (async () => {
    while (notes.ended === undefined) {
      // Connections break; what the server promises is that nothing is lost by it.
      await readOnce().catch(() => undefined);
      if (notes.ended === undefined) await sleep(retryMs);
    }
  })();
  return follower(notes, () => reading.abort());
}

/** Follows by WebSocket: each message confirms, and the newest cursor comes back in the query. */
export function followSocket(url: string, token: string): Follower {
  const notes = new Notes();
  let socket: WebSocket | undefined;

  function readOnce(): Promise<void> {
    return new Promise((resolve) => {
      const address = new URL(url);
      if (notes.cursor !== undefined) address.searchParams.set("cursor", notes.cursor);
      const opened = new WebSocket(address.href, {
        headers: { authorization: `Bearer ${token}` },
        handshakeTimeout: silenceMs,
        perMessageDeflate: false,
      });
      socket = opened;
      let received = 0;
      let watchdog = setTimeout(() => opened.terminate(), silenceMs);
      opened.on("open", () => {
        notes.resumed += 1;
      });
      opened.on("message", (data) => {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => opened.terminate(), silenceMs);
        const text = String(data);
        notes.take(text);
        notes.cursor = stringAt(JSON.parse(text), "cursor") ?? notes.cursor;
        received += 1;
        opened.send(JSON.stringify({ received }), () => undefined);
      });
      opened.on("unexpected-response", (request, response) => {
        notes.refused(response.statusCode ?? 0);
        request.destroy();
      });
      opened.on("error", () => undefined);
      opened.on("close", () => {
        clearTimeout(watchdog);
        resolve();
      });
    });
  }

  void (async () => {
    while (notes.ended === undefined) {
      await readOnce();
      if (notes.ended === undefined) await sleep(retryMs);
    }
  })();
  return follower(notes, () => socket?.terminate());
}

function follower(notes: Notes, hangUp: () => void): Follower {
  return {
    told: notes.told,
    get ended() {
      return notes.ended;
    },
    get resumed() {
      return Math.max(0, notes.resumed);
    },
    ready: notes.ready,
    stop: () => {
      notes.ended ??= "stopped";
      hangUp();
    },
  };
}
