import * as http from "node:http";
import * as https from "node:https";
import { performance } from "node:perf_hooks";

/** One answer of the server. */
export interface Answer {
  readonly status: number;
  /** Parsed JSON; undefined when the body was not JSON. */
  readonly body: unknown;
  /** The server said this repeats an earlier answer (`Idempotency-Replayed: true`). */
  readonly replayed: boolean;
  /** From sending to the last byte, in milliseconds. */
  readonly elapsedMs: number;
}

export interface Request {
  readonly method: "GET" | "POST";
  /** From `/v1` on, query included. */
  readonly path: string;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Sent as `Idempotency-Key`. */
  readonly commandId?: string;
}

/** No answer came: the connection failed, or the time was over. The command may or may not have been worked. */
export class NoAnswer extends Error {
  override readonly name = "NoAnswer";
}

export interface Api {
  /** Sends one request and reads its answer, whatever the status. Throws {@link NoAnswer}. */
  send(request: Request): Promise<Answer>;
  /** Sends one request and destroys the connection `afterMs` milliseconds later, answer or not. Never throws. */
  cut(request: Request, afterMs: number): Promise<void>;
  /** Closes all connections. */
  close(): void;
}

const answerTimeoutMs = 60_000;

/**
 * A client as thin as can be. It speaks node:http rather than fetch, because fetch costs about five times the processor
 * time per request, and the drill shares its machine with the server it drives.
 *
 * @param options.baseUrl `http:` or `https:` URL of the deployment
 * @param options.connections how many connections are kept open at most
 */
export function createApi(options: {
  readonly baseUrl: string;
  readonly token: string;
  readonly connections: number;
}): Api {
  const base = new URL(options.baseUrl);
  const secure = base.protocol === "https:";
  const agentOptions = { keepAlive: true, maxSockets: options.connections, noDelay: true };
  const agent = secure ? new https.Agent(agentOptions) : new http.Agent(agentOptions);
  const open = secure ? https.request : http.request;
  const prefix = base.pathname.replace(/\/$/, "");

  function start(request: Request): { outgoing: http.ClientRequest; text: string | undefined } {
    const text = request.body === undefined ? undefined : JSON.stringify(request.body);
    const outgoing = open({
      agent,
      hostname: base.hostname.replace(/^\[|\]$/g, ""),
      port: base.port,
      method: request.method,
      path: prefix + request.path,
      headers: {
        accept: "application/json",
        authorization: `Bearer ${options.token}`,
        ...(text === undefined
          ? {}
          : { "content-type": "application/json", "content-length": Buffer.byteLength(text) }),
        ...(request.commandId === undefined ? {} : { "idempotency-key": request.commandId }),
      },
    });
    return { outgoing, text };
  }

  function send(request: Request): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const startedMs = performance.now();
      const { outgoing, text } = start(request);
      const fail = (error: Error): void =>
        reject(new NoAnswer(`${request.method} ${request.path}: ${error.message}`, { cause: error }));
      outgoing.on("error", fail);
      outgoing.setTimeout(answerTimeoutMs, () =>
        outgoing.destroy(new Error(`no answer in ${answerTimeoutMs} ms`)),
      );
      outgoing.on("response", (incoming) => {
        const chunks: Buffer[] = [];
        incoming.on("error", fail);
        incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
        incoming.on("end", () =>
          resolve({
            status: incoming.statusCode ?? 0,
            body: parseJson(Buffer.concat(chunks).toString("utf8")),
            replayed: incoming.headers["idempotency-replayed"] === "true",
            elapsedMs: performance.now() - startedMs,
          }),
        );
      });
      outgoing.end(text);
    });
  }

  function cut(request: Request, afterMs: number): Promise<void> {
    return new Promise((resolve) => {
      const { outgoing, text } = start(request);
      outgoing.on("error", () => resolve());
      outgoing.on("close", () => resolve());
      outgoing.on("response", (incoming) => incoming.resume());
      // The clock starts when the request has left: a connection still being made would cut nothing.
      outgoing.end(text, () => setTimeout(() => outgoing.destroy(), afterMs));
    });
  }

  return { send, cut, close: () => agent.destroy() };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
