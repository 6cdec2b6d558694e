import { Client } from "undici";

/** An answer, read to its end. */
export interface Reply {
  status: number;
  text: string;
  /** From sending to the last byte, in milliseconds. */
  elapsedMs: number;
}

/**
 * One kept-alive connection that carries one request at a time. It speaks undici's low-level client, because the load
 * shares the machine with the server it loads.
 */
export class Connection {
  readonly #client: Client;
  readonly #token: string;

  constructor(origin: string, token: string) {
    this.#client = new Client(origin, { pipelining: 1 });
    this.#token = token;
  }

  get(path: string): Promise<Reply> {
    return this.#send("GET", path, null);
  }

  /** @param body JSON text */
  post(path: string, body: string): Promise<Reply> {
    return this.#send("POST", path, body);
  }

  /** Posts a value and gives the parsed answer. @throws Error when the answer is not a success */
  async call<T>(path: string, body: unknown): Promise<T> {
    const reply = await this.post(path, JSON.stringify(body));
    return JSON.parse(accepted(path, reply).text) as T;
  }

  /** Gives the parsed answer. @throws Error when it is not a success */
  async read<T>(path: string): Promise<T> {
    return JSON.parse(accepted(path, await this.get(path)).text) as T;
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  #send(method: "GET" | "POST", path: string, body: string | null): Promise<Reply> {
    const headers = { authorization: `Bearer ${this.#token}`, "content-type": "application/json" };
    return new Promise((resolve, reject) => {
      const chunks: Buffer[] = [];
      let status = 0;
      const startedMs = performance.now();
      this.#client.dispatch(
        { method, path, headers, body },
        {
          onRequestStart: () => undefined,
          onResponseStart: (_controller, statusCode) => {
            status = statusCode;
          },
          onResponseData: (_controller, chunk) => {
            chunks.push(chunk);
          },
          onResponseEnd: () => {
            const elapsedMs = performance.now() - startedMs;
            resolve({ status, text: Buffer.concat(chunks).toString("utf8"), elapsedMs });
          },
          onResponseError: (_controller, error) => reject(error),
        },
      );
    });
  }
}

/** The reply, which must be a success: what is not done must not be counted as done. @throws Error */
export function accepted(path: string, reply: Reply): Reply {
  if (reply.status >= 200 && reply.status < 300) return reply;
  throw new Error(`${path} was answered ${reply.status}: ${reply.text.slice(0, 500)}`);
}

/** Opens that many connections, runs `use`, and closes them. */
export async function withConnections<T>(
  target: { url: string; token: string },
  count: number,
  use: (connections: Connection[]) => Promise<T>,
): Promise<T> {
  const connections = Array.from({ length: count }, () => new Connection(target.url, target.token));
  try {
    return await use(connections);
  } finally {
    await Promise.all(connections.map((connection) => connection.close()));
  }
}
