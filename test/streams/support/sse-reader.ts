import { exports } from "cloudflare:workers";
import { eventually } from "../../run/support/test-run.ts";

/** The members of a frame's JSON that tests look at. */
export interface FrameData {
  type?: string;
  kind?: string;
  reason?: string;
  status?: string;
  cursor?: string;
  run_id?: string;
  workspace?: string | null;
  seq?: number;
  ts_ms?: number;
  subscribed_run_ids?: string[];
  /** Of a run's stream: the record. */
  properties?: LogRecord;
  /** Of a stream of many runs: the record. */
  payload?: LogRecord;
}

/** An event or a patch, as lists show it. */
export interface LogRecord {
  seq: number;
  run_id: string;
}

/** A complete frame of an event stream. */
export interface SseFrame {
  id: string | null;
  /** Of a control frame. */
  event: string | null;
  /** Null for a comment. */
  data: FrameData | null;
  comment: string | null;
}

/** Reads an event stream's bytes. What is not complete yet is kept back, and lost with the parser. */
export class SseParser {
  readonly #utf8 = new TextDecoder();
  #text = "";

  push(bytes: Uint8Array): SseFrame[] {
    this.#text += this.#utf8.decode(bytes, { stream: true });
    const blocks = this.#text.split("\n\n");
    this.#text = blocks.pop() ?? "";
    return blocks.map(frameOf);
  }
}

function frameOf(block: string): SseFrame {
  const frame: SseFrame = { id: null, event: null, data: null, comment: null };
  for (const line of block.split("\n")) {
    const [, field = "", value = ""] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (field === "") frame.comment = value;
    if (field === "id") frame.id = value;
    if (field === "event") frame.event = value;
    if (field === "data") frame.data = JSON.parse(value) as FrameData;
  }
  return frame;
}

/** Sends a request to the Worker, as everybody else does. */
export function fetchWorker(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return exports.default.fetch(
    new Request(`http://baton.test${path}`, { headers: { "x-agent-token": "test-token", ...headers } }),
  );
}

/** How a reader asks for its stream. */
export interface Asking {
  path: string;
  headers?: Record<string, string>;
}

export interface ReaderOptions {
  /** What to ask for, given what it has. */
  ask: (reader: SseReader) => Asking;
  /** Bytes after which each connection is cut by the reader; later ones are not. */
  cuts?: readonly number[];
  fetch?: (asking: Asking) => Promise<Response>;
}

/** The answers to opening that a client may retry: the server is there again in a moment. */
const MIN_RETRIED_STATUS = 500;
const RETRY_DELAY_MS = 10;

/**
 * A client of an event stream that comes back whenever its connection ends: cut by itself after some bytes, or ended by
 * the server. It knows nothing but the frames that were complete.
 */
export class SseReader {
  /** Complete frames, over all connections. */
  readonly frames: SseFrame[] = [];
  /** Id of the last complete frame that had one. */
  lastId: string | null = null;
  /** Connections that were answered with a stream. */
  connections = 0;
  /** How often the server ended the stream. */
  endings = 0;
  readonly #options: ReaderOptions;
  readonly #cuts: number[];
  #connection: ReadableStreamDefaultReader<Uint8Array> | null = null;
  #isStopped = false;
  #failure: unknown = null;
  readonly #done: Promise<void>;

  constructor(options: ReaderOptions) {
    this.#options = options;
    this.#cuts = [...(options.cuts ?? [])];
    this.#done = this.#read().catch((error: unknown) => {
      this.#failure = error;
    });
  }

  /** The content so far: without control frames and comments. */
  get content(): FrameData[] {
    return this.frames.flatMap(({ data, event }) => (data === null || event !== null ? [] : [data]));
  }

  /** Cuts the connection it has; the reader comes back. */
  async cut(): Promise<void> {
    await this.#connection?.cancel().catch(() => undefined);
  }

  /** Waits until it is so. @throws when it is not within ten seconds, or the reader was refused. */
  async until(isSo: (reader: SseReader) => boolean, withinMs = 10_000): Promise<void> {
    await eventually(
      async () => {
        if (this.#failure !== null) throw this.#failure;
        return isSo(this);
      },
      Boolean,
      withinMs,
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}; the reader has ${this.describe()}`);
    });
  }

  /** Ends the reader; what it has stays. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.cut();
    await this.#done;
  }

  describe(): string {
    const ids = this.frames.map(({ id, event, comment }) => event ?? id ?? comment ?? "frame");
    const last = ids.slice(-5).join(" ");
    return `${ids.length} frames, ending with ${last}, over ${this.connections} connections, ${this.endings} ended`;
  }

  async #read(): Promise<void> {
    while (!this.#isStopped) {
      const asking = this.#options.ask(this);
      const fetch = this.#options.fetch ?? (({ path, headers }: Asking) => fetchWorker(path, headers));
      const response = await fetch(asking);
      if (response.status >= MIN_RETRIED_STATUS) {
        await response.body?.cancel();
        await scheduler.wait(RETRY_DELAY_MS);
        continue;
      }
      if (response.status !== 200 || response.body === null) {
        throw new Error(`${asking.path} was answered with ${response.status}: ${await response.text()}`);
      }
      await this.#readConnection(response.body.getReader(), this.#cuts.shift() ?? Number.POSITIVE_INFINITY);
    }
  }

  async #readConnection(connection: ReadableStreamDefaultReader<Uint8Array>, cut: number): Promise<void> {
    this.#connection = connection;
    this.connections += 1;
    if (this.#isStopped) await this.cut();
    const parser = new SseParser();
    for (let rest = cut; ; ) {
      const { value } = await connection.read().catch(() => ({ value: undefined }));
      if (value === undefined) {
        if (!this.#isStopped) this.endings += 1;
        return;
      }
      for (const frame of parser.push(value.subarray(0, rest))) this.#take(frame);
      rest -= value.byteLength;
      if (rest > 0) continue;
      await connection.cancel().catch(() => undefined);
      return;
    }
  }

  #take(frame: SseFrame): void {
    this.frames.push(frame);
    this.lastId = frame.id ?? this.lastId;
  }
}
