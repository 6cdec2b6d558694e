import { request } from "node:http";
import { WebSocket } from "undici";
import { inject, onTestFinished } from "vitest";
import {
  type EventRecord,
  type HeaderChanges,
  must,
  newRun,
  type Patch,
  type RunRoutes,
  routes,
} from "./support.ts";

/** Registers what closes a stream when its test has ended; concurrent tests hand in their own. */
export type OnFinished = (close: () => void) => void;

export interface StreamOptions {
  method?: string;
  headers?: HeaderChanges;
  onFinished?: OnFinished;
}

/** A reader that gets nothing for so long fails. */
const DEADLINE_MS = 20_000;

async function inTime<T>(promise: Promise<T>, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${DEADLINE_MS} ms`)), DEADLINE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** An answer that is an event stream, read block by block as it arrives. */
export class EventStream {
  readonly status: number;
  readonly headers: Headers;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | null;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  #text = "";

  constructor(response: Response) {
    this.status = response.status;
    this.headers = response.headers;
    this.#reader = (response.body?.getReader() ?? null) as ReadableStreamDefaultReader<Uint8Array> | null;
  }

  /** The next block with its empty line, exactly as it was sent; null when the stream has ended behind a whole block. */
  async block(): Promise<string | null> {
    for (;;) {
      const end = this.#text.indexOf("\n\n") + 2;
      if (end > 1) {
        const block = this.#text.slice(0, end);
        this.#text = this.#text.slice(end);
        return block;
      }
      const read = this.#reader === null ? undefined : await inTime(this.#reader.read(), "block");
      if (read === undefined || read.done) {
        if (this.#text !== "") throw new Error(`the stream ended in ${JSON.stringify(this.#text)}`);
        return null;
      }
      this.#text += this.#utf8.decode(read.value, { stream: true });
    }
  }

  /** So many blocks. */
  async blocks(count: number): Promise<string[]> {
    const blocks: string[] = [];
    while (blocks.length < count) {
      const block = await this.block();
      if (block === null) throw new Error(`the stream ended after ${blocks.length} of ${count} blocks`);
      blocks.push(block);
    }
    return blocks;
  }

  /** The next frame; keep-alives are skipped. */
  async frame(): Promise<Frame> {
    for (;;) {
      const [block = ""] = await this.blocks(1);
      const frame = frameOf(block);
      if (frame !== null) return frame;
    }
  }

  /** So many frames. */
  async frames(count: number): Promise<Frame[]> {
    const frames: Frame[] = [];
    while (frames.length < count) frames.push(await this.frame());
    return frames;
  }

  /** All frames until the stream ends. */
  async rest(): Promise<Frame[]> {
    const frames: Frame[] = [];
    for (let block = await this.block(); block !== null; block = await this.block()) {
      const frame = frameOf(block);
      if (frame !== null) frames.push(frame);
    }
    return frames;
  }
}

/** One frame of an event stream. */
export interface Frame {
  id?: string;
  event?: string;
  retry?: string;
  /** The JSON as it was sent. */
  text: string;
  json: FrameJson;
}

/** Every member a frame may have. A test reads only what the frame at hand has. */
export interface FrameJson {
  type: string;
  kind: string;
  run_id: string;
  runID: string;
  workspace: string;
  seq: number;
  ts_ms: number;
  status: string;
  reason: string;
  cursor: string;
  timestamp_ms: number;
  subscribed_run_ids: string[];
  properties: EventRecord & Patch;
  payload: EventRecord & Patch;
  tenantContext: Record<string, unknown>;
}

/** A block's fields; null for a comment. Strict: each field once at most, and one space behind the colon. */
function frameOf(block: string): Frame | null {
  const fields = new Map<string, string>();
  for (const line of block.slice(0, -2).split("\n")) {
    if (line.startsWith(":")) continue;
    const match = /^(id|event|retry|data): (.+)$/.exec(line);
    const [, name = "", value = ""] = match ?? [];
    if (match === null || fields.has(name)) throw new Error(`no frame: ${JSON.stringify(block)}`);
    fields.set(name, value);
  }
  const { data, ...others } = Object.fromEntries(fields) as Record<string, string>;
  if (data === undefined) return null;
  return { ...others, text: data, json: JSON.parse(data) as FrameJson };
}

/** Opens a stream with the credential. It is closed when the test has ended. */
export async function openStream(
  path: string,
  { method = "GET", headers = {}, onFinished = onTestFinished }: StreamOptions = {},
): Promise<EventStream> {
  const stopping = new AbortController();
  onFinished(() => stopping.abort());
  const sent = new Headers({ "x-agent-token": inject("token") });
  for (const [name, value] of Object.entries(headers)) {
    if (value === null) sent.delete(name);
    else sent.set(name, value);
  }
  const url = inject("baseUrl") + path;
  return new EventStream(
    await inTime(fetch(url, { method, headers: sent, signal: stopping.signal }), "answer"),
  );
}

/** The same URL as a WebSocket. */
export class SocketStream {
  readonly #socket: WebSocket;
  readonly #texts: string[] = [];
  #news = Promise.withResolvers<void>();
  /** Resolves when the socket is closed, with why. */
  readonly closed: Promise<{ code: number; reason: string; wasClean: boolean }>;
  #isClosed = false;

  constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      this.#texts.push(String(data));
      this.#tell();
    });
    this.closed = new Promise((resolve) => {
      socket.addEventListener("close", ({ code, reason, wasClean }) => {
        this.#isClosed = true;
        this.#tell();
        resolve({ code, reason, wasClean });
      });
    });
  }

  /** The next message; null when the socket was closed behind the last one. */
  async message(): Promise<string | null> {
    for (;;) {
      const text = this.#texts.shift();
      if (text !== undefined) return text;
      if (this.#isClosed) return null;
      await inTime(this.#news.promise, "message");
    }
  }

  /** So many messages. */
  async messages(count: number): Promise<string[]> {
    const texts: string[] = [];
    while (texts.length < count) {
      const text = await this.message();
      if (text === null) throw new Error(`the socket was closed after ${texts.length} of ${count} messages`);
      texts.push(text);
    }
    return texts;
  }

  send(text: string): void {
    this.#socket.send(text);
  }

  close(code?: number): void {
    this.#socket.close(code);
  }

  #tell(): void {
    const news = this.#news;
    this.#news = Promise.withResolvers<void>();
    news.resolve();
  }
}

/** Opens a stream as a WebSocket, with the credential. It is closed when the test has ended. */
export async function openSocket(
  path: string,
  { headers = {}, onFinished = onTestFinished }: StreamOptions = {},
): Promise<SocketStream> {
  const url = inject("baseUrl").replace(/^http/, "ws") + path;
  const sent = Object.entries({ "x-agent-token": inject("token"), ...headers }).filter(
    (header): header is [string, string] => header[1] !== null,
  );
  const socket = new WebSocket(url, { headers: Object.fromEntries(sent) });
  onFinished(() => socket.close());
  const stream = new SocketStream(socket);
  const opened = new Promise<void>((resolve, reject) => {
    socket.addEventListener("open", () => resolve());
    socket.addEventListener("error", ({ error }) => reject(new Error(`no socket: ${error}`)));
  });
  await inTime(opened, "socket");
  return stream;
}

/** What a request to upgrade is answered when it is not upgraded; status 101 and no text when it is. */
export async function upgradeAnswer(
  path: string,
  headers: HeaderChanges = {},
): Promise<{ status: number; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; text: string }>();
  const sent = { "x-agent-token": inject("token"), ...headers };
  const asking = request(inject("baseUrl") + path, {
    headers: {
      ...Object.fromEntries(Object.entries(sent).filter(([, value]) => value !== null)),
      connection: "upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    },
  });
  asking.on("upgrade", (_response, socket) => {
    socket.destroy();
    resolve({ status: 101, text: "" });
  });
  asking.on("response", (response) => {
    let text = "";
    response.setEncoding("utf8");
    response.on("data", (chunk: string) => {
      text += chunk;
    });
    response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
  });
  asking.on("error", reject);
  asking.end();
  return inTime(promise, "answer");
}

/** A workspace as runs have it. */
export function workspaceAt(path: string) {
  return { workspace_id: "w", canonical_path: path, lease_epoch: 0 };
}

/** A run of a workspace. */
export function newRunAt(path: string, door: "/context" | "/v1" = "/context"): Promise<RunRoutes> {
  return newRun({ workspace: workspaceAt(path) }, door);
}

/** Appends an event and answers it. */
export async function note(run: RunRoutes, fields: Record<string, unknown> = {}): Promise<EventRecord> {
  return must(await routes(run.id).post("/events", { type: "note", status: "running", ...fields })).event;
}

/** Makes a commit that has a patch. */
export async function summarise(run: RunRoutes, text: string): Promise<Patch> {
  const body = { op: "set_rolling_summary", payload: text };
  return must(await routes(run.id).post("/blackboard/patches", body)).patch;
}

/** Events 1 to 6 with patches at 2, 4 and 6. */
export async function addSix(run: RunRoutes): Promise<void> {
  for (const n of [1, 2, 3]) {
    await note(run, { type: `note-${n}` });
    await summarise(run, `${n}`);
  }
}
