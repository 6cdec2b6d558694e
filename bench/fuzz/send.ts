import * as http from "node:http";
import type { Answered } from "./checks.ts";
import type { Drafted } from "./requests.ts";

/** How long an answer may take, ms. Waits among the requests are a tenth of a second at most. */
export const ANSWER_MS = 10_000;
/** How long a stream is read, ms. */
const STREAM_MS = 40;
const MAX_READ_BYTES = 64 * 1024 * 1024;

type Sendable = Pick<Drafted, "method" | "path" | "headers" | "body">;

/** What a request came to: an answer, or why there is none. */
export type Sent = { readonly answered: Answered; readonly tookMs: number } | { readonly hung: string };

/** Sends requests of one lane, one after the other, over connections that are kept. */
export class Sender {
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 2 });
  readonly #base: URL;
  readonly #lane: number;

  constructor(url: string, lane: number) {
    this.#base = new URL(url);
    this.#lane = lane;
  }

  /** Sends a request; one that is answered by a stream is left after a moment. */
  async send(drafted: Sendable, answerMs = ANSWER_MS): Promise<Sent> {
    const sent = await this.#send(drafted, answerMs);
    // The server may end a connection that is kept just as the next request goes out on it; on a new one it is answered.
    return sent === "ended" ? ((await this.#send(drafted, answerMs, true)) as Sent) : sent;
  }

  async #send(drafted: Sendable, answerMs: number, isAnew = false): Promise<Sent | "ended"> {
    const startedAtMs = performance.now();
    const headers = [["host", this.#base.host], ["x-fuzz-lane", String(this.#lane)], ...drafted.headers];
    if (drafted.headers.some(([name]) => name === "host")) headers.shift();
    if (drafted.body !== null) headers.push(["content-length", String(drafted.body.length)]);
    return await new Promise<Sent | "ended">((resolve) => {
      const request = http.request({
        agent: isAnew ? false : this.#agent,
        host: this.#base.hostname,
        port: this.#base.port,
        method: drafted.method,
        path: drafted.path,
        headers: headers.flat(),
      });
      const patience = setTimeout(() => {
        resolve({ hung: `no answer within ${answerMs} ms` });
        request.destroy();
      }, answerMs);
      const finish = (answered: Answered) => {
        clearTimeout(patience);
        resolve({ answered, tookMs: performance.now() - startedAtMs });
      };
      request.on("error", (error) => {
        clearTimeout(patience);
        resolve(request.reusedSocket ? "ended" : { hung: `the connection broke: ${error.message}` });
      });
      request.on("response", (response) => {
        const isStream = response.headers["content-type"] === "text/event-stream";
        const chunks: Buffer[] = [];
        let length = 0;
        const leave = () => {
          finish(answeredOf(response, isStream ? null : Buffer.concat(chunks)));
          request.destroy();
        };
        if (isStream) setTimeout(leave, STREAM_MS);
        response.on("data", (chunk: Buffer) => {
          length += chunk.length;
          if (length <= MAX_READ_BYTES) chunks.push(chunk);
        });
        response.on("end", () => finish(answeredOf(response, Buffer.concat(chunks))));
        response.on("error", () => finish(answeredOf(response, null)));
      });
      request.end(drafted.body ?? undefined);
    });
  }

  close(): void {
    this.#agent.destroy();
  }
}

function answeredOf(response: http.IncomingMessage, body: Buffer | null): Answered {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(response.headers)) {
    if (value !== undefined) headers[name] = Array.isArray(value) ? value.join(", ") : value;
  }
  const isText = /json|text\/|^$/.test(headers["content-type"] ?? "");
  return {
    status: response.statusCode ?? 0,
    headers,
    text: body === null || !isText ? null : body.toString("utf8"),
    written: writtenIn(headers["x-fuzz-written"]),
  };
}

/** What the watched Worker says was written (bench/raw/fuzz/watched-baton.ts). */
export function writtenIn(header: string | undefined): Record<string, number> {
  return header === undefined ? {} : (JSON.parse(decodeURIComponent(header)) as Record<string, number>);
}

/** The request as a command line that sends it again; `$URL` is the server. */
export function asCurl({ method, path, headers, body }: Sendable): string {
  const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = ["curl -sS -i --path-as-is -X", method, `"$URL"${quoted(path)}`];
  for (const [name, value] of headers) {
    // Tokens are no business of a report; that of a request which has one is `$TOKEN`.
    const isLong = value.length >= 40;
    if (name === "authorization" && isLong) parts.push("-H", `"${name}: Bearer $TOKEN"`);
    else if (name === "x-agent-token" && isLong) parts.push("-H", `"${name}: $TOKEN"`);
    else parts.push("-H", quoted(value === "" ? `${name};` : `${name}: ${value}`));
  }
  if (body === null) return parts.join(" ");
  const text = Buffer.from(body).toString("utf8");
  const isText = Buffer.from(text, "utf8").equals(Buffer.from(body)) && !text.includes("\0");
  if (isText && text.length <= 4_000) return [...parts, "--data-binary", quoted(text)].join(" ");
  const base64 = Buffer.from(body).toString("base64");
  const shown = base64.length > 8_000 ? `${base64.slice(0, 8_000)}…(${body.length} bytes)` : base64;
  return `echo ${shown} | base64 -d | ${[...parts, "--data-binary @-"].join(" ")}`;
}
