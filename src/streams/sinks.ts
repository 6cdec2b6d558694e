import { type Frame, sseKeepAlive, sseText } from "../protocol/stream-frames.ts";

/** Where a stream's frames go. */
export interface Sink {
  /** Resolves when there is room for more: the reader reads, or what it has not read is still bounded. Rejects when it left. */
  write(frames: readonly Frame[]): Promise<void>;
  /** Shows the reader that the stream is alive; `id` is where it is. */
  keepAlive(id: string | null): Promise<void>;
  /** Sends the last frames, behind whatever the reader has not read yet, and ends. Nothing is waited for. */
  end(frames: readonly Frame[], isComplete: boolean): void;
  /** How long a reader that takes nothing is waited for, in milliseconds. */
  readonly patienceMs: number;
}

/** Readers are waited for so long. */
const PATIENCE_MS = 30_000;
/** A WebSocket reader that has never confirmed anything may not know that it should. */
const FIRST_PATIENCE_MS = 5_000;

/** How long `EventSource` waits before it comes back, in milliseconds. */
const RETRY_MS = 1_000;

/** An event stream in the body of a response. */
export class SseSink implements Sink {
  readonly body: ReadableStream<Uint8Array>;
  readonly patienceMs = PATIENCE_MS;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #utf8 = new TextEncoder();

  /** @param onLeft called once when the reader has left. */
  constructor(onLeft: () => void) {
    // Unlike other streams, this one's writes end when the reader's connection has taken the bytes.
    const { readable, writable } = new IdentityTransformStream();
    this.body = readable;
    this.#writer = writable.getWriter();
    this.#writer.closed.catch(onLeft);
  }

  write(frames: readonly Frame[]): Promise<void> {
    let text = "";
    for (const frame of frames) text += sseText(frame);
    return this.#send(text);
  }

  keepAlive(id: string | null): Promise<void> {
    return this.#send(sseKeepAlive(id));
  }

  /** Tells `EventSource` when to come back; before all frames. */
  sendRetry(): void {
    this.#send(`retry: ${RETRY_MS}\n`).catch(() => undefined);
  }

  end(frames: readonly Frame[]): void {
    this.write(frames).catch(() => undefined);
    this.#writer.close().catch(() => undefined);
  }

  #send(text: string): Promise<void> {
    return this.#writer.write(this.#utf8.encode(text));
  }
}

/** UTF-16 units that a WebSocket reader may leave unconfirmed. The platform does not tell what a socket has not sent yet. */
const MAX_UNCONFIRMED = 1024 * 1024;

/**
 * A WebSocket: each message is the data of one frame. The reader confirms now and then with `{"received":n}`, n being how
 * many messages it has had. One that never does is not waited for long when too much is on its way.
 */
export class WebSocketSink implements Sink {
  readonly client: WebSocket;
  readonly #socket: WebSocket;
  readonly #keepAliveData: string;
  /** Length of the unconfirmed messages, first the oldest. */
  #unconfirmed: number[] = [];
  #length = 0;
  #confirmed = 0;
  #room: PromiseWithResolvers<void> | null = null;
  #hasLeft = false;
  readonly #onLeft: () => void;

  constructor(keepAliveData: string, onLeft: () => void) {
    const { 0: client, 1: socket } = new WebSocketPair();
    this.client = client;
    this.#socket = socket;
    this.#keepAliveData = keepAliveData;
    this.#onLeft = onLeft;
    socket.accept();
    socket.addEventListener("message", ({ data }) => this.#heard(data));
    socket.addEventListener("close", () => this.#left());
    socket.addEventListener("error", () => this.#left());
  }

  get patienceMs(): number {
    return this.#confirmed === 0 ? FIRST_PATIENCE_MS : PATIENCE_MS;
  }

  write(frames: readonly Frame[]): Promise<void> {
    for (const { data, comment } of frames) if (comment === undefined) this.#send(data);
    if (this.#hasLeft) return Promise.reject(new Error("the reader has left"));
    if (this.#length <= MAX_UNCONFIRMED) return Promise.resolve();
    this.#room ??= Promise.withResolvers<void>();
    return this.#room.promise;
  }

  keepAlive(): Promise<void> {
    return this.write([{ data: this.#keepAliveData }]);
  }

  end(frames: readonly Frame[], isComplete: boolean): void {
    for (const { data, comment } of frames) if (comment === undefined) this.#send(data);
    // 1013: try again later.
    this.#close(
      isComplete ? 1000 : 1013,
      isComplete ? "the stream has ended" : "resume with the last cursor",
    );
  }

  #send(data: string): void {
    if (this.#hasLeft) return;
    this.#socket.send(data);
    this.#unconfirmed.push(data.length);
    this.#length += data.length;
  }

  #heard(data: unknown): void {
    const received = receivedOf(data);
    if (
      received === null ||
      received < this.#confirmed ||
      received > this.#confirmed + this.#unconfirmed.length
    ) {
      this.#close(1008, 'send {"received":n}, n being how many messages were received');
      this.#left();
      return;
    }
    for (const length of this.#unconfirmed.splice(0, received - this.#confirmed)) this.#length -= length;
    this.#confirmed = received;
    if (this.#room === null || this.#length > MAX_UNCONFIRMED) return;
    this.#room.resolve();
    this.#room = null;
  }

  #left(): void {
    if (this.#hasLeft) return;
    this.#hasLeft = true;
    this.#room?.reject(new Error("the reader has left"));
    this.#onLeft();
  }

  #close(code: number, reason: string): void {
    this.#socket.close(code, reason);
  }
}

/** How many messages a reader says it has received; null for a message that does not say so. */
export function receivedOf(data: unknown): number | null {
  if (typeof data !== "string") return null;
  try {
    const received = (JSON.parse(data) as { received?: unknown } | null)?.received;
    return Number.isSafeInteger(received) ? (received as number) : null;
  } catch {
    return null;
  }
}
